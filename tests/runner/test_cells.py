from __future__ import annotations

import types
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.benchmarks.cells import Cell, Suite, is_done, read_result, write_result

CELL = Cell("rl", "smoke", "HalfCheetah-v5", "sac", 2)
_NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name not in {".", ".."})


def test_the_folder_tells_all_but_the_preset() -> None:
    assert CELL.folder(Path("runs")) == Path("runs/rl/sac/HalfCheetah-v5/seed-2")
    assert replace(CELL, preset="paper").folder(Path("runs")) == CELL.folder(Path("runs"))


def test_a_slash_makes_no_folder_of_its_own() -> None:
    cell = Cell("a/b", "smoke", "entroreg/Foo-v0", "../c", 0)
    assert cell.folder(Path("runs")) == Path("runs/a%2Fb/..%2Fc/entroreg%2FFoo-v0/seed-0")


@given(_NAMES, _NAMES, _NAMES, st.integers(0, 10**9))
def test_any_name_is_one_folder_below_the_root(suite: str, method: str, task: str, seed: int) -> None:
    folder = Cell(suite, "p", task, method, seed).folder(Path("runs"))
    assert len(folder.parts) == 5
    assert folder.resolve().relative_to(Path("runs").resolve()).parts == folder.parts[1:]
    assert all(part.isascii() and part.isprintable() and not set(part) & set('\\:*?"<>|') for part in folder.parts)


@given(_NAMES, _NAMES)
def test_different_tasks_have_different_folders(one: str, other: str) -> None:
    folders = {Cell("s", "p", task, "m", 0).folder(Path("r")) for task in (one, other)}
    assert len(folders) == len({one, other})


def test_plain_names_stay_as_they_are() -> None:
    name = "Half Cheetah-v5_(x+y),a=1@2~.z"
    assert replace(CELL, task=name).folder(Path("runs")).parts[3] == name


@pytest.mark.parametrize("field", ["suite", "preset", "task", "method"])
@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_are_no_folder_are_refused(field: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must be a name, got '{name}': it becomes a folder's$"):
        Cell(**{**asdict(CELL), field: name})
    with pytest.raises(TypeError, match=rf"^{field} must be a str, got int: use str\({field}\)$"):
        Cell(**{**asdict(CELL), field: 1})


@pytest.mark.parametrize(
    ("seed", "kind", "message"),
    [
        (-1, ValueError, "seed must be at least 0, got -1"),
        (True, TypeError, "seed must be an int, got bool"),
        (1.0, TypeError, "seed must be an int, got float"),
    ],
)
def test_a_seed_counts_from_zero(seed: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        replace(CELL, seed=seed)


def test_a_cell_is_a_frozen_value() -> None:
    assert replace(CELL) == CELL
    assert len({CELL, replace(CELL), replace(CELL, seed=3)}) == 2
    with pytest.raises(FrozenInstanceError):
        CELL.seed = 4  # type: ignore[misc]


def test_the_result_marks_the_cell_as_done(tmp_path: Path) -> None:
    assert not is_done(tmp_path)
    assert not is_done(tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        read_result(tmp_path)
    write_result(tmp_path, {"score": 1.5, "curve": [1, 2]})
    assert is_done(tmp_path)
    assert read_result(tmp_path) == {"score": 1.5, "curve": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_result_that_cannot_be_written_leaves_the_cell_undone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"value\.score must be finite, got nan"):
        write_result(tmp_path, {"score": float("nan")})
    with pytest.raises(TypeError, match="result must be a mapping, got list: pass a dict"):
        write_result(tmp_path, [1])  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "got"), [("{", "Expecting"), ("[1]", "a list")])
def test_a_damaged_result_is_named(tmp_path: Path, text: str, got: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=rf"result\.json must hold a JSON object, got {got}.*: remove it and run"):
        read_result(tmp_path)


def test_a_module_is_a_suite(tmp_path: Path) -> None:
    module = types.ModuleType("toy")
    module.cells = lambda preset: [replace(CELL, preset=preset)]  # type: ignore[attr-defined]
    module.run = lambda cell, folder: write_result(folder, {"seed": cell.seed})  # type: ignore[attr-defined]
    suite: Suite = module
    (cell,) = suite.cells("small")
    suite.run(cell, tmp_path)
    assert read_result(tmp_path) == {"seed": 2}
