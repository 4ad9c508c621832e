"""What the oracle would miss: each field of a saved training is dropped in turn, and each time it notices.

A field is dropped by putting in its place what a fresh agent of another seed has there, zeros for moments and rows.
The state then differs at once. Each field must also be felt, so that nothing is saved in vain: something else must
differ later, in one of the trainings at least.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from resume_cases_sac import EVERYTHING, NEVER, Case, train
from resume_oracle import Trace, compare, same
from run_history import Saved

from entroreg.agents import guarding
from entroreg.agents.engine import compiling

# One thing each, whatever they are made of.
_WHOLE = re.compile(r"\.random\.\w+|\.logged\.\w+|\.counters\.\w+|\.entropy_watch\.\w+")
_NODES = ("array", "scalar", "numbers", "tensor", "random", "mujoco")
# Saved, and yet nothing else depended on it in any of the trainings.
UNFELT = {
    r"param_groups\[0\]\.lr$": "a part of torch's own state, set anew from the schedule before each update",
    r"^\.logged\.name_to_excluded$": "set anew with each value that is logged, before the log is written",
    r"\.env\.attributes\.old_(obs|reward)$": "of VecNormalize, and written by each step before they are read",
}


class Field(NamedTuple):
    """A place in a state, and what it gets when it is dropped."""

    keys: tuple[Any, ...]
    path: str
    value: Any


def fields(saved: Any, fresh: Any, keys: tuple[Any, ...] = (), path: str = "") -> Iterator[Field]:
    """Yield the smallest places at which two states differ."""
    if same(saved, fresh):
        return
    if _WHOLE.fullmatch(path) or not _alike(saved, fresh):
        yield Field(keys, path, fresh)
    elif isinstance(saved, dict):
        for key in saved:
            yield from fields(saved[key], fresh[key], (*keys, key), f"{path}.{key}")
    else:
        for index, (one, other) in enumerate(zip(saved, fresh, strict=True)):
            if isinstance(one, list) and len(one) == 2 and isinstance(one[0], str):  # an item of a dict
                yield from fields(one[1], other[1], (*keys, index, 1), f"{path}.{one[0]}")
            else:
                yield from fields(one, other, (*keys, index), f"{path}[{index}]")


def _alike(saved: Any, fresh: Any) -> bool:
    """Whether two states can be looked at part by part."""
    if type(saved) is not type(fresh) or not isinstance(saved, dict | list | tuple) or len(saved) != len(fresh):
        return False
    return not isinstance(saved, dict) or (saved.keys() == fresh.keys() and saved.get("kind") not in _NODES)


def rows(saved: Saved) -> Iterator[Field]:
    """Yield the tables of the replay buffer; of a packed one its columns."""
    for name, table in saved.tables.items():
        columns = range(table.shape[-1]) if name == "table" else [slice(None)]
        for column in columns:
            zeroed = table.copy()
            zeroed[..., column] = 0
            if not same(table, zeroed):
                yield Field(("tables", name), f"rows of {name}", zeroed)


def dropped(saved: Saved, field: Field) -> Saved:
    """Return a checkpoint without a field."""
    if field.keys[0] == "tables":
        return Saved(saved.content, {**saved.tables, field.keys[1]: field.value})
    return Saved(_replaced(saved.content, ("training", *field.keys), field.value), saved.tables)


def _replaced(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    if not keys:
        return new
    if isinstance(value, dict):
        return {**value, keys[0]: _replaced(value[keys[0]], keys[1:], new)}
    return type(value)(_replaced(part, keys[1:], new) if at == keys[0] else part for at, part in enumerate(value))


def _with_zeros(fresh: Any, saved: Any) -> Any:
    """Return a fresh state whose optimisers have moments of zero where they have none."""
    if isinstance(saved, dict) and isinstance(fresh, dict):
        if "param_groups" in saved:
            return {**fresh, "state": _zeros(saved["state"])}
        return {key: _with_zeros(value, saved.get(key)) for key, value in fresh.items()}
    return fresh


def _zeros(moments: Any) -> Any:
    if isinstance(moments, dict):
        return {key: _zeros(value) for key, value in moments.items()}
    return torch.zeros_like(moments)


class Power:
    """The fields of a training's checkpoint, dropped one at a time."""

    def __init__(self, case: Case, at: int, folder: Path) -> None:
        self._case, self._at, self._folder = case, at, folder
        self._whole: Trace = train(case.make(1), case.steps, folder / "whole", since=at)[0]
        train(case.make(1), case.steps, folder / "saved", since=case.steps, every=at, end=at + 1)
        train(case.make(2), case.steps, folder / "fresh", stop=0)
        self.saved, fresh = (Saved.read(folder / name / "0") for name in ("saved", "fresh"))
        one, other = (found.content["training"] for found in (self.saved, fresh))
        self.fields = [*fields(one, _with_zeros(other, one)), *rows(self.saved)]

    def judge(self, field: Field | None) -> tuple[bool, bool]:
        """Return whether the oracle fails without a field, and whether anything else differs then."""
        saved = self.saved if field is None else dropped(self.saved, field)
        saved.write(self._folder / "dropped" / "0")
        failed = felt = False
        for end in (self._at + 3, NEVER):  # most are felt at once
            try:
                found = train(self._case.make(2), self._case.steps, self._folder / "dropped", resume=True, end=end)
            except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
                return True, True
            differing = self._differing(found[0], end)
            failed = bool(differing)
            felt = any(field is None or not path.startswith(field.path) for path in differing)
            if felt:
                break
        return failed, felt

    def _differing(self, found: Trace, end: int) -> set[str]:
        whole = self._whole.since(self._at)
        if end != NEVER:  # what was seen before the end
            states = {at: state for at, state in whole.states.items() if at in found.states}
            whole, found = Trace(states), Trace(found.states)
        return set(compare(whole, found, self._at).differing)


def _reason(path: str) -> str | None:
    return next((reason for pattern, reason in UNFELT.items() if re.search(pattern, path)), None)


@pytest.fixture(autouse=True)
def _eager_and_watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_update", lambda update, device: update)  # no wait for a compiler
    monkeypatch.setattr(guarding, "EVERY", 3)  # the watch has state early


def test_every_seventh_field(tmp_path: Path) -> None:
    power = Power(EVERYTHING["packed"], 20, tmp_path)
    assert power.judge(None) == (False, False)
    verdicts = {field.path: power.judge(field)[0] for field in power.fields[::7]}
    assert len(verdicts) > 10
    assert all(verdicts.values()), [path for path, failed in verdicts.items() if not failed]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_field(tmp_path: Path) -> None:
    felt: dict[str, bool] = {}
    for name, case in EVERYTHING.items():
        for at in case.stops:
            power = Power(case, int(at), tmp_path / f"{name} {at}")
            assert power.judge(None) == (False, False)
            failures = 0
            for field in power.fields:
                failed, other = power.judge(field)
                failures += failed
                felt[field.path] = felt.get(field.path, False) or other
            print(f"{name}, saved at {at}: {len(power.fields)} fields dropped, {failures} failed", flush=True)
            assert failures == len(power.fields)
    unfelt = {path for path, was in felt.items() if not was}
    print("unfelt:", *sorted(unfelt), sep="\n  ")
    assert {path for path in unfelt if _reason(path) is None} == set()
    assert {pattern for pattern in UNFELT if not any(re.search(pattern, path) for path in unfelt)} == set()
