"""What a training with verifiable rewards says of its policy's entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entroreg import Dual, _checks
from entroreg.agents.rlvr.controls import Control
from entroreg.guards import CollapseWatch, RunawayWatch

_LEFT = 0.1  # of the first entropy; the committed runs keep at least 0.2, whatever controls them
_ADVICE = "hold it by Clip-Cov, KL-Cov or an entropy bonus, or lower the learning rate"


class PolicyWatch:
    """Says once that a policy has spent nearly all of the entropy that it began with, or that its bonus runs away.

    Args:
        control: of the policy's entropy.
    """

    def __init__(self, control: Control) -> None:
        self._bonus = control.bonus if isinstance(control.bonus, Dual) else None
        self._collapse = CollapseWatch(unit="nats a token")
        self._runaway = RunawayWatch(None if self._bonus is None else self._bonus.problem.maximum)
        self._first: float | None = None

    def update(self, step: int, entropy: float) -> None:
        """Take a step's entropy, nats a token; finite."""
        self._first = entropy if self._first is None else self._first
        self._collapse.update(entropy, floor=_LEFT * self._first, at=f"step {step}", advice=_ADVICE)
        if self._bonus is not None:
            violation = self._bonus.problem.current_target() - entropy
            self._runaway.update(float(self._bonus.value), violation=violation, at=f"step {step}")

    def state_dict(self) -> dict[str, Any]:
        """Return what the next reading depends on, as plain data."""
        return {
            "collapse": self._collapse.state_dict(),
            "runaway": self._runaway.state_dict(),
            "first": self._first,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        _checks.require_keys("state of PolicyWatch", state, ("collapse", "runaway", "first"))
        self._collapse.load_state_dict(state["collapse"])
        self._runaway.load_state_dict(state["runaway"])
        self._first = None if state["first"] is None else float(state["first"])
