"""Soft actor-critic, interchangeable with Stable-Baselines3's."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, GymEnv, ReplayBufferSamples, Schedule
from stable_baselines3.sac import SAC as StableBaselines3SAC
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor

from entroreg import measures
from entroreg.agents import losses, numpy_actor, packed_replay
from entroreg.agents.actor_mirror import ActorMirror
from entroreg.agents.controller_state import AnyController
from entroreg.agents.engine.eligibility import why_not_own, why_not_sac
from entroreg.agents.engine.engine import CannotCompileError
from entroreg.agents.engine.sac_engine import SACEngine, can_launch
from entroreg.agents.gradient_step import optimizer_step
from entroreg.agents.guarding import require_finite_actions
from entroreg.agents.on_engine import OnEngine
from entroreg.controllers import Target
from entroreg.guards import gaussian_floor

_LAUNCHED_UNREAD = 100  # updates after which a GPU is waited for, to stop soon after a loss became NaN


class SAC(OnEngine, StableBaselines3SAC):
    r"""SAC with any entropy controller of the core; everything else is ``stable_baselines3.SAC``.

    $$\max_\pi \mathbb{E} \sum_t r_t \quad \text{s.t.} \quad \mathbb{E}[-\log\pi(a_t|s_t)] \ge \bar H$$

    The log-probability is the policy's on [-1, 1]^d, as in Stable-Baselines3: it ignores the scale of the
    environment's actions. Targets are refused from d log 2 on, the entropy of the uniform policy there.

    Args:
        policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class.
        env: environment, vector of environments, or registered name.
        ent_coef: "auto", "auto_<initial>", a number, or a controller: ``Dual`` with its own target (a number or a
            schedule), clamps and learning rate, ``PerStateDual``,
            ``FromObservation``, ``Fixed``, ``Scheduled``.
        target_entropy: for "auto": "auto" (-d), a number, or a function of the update count, in nats.
        entropy_backup: whether the Bellman target contains the entropy of the next state.
        engine: "auto" compiles the update once an agent has taken ``engine_starts`` updates (5,000), so that short
            runs never wait for a compiler; "compiled" does so at once; "eager" never, and is bit for bit
            Stable-Baselines3's update. Where the engine cannot take a policy, the log says why.
        kwargs: all other arguments of ``stable_baselines3.SAC``, with its defaults.

    Raises:
        TypeError: ent_coef of a wrong kind.
        ValueError: a target that no policy can reach, a negative coefficient, an unknown word.

    Example:
        >>> from entroreg import Dual
        >>> agent = SAC("MlpPolicy", "Pendulum-v1", ent_coef=Dual(target=-1.0, initial=0.2, maximum=0.5))
        >>> agent.learn(200).predict(agent.observation_space.sample())[0].shape
        (1,)

    Reference:
        Haarnoja et al. (2018), "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905.
    """

    _engine: SACEngine

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | AnyController = "auto",
        target_update_interval: int = 1,
        target_entropy: str | Target = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        entropy_backup: bool = True,
        engine: str = "auto",
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            use_sde_at_warmup=use_sde_at_warmup,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.entropy_backup = entropy_backup
        self._request_engine(engine, SACEngine())
        self._launched: list[tuple[tuple[str, ...], Tensor]] = []
        self._request_ent_coef(ent_coef, target_entropy)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_engine()
        requested, target = self.ent_coef, self.target_entropy
        own_buffer = self.replay_buffer_class is None
        # Stable-Baselines3 would call float() on a controller or a schedule: it sees values of its own kind.
        self.ent_coef, self.target_entropy = "auto", 0.0
        super()._setup_model()
        dimensions = get_action_dim(self.action_space)
        limits = (-math.inf, measures.max_tanh_entropy(dimensions))
        self._bind_ent_coef(requested, target, default_target=-float(dimensions), limits=limits)
        self._numpy_actor: numpy_actor.NumpyActor | None = None
        self._mirror: ActorMirror | None = None
        if self.engine == "eager":
            return
        if own_buffer and packed_replay.can_pack(self.replay_buffer):
            self.replay_buffer_class = None  # for the zip: one that names ours would not load without entroreg
            self.replay_buffer = packed_replay.PackedReplayBuffer.like(self.replay_buffer)  # type: ignore[arg-type]
        usual = numpy_actor.asks_its_actor(self.policy) and type(self).predict is SAC.predict
        if usual and numpy_actor.can_run(self.actor) and self.n_envs <= numpy_actor.LARGEST_BATCH:
            if self.device.type == "cuda":
                self._mirror = ActorMirror(self.actor)
            elif self.device.type == "cpu":
                self._numpy_actor = numpy_actor.NumpyActor(self.actor)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self.refresh_actor()
        return super()._setup_learn(*args, **kwargs)

    def refresh_actor(self) -> None:
        """Bring the host's copy of an actor on a GPU up to date, after its parameters were loaded."""
        if self._mirror is not None:
            self._mirror.push_now()

    def learn(self, *args: Any, **kwargs: Any) -> Self:
        """Train for a number of environment steps; the arguments are Stable-Baselines3's."""
        super().learn(*args, **kwargs)
        self.finish_updates()
        return self

    def dump_logs(self) -> None:
        """Write log data."""
        self.finish_updates()
        super().dump_logs()

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        actor = self._numpy_actor if self._mirror is None else self._mirror.actor()
        if actor is None or self.num_timesteps < learning_starts or action_noise is not None:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        actions = actor.sample(self._last_obs)  # type: ignore[arg-type]
        require_finite_actions(actions, self.num_timesteps)
        actions = actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        return self.policy.unscale_action(actions), actions

    def _take_updates(self, gradient_steps: int, batch_size: int) -> tuple[tuple[str, ...], list[Tensor]]:
        if not self._engine_is_on() or not can_launch(self):
            return super()._take_updates(gradient_steps, batch_size)
        taus = [self.tau * self._moves_targets(step) for step in range(gradient_steps)]
        try:
            names, rows = self._engine.launch(self, batch_size, taus)
        except CannotCompileError as error:
            self._leave_engine(error)
            return super()._take_updates(gradient_steps, batch_size)
        if self._mirror is not None:
            self._mirror.push()
        self._launched += [(names, row) for row in rows.unbind()]
        return (), list(rows.unbind())

    def _log_update(self, names: tuple[str, ...], rows: list[Tensor]) -> None:
        if not self._launched:
            super()._log_update(names, rows)
        elif len(self._launched) >= _LAUNCHED_UNREAD:
            self.finish_updates()

    def finish_updates(self) -> None:
        """Wait for the updates that a GPU was given, check them and record their metrics."""
        launched, self._launched = self._launched, []
        if launched:
            super()._log_update(launched[0][0], [row for _, row in launched])

    def _collapse_floor(self, target: float | None) -> float:
        return gaussian_floor(get_action_dim(self.action_space), target)

    def policy_outputs(self, observations: Any) -> dict[str, Tensor]:
        """Return mean and log standard deviation (B, A) of the Gaussian under the tanh."""
        mean, log_std, _ = self.actor.get_action_dist_params(observations)
        return {"mean": mean, "log standard deviation": log_std}

    def _why_not_engine(self) -> str | None:
        return why_not_own(self, SAC, _IN_THE_ENGINE) or why_not_sac(self)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_NOT_SAVED]

    def _update(self, batch: ReplayBufferSamples | DictReplayBufferSamples) -> dict[str, Tensor]:
        """Update alpha, critics and actor once, in Stable-Baselines3's order of random draws."""
        actions_pi, log_probs = self.actor.action_log_prob(batch.observations)
        log_probs = log_probs.reshape(-1, 1)
        entropy_bound = self._entropy_bound()
        # alpha is read before its own step: critic and actor use the same one.
        alpha = self._alpha_at(batch.observations)
        next_alpha = alpha if alpha.dim() == 0 else self._alpha_at(batch.next_observations)
        metrics = self._update_controller(measures.pathwise_entropy(log_probs.detach()), batch.observations)

        target = self._critic_target(batch, next_alpha)
        q_loss = losses.critic_loss(self.critic(batch.observations, batch.actions), target)
        q_gradient = optimizer_step(self.critic.optimizer, q_loss)

        q_values, _ = torch.cat(self.critic(batch.observations, actions_pi), dim=1).min(dim=1, keepdim=True)
        pi_loss = losses.actor_loss(log_probs, q_values, alpha)
        pi_gradient = optimizer_step(self.actor.optimizer, pi_loss)
        # In the order of their causes: the first that is not finite is named.
        return {
            **metrics,
            **entropy_bound,
            "critic_loss": q_loss.detach(),
            "critic_gradient": q_gradient,
            "actor_loss": pi_loss.detach(),
            "actor_gradient": pi_gradient,
        }

    @torch.no_grad()
    def _critic_target(self, batch: ReplayBufferSamples | DictReplayBufferSamples, next_alpha: Tensor) -> Tensor:
        next_actions, next_log_probs = self.actor.action_log_prob(batch.next_observations)
        next_q = torch.cat(self.critic_target(batch.next_observations, next_actions), dim=1)
        next_values, _ = next_q.min(dim=1, keepdim=True)
        if self.entropy_backup:
            next_values = next_values - next_alpha * next_log_probs.reshape(-1, 1)
        discounts = self.gamma if batch.discounts is None else batch.discounts
        return losses.soft_target(batch.rewards, batch.dones, discounts, next_values)

    @torch.no_grad()
    def _entropy_bound(self) -> dict[str, Tensor]:
        """Return the analytic bound of the policy's entropy, where its base distribution is a Gaussian."""
        base = getattr(getattr(self.actor, "action_dist", None), "distribution", None)
        if not isinstance(base, torch.distributions.Normal):
            return {}
        return {"entropy_bound": measures.tanh_gaussian_entropy_bound(base.scale.log()).mean()}


_IN_THE_ENGINE = ("_update", "_critic_target", "_update_targets", "_entropy_bound")
_NOT_SAVED = ("_launched", "_mirror", "_numpy_actor")
