from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.atomic import _check_json, fsync_folder, write_bytes, write_json


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    for data in (b"first and longer", b"second", b""):
        write_bytes(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
        assert _names(tmp_path) == ["file"]


def test_a_string_is_a_path(tmp_path: Path) -> None:
    write_bytes(f"{tmp_path}/file", b"x")
    write_json(f"{tmp_path}/json", [1])
    assert _names(tmp_path) == ["file", "json"]


def test_the_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "file", b"x")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(("name", "expected"), [("fsync", b"old"), ("replace", b"old")])
def test_a_failing_step_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: bytes
) -> None:
    write_bytes(tmp_path / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == expected
    assert _names(tmp_path) == ["file"]


def test_ctrl_c_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "file", b"new")
    assert _names(tmp_path) == []


def test_the_data_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder" if is_folder else f"file of {os.fstat(descriptor).st_size}")
        fsync(descriptor)

    def spy_replace(source: str, target: str) -> None:
        steps.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_bytes(tmp_path / "file", b"four")
    assert steps == ["file of 4", "replace", "folder"]


def test_an_unwritable_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file, no folder")
    with pytest.raises(NotADirectoryError):
        write_bytes(tmp_path / "file" / "below", b"x")
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "absent" / "below", {})
    with pytest.raises(NotADirectoryError):
        fsync_folder(tmp_path / "file")


def test_json_is_sorted_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"b": [1, 2.5], "a": None})
    assert (tmp_path / "file").read_text() == '{\n  "a": null,\n  "b": [\n    1,\n    2.5\n  ]\n}\n'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_json_round_trips(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    write_json(path, value)
    assert json.loads(path.read_bytes()) == value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda x: x, "value"),
        (lambda x: {"losses": {"actor": [0.0, x]}}, r"value\.losses\.actor\[1\]"),
        (lambda x: [({"a": 1},), (1, x)], r"value\[1\]\[1\]"),
    ],
)
def test_a_number_that_is_not_finite_is_named(tmp_path: Path, number: float, wrap: Any, where: str) -> None:
    write_json(tmp_path / "file", "old")
    with pytest.raises(ValueError, match=f"^{where} must be finite, got {number}: .* None instead$"):
        write_json(tmp_path / "file", wrap(number))
    assert (tmp_path / "file").read_text() == '"old"\n'
    assert _names(tmp_path) == ["file"]


def test_what_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^value\.a must have string keys, got 1: .* use str\(key\)$"):
        write_json(tmp_path / "file", {"a": {1: 2}})
    with pytest.raises(TypeError, match="set"):
        write_json(tmp_path / "file", {"a": {1, 2}})
    assert _names(tmp_path) == []


@given(_VALUES)
def test_whatever_passes_the_check_can_be_written(value: Any) -> None:
    _check_json(value, "value")
    json.dumps(value, allow_nan=False)
