"""Puts `entroreg.agents.SAC` in the place of SAC in stable_baselines3's own tests, and proves it.

`run.py` loads it with `-p plugin`, before any test module is imported; all of them take their class by
`from stable_baselines3 import SAC`, so that tables keyed by the class follow. The variable ENTROREG_CONFORMANCE
says which update runs: "eager", "engine" (the engine's function from the first update on, not compiled, since each
test makes new agents) or "compiled" (compiled indeed, which takes long).
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

from entroreg.agents import SAC, on_engine
from entroreg.agents.engine import compiling
from entroreg.agents.engine.engine import Engine

UPDATE = os.environ["ENTROREG_CONFORMANCE"]
EXCEPTIONS = Path(__file__).with_name("exceptions.toml")

_calls: Counter[str] = Counter()
_outcomes: Counter[str] = Counter()
_problems: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Replaces the class, chooses its update, and counts the calls of its `train` and of the engine."""
    SAC.train = _counted("train", SAC.train)  # type: ignore[method-assign]
    Engine.update = _counted("engine", Engine.update)  # type: ignore[method-assign]
    if UPDATE != "eager":
        on_engine.ENGINE_STARTS = 0
    if UPDATE == "engine":
        compiling.compile_update = lambda update, device: update  # type: ignore[assignment]
    stable_baselines3.SAC = SAC  # type: ignore[misc]


def _counted(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _calls[name] += 1
        return function(*args, **kwargs)

    return counted


def is_sac_test(item: pytest.Function) -> bool:
    """True for a test of SAC: by its parameter, else by its id, else by what its function's source mentions.

    A test parametrised over algorithm classes is one of SAC where the class is SAC, and only there.
    """
    params = item.callspec.params.values() if hasattr(item, "callspec") else ()
    algorithms = [value for value in params if inspect.isclass(value) and issubclass(value, BaseAlgorithm)]
    if algorithms:
        return SAC in algorithms
    if "sac" in item.name.lower():
        return True
    return re.search(r"\bSAC\b", inspect.getsource(item.function)) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the SAC cases, and marks the known exceptions as tests that must fail."""
    selected = [item for item in items if isinstance(item, pytest.Function) and is_sac_test(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in selected])
    for path in sorted({item.path.name for item in items} - {item.path.name for item in selected}):
        _problems.append(f"{path} has no SAC test left")
    for module in {item.module for item in selected}:
        if module.SAC is not SAC:
            _problems.append(f"{module.__name__} does not use entroreg.agents.SAC")
    _mark_exceptions(selected)
    items[:] = selected


def _mark_exceptions(selected: list[pytest.Function]) -> None:
    rows = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8")).get("exception", [])
    reasons = {row["test"]: row["reason"] for row in rows}
    by_id = {item.nodeid: item for item in selected}
    for test, reason in reasons.items():
        if test in by_id:
            by_id[test].add_marker(pytest.mark.xfail(reason=reason, strict=True))
        else:
            _problems.append(f"{EXCEPTIONS.name} lists {test}, which is no SAC test of this release")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Counts passed, skipped and excepted tests."""
    if hasattr(report, "wasxfail") and report.skipped:
        _outcomes["exceptions"] += 1
    elif report.skipped:
        _outcomes["skipped"] += 1
    elif report.failed:
        _outcomes["failed"] += 1
    elif report.when == "call":
        _outcomes["passed"] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a session in which our class did not train, or whose selection is not what it should be."""
    if session.config.option.collectonly:
        return
    if _calls["train"] == 0:
        _problems.append("entroreg SAC.train never ran: the tests did not use our class")
    if (_calls["engine"] == 0) != (UPDATE == "eager"):
        _problems.append(f"the engine ran {_calls['engine']} times with the update {UPDATE!r}")
    if _problems and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """Prints the proof and, last, the count."""
    print(f"entroreg SAC.train ran {_calls['train']} times, the engine {_calls['engine']} times")
    for problem in _problems:
        print(f"conformance error: {problem}")
    failed = f"{_outcomes['failed']} FAILED, " if _outcomes["failed"] else ""
    print(
        f"conformance, {UPDATE}: {failed}{_outcomes['passed']} passed, {_outcomes['skipped']} skipped, "
        f"{_outcomes['exceptions']} exceptions"
    )
