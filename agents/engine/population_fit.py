"""Which agents can be updated as one: those that the engine takes, alike in all that shapes an update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from entroreg.agents.engine.eligibility import why_not_sac
from entroreg.controllers import Dual, Fixed

_COUNTS = (
    "n_envs",
    "batch_size",
    "train_freq",
    "gradient_steps",
    "learning_starts",
    "target_update_interval",
    "entropy_backup",
    "num_timesteps",
)


def why_not_population(agents: Sequence[Any], names: Sequence[str]) -> str | None:
    """Return why some agents cannot be updated as one, or None where they can.

    Args:
        agents: SAC, set up.
        names: of the agents, for the answer.
    """
    first = _likeness(agents[0])
    for agent, name in zip(agents, names, strict=True):
        if not isinstance(agent.controller, Dual | Fixed):
            kind = type(agent.controller).__name__
            return f"{name} cannot be updated as part of a population: its controller is {kind}, not Dual or Fixed"
        reason = why_not_sac(agent)
        if reason is not None:
            return f"{name} cannot be updated as part of a population: {reason}"
        for what, value in _likeness(agent).items():
            if value != first[what]:
                return f"members must agree in {what}, got {first[what]} in {names[0]} and {value} in {name}"
    if agents[0].train_freq.unit is not TrainFrequencyUnit.STEP:
        return "train_freq must count steps in a population, not episodes, which end at different times"
    return None


def _likeness(agent: Any) -> dict[str, Any]:
    alike = {name: getattr(agent, name) for name in _COUNTS}
    alike["shapes"] = [(tuple(p.shape), p.dtype) for p in agent.policy.parameters()]
    alike["kind of controller"] = type(agent.controller).__name__
    if isinstance(agent.controller, Dual):
        controller = agent.controller
        alike["kind of dual"] = (controller.problem.bound, controller.problem.loss, controller.log_alpha.dtype)
    return alike
