"""What an agent refuses to learn from, and what it says of its entropy while it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg import _checks
from entroreg.controllers.dual import DualProblem
from entroreg.guards import CollapseWatch, RunawayWatch, require_finite

EVERY = 500  # updates between two readings of entropy and alpha

_ENVIRONMENT = "no update has used it; look at the environment, or at what wraps it"
_POLICY = "look at the weights that were loaded, at the action noise, or at the size of the observations"
_STATE = "load the last good checkpoint, and lower the learning rate"
_UPDATE = "look at the rewards and observations of the last steps, or lower the learning rate"
_SIZE = "look at the size of the observations, and scale them"

Observations = NDArray[Any] | Mapping[str, NDArray[Any]]


def require_finite_start(agent: Any) -> None:
    """Refuse an agent's present observations, which a reset has returned, with NaN or infinity.

    Args:
        agent: SAC or DiscreteSAC.

    Raises:
        FloatingPointError: a component is not finite; the environment is named.
    """
    first = agent._last_obs if agent._vec_normalize_env is None else agent._last_original_obs
    _require_finite_observations(first, agent.num_timesteps)


def require_finite_transition(
    agent: Any,
    observations: Observations,
    rewards: NDArray[Any],
    dones: NDArray[Any],
    infos: Sequence[Mapping[str, Any]],
) -> None:
    """Refuse what n environments have returned, before any of it is stored.

    Args:
        agent: SAC or DiscreteSAC.
        observations: the next ones (n, ...), or a dict of them.
        rewards: (n,).
        dones: (n,).
        infos: n, with the last observations of the episodes that have ended.

    Raises:
        FloatingPointError: a number is not finite.
    """
    step, normalized = agent.num_timesteps, agent._vec_normalize_env
    if normalized is not None:  # which clips, so that infinity would not be seen
        observations, rewards = normalized.get_original_obs(), normalized.get_original_reward()
    _require_finite_observations(observations, step)
    _require_finite_rows("reward", rewards, step)
    for index, done in enumerate(dones):
        last = infos[index].get("terminal_observation") if done else None
        if last is not None:
            named = last.items() if isinstance(last, Mapping) else [("", last)]
            for key, values in named:
                quantity = f"last observation {key!r}" if key else "last observation"
                _require_finite_of(quantity, index, np.asarray(values), step)


def require_finite_actions(actions: NDArray[Any], step: int) -> None:
    """Refuse actions (n, ...) with NaN or infinity, before an environment gets them."""
    _require_finite_rows("action", actions, step, advice=_POLICY)


def require_finite_learned(agent: Any) -> None:
    """Refuse an agent whose parameters, moments or alpha are not finite.

    Args:
        agent: SAC or DiscreteSAC.

    Raises:
        FloatingPointError: a tensor is not finite; it is named.
    """
    at = f"update {agent._n_updates}"
    for name, parameter in agent.policy.named_parameters():
        require_finite(f"parameter {name}", parameter.detach(), at=at, advice=_STATE)
    optimizers = {
        "actor": agent.actor.optimizer,
        "critic": agent.critic.optimizer,
        "alpha": agent.ent_coef_optimizer,
    }
    for name, optimizer in optimizers.items():
        for entry in () if optimizer is None else optimizer.state.values():
            for key, value in entry.items():
                require_finite(f"{key} of the {name}'s optimiser", value, at=at, advice=_STATE)
    if agent.log_ent_coef is not None:
        require_finite("log alpha", agent.log_ent_coef.detach(), at=at, advice=_STATE)


def finite_rows(names: Sequence[str], rows: Sequence[Tensor], first_update: int) -> list[list[float]]:
    """Return the metrics of some updates as numbers.

    Args:
        names: n, in the order of causes.
        rows: for each update (n,).
        first_update: count of the first one.

    Raises:
        FloatingPointError: a metric is not finite; the first is named.
    """
    # One transfer for all metrics, so that a GPU is waited for once per call.
    numbers: list[list[float]] = torch.stack(list(rows)).tolist() if len(rows) > 1 else [r.tolist() for r in rows]
    for update, row in enumerate(numbers, start=first_update):
        for name, value in zip(names, row, strict=True):
            if not math.isfinite(value):
                require_finite(name, value, at=f"update {update}", advice=_UPDATE)
    return numbers


@torch.no_grad()
def name_what_is_not_finite(agent: Any, observations: Any) -> None:
    """Look for what is not finite in an agent, then in what its policy says of observations.

    Args:
        agent: SAC or DiscreteSAC, which torch has just refused to act or learn with.
        observations: tensor, or a dict of them.

    Raises:
        FloatingPointError: something is not finite; it is named.
    """
    agent.require_finite_state()
    for name, values in agent.policy_outputs(observations).items():
        require_finite(f"{name} of the policy", values, at=f"update {agent._n_updates}", advice=_SIZE)


class EntropyWatch:
    """Looks at an agent's entropy and alpha every 500 updates and says once what goes wrong with them.

    It sees numbers that have been read already, and changes nothing in the training.

    Args:
        floor_of: from the target that entropy is held above, or None, to the entropy that counts as collapsed.
        problem: of the dual controller; None for another one.

    Attributes:
        whose: added to the time in messages, such as " of member 0".
        due: updates from which on the next reading is taken.
    """

    def __init__(self, floor_of: Callable[[float | None], float], problem: DualProblem | None) -> None:
        self._floor_of, self._problem = floor_of, problem
        self._collapse = CollapseWatch()
        self._runaway = RunawayWatch(None if problem is None else problem.maximum)
        self.due = EVERY
        self.whose = ""

    def update(self, updates: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of the last update; most are passed over.

        Args:
            updates: done.
            metrics: finite, with ``entropy`` and ``alpha`` where they are known.
        """
        if updates < self.due:
            return
        self.due = updates - updates % EVERY + EVERY
        alpha, entropy = metrics.get("alpha"), metrics.get("entropy")
        if entropy is None or alpha is None or alpha == 0.0:  # alpha 0: nobody asks for entropy
            return
        at = f"update {updates}{self.whose}"
        if self._problem is None:
            advice = f"raise ent_coef, {alpha:.3g} now, or let 'auto' hold a target"
            self._collapse.update(entropy, floor=self._floor_of(None), at=at, advice=advice)
            return
        lower, target = self._problem.bound == "lower", metrics["target_entropy"]
        floor = self._floor_of(target if lower else None)
        self._collapse.update(entropy, floor=floor, at=at, advice=self._advice(alpha, target))
        self._runaway.update(alpha, violation=target - entropy if lower else entropy - target, at=at)

    def _advice(self, alpha: float, target: float) -> str:
        assert self._problem is not None
        lowest = self._problem.limits[0]
        if target <= lowest:
            return (
                f"the target entropy, {target:.3g}, is one that every policy is above, so alpha, {alpha:.3g} now, "
                "only falls: use target_entropy='auto'"
            )
        return (
            f"alpha, {alpha:.3g} now, does not hold the target of {target:.3g}: raise its learning rate or its "
            "maximum, or begin with a larger one"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what the next reading depends on, as plain data."""
        return {"collapse": self._collapse.state_dict(), "runaway": self._runaway.state_dict(), "due": self.due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        _checks.require_keys("state of EntropyWatch", state, ("collapse", "runaway", "due"))
        self._collapse.load_state_dict(state["collapse"])
        self._runaway.load_state_dict(state["runaway"])
        self.due = int(state["due"])


def _require_finite_observations(observations: Observations, step: int) -> None:
    if isinstance(observations, Mapping):
        for key, values in observations.items():
            _require_finite_rows(f"observation {key!r}", values, step)
    else:
        _require_finite_rows("observation", observations, step)


def _require_finite_rows(name: str, values: NDArray[Any], step: int, advice: str = _ENVIRONMENT) -> None:
    # One look at all environments; which one it was is found out only where there is something to say.
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        for index, row in enumerate(values):
            _require_finite_of(name, index, row, step, advice)


def _require_finite_of(name: str, index: int, values: Any, step: int, advice: str = _ENVIRONMENT) -> None:
    require_finite(f"{name} of environment {index}", values, at=f"environment step {step}", advice=advice)
