"""What the agents share whose update may be compiled: when the engine runs, when not, and what is said of it."""

from __future__ import annotations

import logging
import math
import warnings
from abc import abstractmethod
from typing import Any

from torch import Tensor

from entroreg import _checks
from entroreg.agents.engine.engine import CannotCompileError, Engine
from entroreg.agents.entropy_controlled import EntropyControlled

ENGINES = ("auto", "compiled", "eager")
ENGINE_STARTS = 5_000  # updates: about where the time that compiling takes has been saved again
_LOG = logging.getLogger(__name__)


class OnEngine(EntropyControlled):
    """Base of the agents that have an engine.

    Attributes:
        engine: "auto", "compiled" or "eager".
        engine_starts: number of updates from which on "auto" compiles.
        engine_status: which update runs, and why.
    """

    engine: str
    engine_starts: int
    engine_status: str
    _engine: Engine

    def _request_engine(self, engine: str, compiled: Engine) -> None:
        self.engine = engine
        self.engine_starts = ENGINE_STARTS
        self._engine = compiled
        self._engine_fits: bool | None = None

    def _setup_engine(self) -> None:
        _checks.require_choice("engine", self.engine, ENGINES)
        self.engine_status = f"eager until update {self.engine_starts}" if self.engine == "auto" else self.engine

    @property
    def engine_compile_seconds(self) -> float:
        """Seconds spent in compiling the update so far."""
        return self._engine.compile_seconds

    @abstractmethod
    def _why_not_engine(self) -> str | None:
        """Return why the engine cannot take this agent, in words for its log, or None where it can."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._engine_fits = None  # the optimiser or the policy may have been changed since the last call
        return super()._setup_learn(*args, **kwargs)

    def _engine_is_on(self) -> bool:
        starts = {"auto": self.engine_starts, "compiled": 0, "eager": math.inf}[self.engine]
        return self._n_updates >= starts and self._check_engine()

    def _update_once(self, batch: Any, *, move_targets: bool) -> tuple[tuple[str, ...], Tensor]:
        if not self._engine_is_on():
            return super()._update_once(batch, move_targets=move_targets)
        before = self.engine_compile_seconds
        try:
            result = self._engine.update(self, batch, tau=self.tau if move_targets else 0.0)
        except CannotCompileError as error:
            self._leave_engine(error)
            return super()._update_once(batch, move_targets=move_targets)
        if self.engine_compile_seconds > before:
            self.logger.record("time/compile_seconds", self.engine_compile_seconds)
            self._tell_engine(f"compiled in {self.engine_compile_seconds:.1f} s")
        return result

    def _check_engine(self) -> bool:
        """Whether the engine can take this agent; found out once for each ``learn``, and said."""
        if self._engine_fits is None:
            from entroreg.agents.engine.compiling import why_not_compile  # takes seconds to import

            compiler = why_not_compile(self.device.type)
            reason = compiler or self._why_not_engine()
            self._engine_fits = reason is None
            if reason is not None:
                self._tell_engine(f"eager: {reason}")
            if compiler is not None:
                warnings.warn(f"the engine stays eager: {compiler}", stacklevel=2)
        return self._engine_fits

    def _leave_engine(self, error: CannotCompileError) -> None:
        self._engine_fits = False
        self._tell_engine(f"eager: torch cannot compile this policy ({error})")

    def _tell_engine(self, status: str) -> None:
        if status != self.engine_status:
            self.engine_status = status
            _LOG.info("engine: %s", status)
            if self.verbose:
                print(f"engine: {status}")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine", "_engine_fits", "engine_status"]
