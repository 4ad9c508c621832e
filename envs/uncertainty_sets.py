"""The published ranges of physical parameters over which robustness is measured, by task and name."""

from __future__ import annotations

from dataclasses import dataclass

from entroreg import _checks
from entroreg.envs.tasks import DM, unknown


@dataclass(frozen=True)
class Range:
    """The values that one parameter may take."""

    name: str
    """Of the parameter, as ``Perturbed`` takes it."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    def __post_init__(self) -> None:
        _checks.require_number(f"low end of {self.name}", self.low, low=0.0)
        _checks.require_number(f"high end of {self.name}", self.high, low=0.0)
        if self.low > self.high:
            raise ValueError(
                f"the range of {self.name} must not end below its begin, got {self.low} to {self.high}"
            )


@dataclass(frozen=True)
class UncertaintySet:
    """Ranges of one or more parameters of a task.

    Raises:
        ValueError: no range, or two of the same parameter.
    """

    ranges: tuple[Range, ...]
    """Of each parameter."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.ranges]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"an uncertainty set must have ranges of different parameters, got {names}")


def _set(**ranges: tuple[float, float]) -> UncertaintySet:
    return UncertaintySet(tuple(Range(name.replace("__", ":"), *ends) for name, ends in ranges.items()))


def _nested(*ranges: Range) -> dict[str, UncertaintySet]:
    """Return the sets of the first one, two, ... ranges, as they were published."""
    return {f"rrls-{count}": UncertaintySet(ranges[:count]) for count in range(1, len(ranges) + 1)}


# RRLS (Zouitine et al. 2024, arXiv 2406.08406): sets of one to three parameters. Values are absolute.
_RRLS = {
    "Ant-v5": _nested(
        Range("mass:torso", 0.1, 3.0),
        Range("mass:front_left_leg", 0.01, 3.0),
        Range("mass:front_right_leg", 0.01, 3.0),
    ),
    "HalfCheetah-v5": {
        **_nested(Range("friction", 0.1, 4.0), Range("mass:torso", 0.1, 7.0), Range("mass:bthigh", 0.1, 3.0)),
        "rrls-1": UncertaintySet((Range("friction", 0.1, 3.0),)),
    },
    "Hopper-v5": _nested(
        Range("friction:floor", 0.1, 3.0), Range("mass:torso", 0.1, 3.0), Range("mass:thigh", 0.1, 4.0)
    ),
    "Walker2d-v5": _nested(
        Range("friction:floor", 0.1, 4.0), Range("mass:torso", 0.1, 5.0), Range("mass:thigh", 0.1, 6.0)
    ),
    "HumanoidStandup-v5": _nested(
        Range("mass:torso", 0.1, 16.0), Range("mass:right_foot", 0.1, 8.0), Range("mass:left_thigh", 0.1, 5.0)
    ),
    "InvertedPendulum-v5": _nested(Range("mass:pole", 1.0, 31.0), Range("mass:cart", 1.0, 11.0)),
}
# The grids of QARL (Reddi et al. 2024, arXiv 2311.01642), 11 x 11 there.
_QARL = {
    "cheetah-run": _set(mass__torso=(3.0, 9.0), friction=(0.1, 1.9)),
    "hopper-hop": _set(mass__torso=(1.0, 9.0), friction=(0.1, 1.9)),
    "hopper-stand": _set(mass__torso=(1.0, 9.0), friction=(0.1, 1.9)),
    "walker-run": _set(mass__torso=(5.0, 15.0), friction=(0.1, 1.3)),
    "walker-stand": _set(mass__torso=(5.0, 15.0), friction=(0.1, 1.3)),
    "walker-walk": _set(mass__torso=(5.0, 15.0), friction=(0.1, 1.3)),
    "quadruped-run": _set(mass__torso=(65.0, 75.0), friction=(0.95, 1.05)),
    "quadruped-walk": _set(mass__torso=(65.0, 75.0), friction=(0.95, 1.05)),
    "cartpole-balance": _set(mass__pole_1=(1.0, 20.0), mass__cart=(0.5, 1.5)),
    "cartpole-balance_sparse": _set(mass__pole_1=(1.0, 20.0), mass__cart=(0.5, 1.5)),
    "cartpole-swingup": _set(mass__pole_1=(0.05, 0.15), mass__cart=(0.5, 1.5)),
    "pendulum-swingup": _set(mass__pole=(0.5, 1.5)),  # its grid has a second side, for a body that the model lacks
}
SETS = {**_RRLS, **{f"{DM}{task}-v0": {"qarl": one} for task, one in _QARL.items()}}


def find_set(task: str, name: str) -> UncertaintySet:
    """Return a published uncertainty set.

    Args:
        task: id, such as Hopper-v5 or dm_control/walker-walk-v0.
        name: "rrls-1", "rrls-2" or "rrls-3" for tasks of Gymnasium, "qarl" for those of dm_control.

    Raises:
        ValueError: there is none of this name; the nearest are named.
    """
    if task not in SETS:
        raise unknown("task of the uncertainty sets", task, SETS)
    if name not in SETS[task]:
        raise unknown(f"uncertainty set of {task}", name, SETS[task])
    return SETS[task][name]
