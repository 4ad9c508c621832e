"""What SAC and DiscreteSAC share: an entropy controller where Stable-Baselines3 has an entropy coefficient."""

from __future__ import annotations

import io
import warnings
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from entroreg import atomic
from entroreg.agents.controller_state import (
    AnyController,
    PerObservation,
    StoredController,
    append_to_zip,
    describe,
    read_from_zip,
    restore,
)
from entroreg.agents.ent_coef import constant_of, initial_alpha_of, target_of
from entroreg.agents.guarding import (
    EntropyWatch,
    finite_rows,
    name_what_is_not_finite,
    require_finite_actions,
    require_finite_learned,
    require_finite_start,
    require_finite_transition,
)
from entroreg.agents.safe_zip import read_file
from entroreg.agents.safely_loaded import SafelyLoaded
from entroreg.controllers import Dual, Fixed, PerStateDual, Scheduled, Target
from entroreg.controllers.target import target_at


class EntropyControlled(SafelyLoaded):
    """Base of the agents whose ``ent_coef`` is any controller of the core.

    The controller is the only owner of the coefficient. Stable-Baselines3's names (``log_ent_coef``,
    ``ent_coef_optimizer``, ``ent_coef_tensor``) refer to its tensors, so zips, callbacks and
    ``set_parameters`` see what they expect.
    """

    controller: AnyController | None
    entropy_watch: EntropyWatch
    _not_rebuilt: StoredController | None  # what was stored of a controller that holds code, to be saved again
    ent_coef: Any  # what the constructor was given, then Stable-Baselines3's own value
    target_entropy: Any
    log_ent_coef: Tensor | None
    ent_coef_optimizer: torch.optim.Adam | None
    ent_coef_tensor: Tensor
    actor: Any
    critic: Any
    critic_target: Any
    target_update_interval: int
    batch_norm_stats: list[Tensor]
    batch_norm_stats_target: list[Tensor]

    def _request_ent_coef(self, ent_coef: str | float | AnyController, target_entropy: str | Target) -> None:
        """Take the constructor's wishes; ``_bind_ent_coef`` fulfils them once spaces and schedules are known."""
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.controller = None
        self._alpha_follows_learning_rate = True
        self._not_rebuilt = None

    def _bind_ent_coef(
        self, requested: Any, target: str | Target, default_target: float, limits: tuple[float, float]
    ) -> None:
        """Make or take the controller that ``ent_coef`` asks for, in Stable-Baselines3's words or ours.

        Args:
            requested: "auto", "auto_<initial>", a number of at least 0, or a controller.
            target: target entropy in nats for "auto"; "auto" for the default.
            default_target: nats.
            limits: smallest and largest entropy that any policy has, nats.
        """
        self._entropy_limits = limits
        self.target_entropy = target_of(target, default_target)
        if isinstance(requested, AnyController):
            if target != "auto" and isinstance(requested, Dual | PerStateDual):
                raise ValueError(
                    f"target_entropy must stay 'auto' when ent_coef is a {type(requested).__name__}, which has "
                    f"its own target, got {target}"
                )
            self._bind_controller(requested, follows_learning_rate=False)
        elif isinstance(requested, str) and requested.startswith("auto"):
            dual = Dual(self.target_entropy, initial=initial_alpha_of(requested))
            # Not by the constructor, which refuses 0: schedules may begin there.
            dual.optimizer.param_groups[0]["lr"] = float(self.lr_schedule(1.0))
            self._bind_controller(dual, follows_learning_rate=True)
        else:
            self._bind_controller(Fixed(constant_of(requested)), follows_learning_rate=False)

    def _bind_controller(self, controller: AnyController, follows_learning_rate: bool) -> None:
        """Make a controller the owner of the coefficient, and Stable-Baselines3's names refer to its tensors."""
        controller.to(self.device)
        if isinstance(controller, Dual | PerStateDual):
            controller.limit_entropy(*self._entropy_limits)
            self.target_entropy = controller.problem.current_target()
        else:  # never read, but Stable-Baselines3 calls float() on what is saved
            self.target_entropy = target_at(self.target_entropy, 0)
        self.controller, self._not_rebuilt = controller, None
        problem = controller.problem if isinstance(controller, Dual | PerStateDual) else None
        self.entropy_watch = EntropyWatch(self._collapse_floor, problem)
        self._alpha_follows_learning_rate = follows_learning_rate
        if isinstance(controller, Dual):
            self.log_ent_coef, self.ent_coef_optimizer = controller.log_alpha, controller.optimizer
            self.ent_coef = "auto"
        else:
            self.log_ent_coef, self.ent_coef_optimizer = None, None
            self.sync_ent_coef()

    @abstractmethod
    def _collapse_floor(self, target: float | None) -> float:
        """Return the entropy that counts as collapsed, nats, where it is held above a target or above none."""

    def sync_ent_coef(self) -> None:
        """Let Stable-Baselines3's names hold what is constant there: the target and a coefficient not learned."""
        if isinstance(self.controller, Dual | PerStateDual):
            problem = self.controller.problem
            self.target_entropy = target_at(problem.target, problem.step)
        if isinstance(self.controller, Fixed | Scheduled):
            self.ent_coef_tensor = self.controller.value
        elif isinstance(self.controller, PerObservation) and not hasattr(self, "ent_coef_tensor"):
            self.ent_coef_tensor = torch.ones((), device=self.device)
        if not isinstance(self.controller, Dual | None):
            # The shortest number that is this float32: 0.2, not 0.20000000298.
            self.ent_coef = float(str(np.float32(self.ent_coef_tensor.item())))

    def _alpha_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimiser of alpha if it follows the agent's learning-rate schedule."""
        follows = self._alpha_follows_learning_rate and self.ent_coef_optimizer is not None
        return [self.ent_coef_optimizer] if follows else []  # type: ignore[list-item]

    def _alpha_at(self, observations: Any) -> Tensor:
        """Return alpha for a batch of observations, detached: a scalar, or (B, 1) where it is per state."""
        if isinstance(self.controller, PerObservation):
            return self.controller.values(observations).reshape(-1, 1)
        return self.require_controller().value  # type: ignore[union-attr]

    def _update_controller(self, entropy: Tensor, observations: Any) -> dict[str, Tensor]:
        """Take the controller's step and return its metrics."""
        if isinstance(self.controller, PerObservation):
            metrics = self.controller.update(entropy, observations)
            self.ent_coef_tensor = metrics["alpha"]
            return metrics
        return self.require_controller().update(entropy)  # type: ignore[call-arg]

    def require_controller(self) -> AnyController:
        """Return the controller; RuntimeError for an agent that was loaded for prediction only."""
        if self.controller is None:
            raise RuntimeError(
                "this agent was saved with a controller that holds code, which is never stored, so it can only "
                "predict: to train, build the controller again, give it saved_controller_state(path), and pass it "
                "as load(..., ent_coef=controller)"
            )
        return self.controller

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        require_finite_start(self)
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        try:
            actions, stored = super()._sample_action(learning_starts, action_noise, n_envs)
        except (RuntimeError, ValueError):  # torch refuses to draw from NaN: say what became NaN first
            name_what_is_not_finite(self, self.policy.obs_to_tensor(self._last_obs)[0])  # type: ignore[arg-type]
            raise
        require_finite_actions(stored, self.num_timesteps)
        return actions, stored

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        require_finite_transition(self, new_obs, reward, dones, infos)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take gradient steps on batches from the replay buffer.

        Args:
            gradient_steps: number of updates.
            batch_size: transitions per update.

        Raises:
            FloatingPointError: a loss, a gradient or the coefficient became NaN or infinite.
            RuntimeError: the agent was loaded for prediction only.
        """
        self.require_controller()
        self.require_learning_rate()
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer, *self._alpha_optimizers()])
        names, rows = self._take_updates(gradient_steps, batch_size)
        self._n_updates += len(rows)
        self._log_update(names, rows)

    def finish_updates(self) -> None:
        """Wait for updates that a device was given and check them; FloatingPointError names what became NaN."""

    def refresh_actor(self) -> None:
        """Bring copies of the actor that stand in for it up to date, after its parameters were loaded."""

    def _take_updates(self, gradient_steps: int, batch_size: int) -> tuple[tuple[str, ...], list[Tensor]]:
        """Return the names of the metrics and, for each update, their values (n,)."""
        names: tuple[str, ...] = ()
        rows: list[Tensor] = []
        for gradient_step in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            try:
                names, row = self._update_once(batch, move_targets=self._moves_targets(gradient_step))
            except ValueError:  # torch refuses to draw from NaN: say what became NaN first
                finite_rows(names, rows, self._n_updates + 1)
                name_what_is_not_finite(self, batch.observations)
                raise
            rows.append(row)
            if gradient_steps > 1 and self.device.type == "cpu":  # nothing to wait for: no further update is taken
                finite_rows(names, [row], self._n_updates + len(rows))
        return names, rows

    @abstractmethod
    def policy_outputs(self, observations: Any) -> dict[str, Tensor]:
        """Return what actions are drawn by, by name."""

    def require_finite_state(self) -> None:
        """Refuse a state that must not be saved: one that an update has left NaN or infinite.

        Raises:
            FloatingPointError: a parameter, a moment of an optimiser or log alpha is not finite, or an update that
                a GPU was given was not.
        """
        self.finish_updates()
        require_finite_learned(self)

    def _moves_targets(self, gradient_step: int) -> bool:
        return gradient_step % self.target_update_interval == 0

    def _update_once(self, batch: Any, *, move_targets: bool) -> tuple[tuple[str, ...], Tensor]:
        """Update everything once; return the names of the metrics and their values (n,)."""
        if not self.policy.training:
            self.policy.set_training_mode(True)
        if self.use_sde:  # log_std may have changed since the last update
            self.actor.reset_noise()
        metrics = self._update(batch)
        if move_targets:
            self._update_targets()
        return tuple(metrics), torch.stack([v.to(self.device, torch.float32).mean() for v in metrics.values()])

    @abstractmethod
    def _update(self, batch: Any) -> dict[str, Tensor]:
        """Update all networks and the controller once and return the metrics; every agent has its own."""

    def _update_targets(self) -> None:
        """Move the target critics by Polyak averaging; statistics of batch norm are copied, even at tau = 0."""
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def _log_update(self, names: tuple[str, ...], rows: list[Tensor]) -> None:
        """Record the means of the metrics of the last updates under Stable-Baselines3's names."""
        self.sync_ent_coef()
        numbers = finite_rows(names, rows, self._n_updates - len(rows) + 1)
        for name, values in zip(names, zip(*numbers, strict=True), strict=False):
            if name not in CHECKED_ONLY:
                self.logger.record(f"train/{_SB3_NAMES.get(name, name)}", sum(values) / len(values))
        if self._n_updates >= self.entropy_watch.due and numbers:
            self.entropy_watch.update(self._n_updates, dict(zip(names, numbers[-1], strict=True)))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def save(
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save a zip that Stable-Baselines3 and entroreg both load; a file is replaced only by a whole one.

        Args:
            path: file path (".zip" is added where there is no suffix) or binary file object.
            exclude: attributes to leave out, besides the usual ones.
            include: attributes to store although they are usually left out.

        Raises:
            FloatingPointError: as ``require_finite_state``; nothing is written.
        """
        self.require_finite_state()
        stored = self._not_rebuilt
        if self.controller is not None:
            state = self.controller.state_dict()
            stored = StoredController(describe(self.controller), state, self._alpha_follows_learning_rate)
        if stored is not None and stored.description["kind"] in ("PerStateDual", "FromObservation"):
            warnings.warn(
                "a per-state alpha loads in stock Stable-Baselines3 for prediction only: training there would "
                "go on with a constant",
                stacklevel=2,
            )
        buffer = io.BytesIO()
        super().save(buffer, exclude, include)
        if stored is not None:
            append_to_zip(buffer, stored)
        if isinstance(path, str | Path):
            target = Path(path)
            target = target if target.suffix else target.with_name(f"{target.name}.zip")
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(target.resolve(), buffer.getvalue())
        else:
            path.write(buffer.getvalue())

    @classmethod
    def load(
        cls,
        path: str | Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Load an agent from a zip of entroreg or of Stable-Baselines3, without running what it holds.

        Args:
            path: of the zip, or a file object.
            env: environment to train on; None is enough for prediction.
            device: torch device.
            custom_objects: attributes in place of those in the zip, whose own are not read.
            print_system_info: as in Stable-Baselines3.
            force_reset: as in Stable-Baselines3.
            trust: whether to unpickle anything, as Stable-Baselines3 does: this runs code that the zip may hold.
            kwargs: as in Stable-Baselines3. ``ent_coef`` replaces the saved coefficient, state included, and
                ``target_entropy`` the saved target.

        Returns:
            The agent. A controller that held code (a per-state module, a lambda as schedule) is not restored: such
            an agent predicts, and refuses to train unless ``ent_coef`` is given. So does, unless ``learning_rate``
            is given, one whose learning rate was code (a lambda), which is never read without ``trust``.

        Raises:
            UnsafeZipError: the zip is damaged or, without ``trust``, holds code or other classes than the usual.
            ValueError: an argument does not fit the agent.
        """
        requested = kwargs.pop("ent_coef", None)
        file = io.BytesIO(read_file(path, "zip"))
        model = super().load(
            file, env, device, custom_objects, print_system_info, force_reset, trust=trust, **kwargs
        )
        stored = read_from_zip(file)
        if requested is not None:
            own_target = isinstance(requested, AnyController)
            target = kwargs.get("target_entropy", "auto" if own_target else model.target_entropy)
            model._bind_ent_coef(requested, target, model.target_entropy, model._entropy_limits)
        elif stored is not None:
            model._restore_controller(stored, keep_target="target_entropy" not in kwargs)
        return model

    def _restore_controller(self, stored: StoredController, keep_target: bool) -> None:
        description = dict(stored.description)
        if not keep_target and "target" in description:
            description["target"] = self.target_entropy
        controller = restore(description, stored.state)
        if controller is None:
            self.controller, self._not_rebuilt = None, stored
            return
        if not keep_target and isinstance(controller, Dual) and isinstance(self.controller, Dual):
            # It may be a schedule, of which the description holds only the present value.
            controller.problem.target = self.controller.problem.target
        self._bind_controller(controller, stored.follows_learning_rate)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor", "critic", "critic_target", *_NOT_SAVED]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "actor.optimizer", "critic.optimizer"]
        if self.ent_coef_optimizer is None:
            return state_dicts, ["ent_coef_tensor"]
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]


_NOT_SAVED = ("controller", "entropy_watch", "_not_rebuilt", "_entropy_limits", "_alpha_follows_learning_rate")
CHECKED_ONLY = ("critic_gradient", "actor_gradient")  # sums, which say whether all is finite and no more
_SB3_NAMES = {"alpha": "ent_coef", "dual_loss": "ent_coef_loss"}
