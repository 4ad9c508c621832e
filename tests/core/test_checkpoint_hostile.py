"""Checkpoints from elsewhere: other versions, links, pipes, lies about sizes, and JSON that means harm."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.checkpoint import CheckpointError, Table, load_checkpoint, save_checkpoint

VERSION_1 = Path(__file__).with_name("data") / "checkpoint_version_1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a table of six blocks."""
    table = Table(np.ones((100, 3), np.float32), block_bytes=120)
    table.filled = 55
    save_checkpoint(tmp_path / "last", {"weight": torch.ones(300)}, {"step": 1}, tables={"replay": table})
    return tmp_path / "last"


def _load(folder: Path) -> Table:
    table = Table(np.zeros((100, 3), np.float32))
    load_checkpoint(folder, tables={"replay": table})
    return table


def _refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        _load(folder)


def _manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _forge(folder: Path, name: str, data: bytes) -> None:
    """Write a file, and tell the manifest of it."""
    (folder / name).unlink()
    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    _manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


# --- versions


@pytest.mark.parametrize("is_asked_for_tables", [False, True])
def test_a_checkpoint_of_version_1_loads(is_asked_for_tables: bool) -> None:
    tensors, metadata = load_checkpoint(VERSION_1, tables={} if is_asked_for_tables else None)
    assert metadata == {
        "agent": "SAC",
        "num_timesteps": 1200,
        "state": {
            "log_alpha": {"__tensor__": "weight"},
            "betas": {"__tuple__": [0.9, 0.999]},
            "none": None,
            "big": 2**70,
        },
    }
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()} == {
        "weight": (torch.float32, [[0, 1, 2], [3, 4, 5]]),
        "half": (torch.bfloat16, [1.5, 0]),
        "count": (torch.int64, 7),
        "mask": (torch.bool, [True, False, True]),
        "nothing": (torch.uint8, []),
    }
    assert tensors["half"].signbit().tolist() == [False, True]
    assert tensors["nothing"].shape == (0, 3)


def test_a_checkpoint_of_version_1_has_no_tables_and_is_replaced_by_one_that_has(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    shutil.copytree(VERSION_1, folder)
    with pytest.raises(ValueError, match=r"must have a table 'replay', got \[\]"):
        _load(folder)
    table = Table(np.ones((100, 3), np.float32))
    table.filled = 7
    save_checkpoint(folder, {}, {"step": 1}, tables={"replay": table})
    assert _load(folder).filled == 7
    assert load_checkpoint(tmp_path / "last.previous")[1]["num_timesteps"] == 1200


@pytest.mark.parametrize("claimed", [1, 3, 10**30])
def test_a_checkpoint_under_another_version_is_refused(folder: Path, claimed: int) -> None:
    _manifest(folder, lambda manifest: manifest.update(schema_version=claimed))
    if claimed == 1:  # whose metadata would be what version 2 has around it
        _refused(folder, "expected tables whose blocks are the 6 files that are listed there beside tensors")
    else:
        _refused(folder, "must have a schema version of 1 to 2, got")
        _refused(folder, "upgrade entroreg, a later one wrote it")


# --- files that are none


@pytest.mark.parametrize(
    "name", ["manifest.json", "metadata.json", "tensors.safetensors", "replay-00002.safetensors"]
)
@pytest.mark.parametrize("kind", ["link to itself", "link elsewhere", "link to a device", "pipe", "folder"])
@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    shutil.copy(path, folder.parent / "elsewhere")
    path.unlink()
    if kind.startswith("link"):
        path.symlink_to({"itself": name, "elsewhere": "../elsewhere", "device": "/dev/zero"}[kind.split()[-1]])
    else:
        (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    _refused(folder, f"{path} must be a regular file, got {'a symbolic link' if 'link' in kind else 'one of mode'}")


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "./x",
        "x\0",
        "x" * 300,
        ".hidden",
        "-x",
        "ä",
        "\ud800",
        "x\n",
    ],
)
def test_names_that_could_mean_a_file_elsewhere_are_refused(folder: Path, name: str) -> None:
    data = b"a password"
    (folder.parent / "elsewhere").write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    _manifest(folder, lambda manifest: manifest["files"].update({name: entry}))
    _refused(folder, "manifest.json is damaged: expected plain names of files, got")


def test_a_link_that_leads_to_itself_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "last").symlink_to("last")
    with pytest.raises(CheckpointError, match="last must be a folder, got a link that leads to itself: remove it"):
        load_checkpoint(tmp_path / "last")


def test_a_file_that_no_table_has_is_refused(folder: Path) -> None:
    (folder / "more").write_bytes(b"x")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    _manifest(folder, lambda manifest: manifest["files"].update({"more": entry}))
    _refused(folder, "expected tables whose blocks are the 7 files that are listed there")


# --- sizes


def test_sizes_are_checked_before_anything_is_read(folder: Path) -> None:
    for name in ("replay-00005.safetensors", "tensors.safetensors", "metadata.json"):
        os.truncate(folder / name, 1 << 40)  # a file with a hole: to read it takes an hour
        _refused(folder, f"{name} is not as {folder / 'manifest.json'} says: expected")
        _manifest(folder, lambda manifest, name=name: manifest["files"][name].update(bytes=10**18))
        _refused(folder, f"expected {10**18} bytes, got {1 << 40} bytes")
        os.truncate(folder / name, 10)
        _manifest(folder, lambda manifest, name=name: manifest["files"][name].update(bytes=10))


def test_a_manifest_and_metadata_of_any_size_are_not_read(folder: Path) -> None:
    _manifest(folder, lambda manifest: manifest["files"]["metadata.json"].update(bytes=(64 << 20) + 1))
    os.truncate(folder / "metadata.json", (64 << 20) + 1)
    _refused(folder, f"metadata.json must have at most {64 << 20} bytes, got {(64 << 20) + 1}")
    os.truncate(folder / "manifest.json", (16 << 20) + 1)
    _refused(folder, f"manifest.json must have at most {16 << 20} bytes, got {(16 << 20) + 1}")


def test_metadata_that_could_not_be_read_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"metadata must take at most 67108864 bytes as JSON, got \d+: put its numbers"
    ):
        save_checkpoint(tmp_path / "last", {}, {"text": "x" * (64 << 20)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="Exceeds the limit"):
        save_checkpoint(tmp_path / "last", {}, {"number": 10**5000})
    assert list(tmp_path.iterdir()) == []


def _header(entry: Any, length: int | None = None) -> bytes:
    text = json.dumps(entry).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text


TERABYTE = {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}
LIES = [
    _header({"weight": TERABYTE, "rows": TERABYTE}),
    _header({}, 1 << 40),
    _header({}, (1 << 64) - 1),
    _header({"rows": {"dtype": "F32", "shape": [1 << 62, 1 << 62, 0], "data_offsets": [0, 0]}}),
    _header({"rows": {"dtype": "F32", "shape": [1 << 63, 0], "data_offsets": [0, 0]}}),
    _header({"rows": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
    _header({"rows": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}) + b"1234",
    _header({"rows": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"1234",
    _header([]),
    _header(None),
    (10**5).to_bytes(8, "little") + b"[" * 10**5,
    b"\x80\x04.",
    b"",
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
@pytest.mark.parametrize("name", ["tensors.safetensors", "replay-00002.safetensors"])
def test_a_header_that_lies_is_refused_and_reserves_nothing(folder: Path, name: str, lie: bytes) -> None:
    _forge(folder, name, lie)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=re.escape(str(folder / name))):
        _load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_blocks_in_each_other_s_places_are_found_out_by_their_shape_alone(folder: Path) -> None:
    first, last = (folder / f"replay-0000{index}.safetensors" for index in (0, 5))
    first_data, last_data = first.read_bytes(), last.read_bytes()
    _forge(folder, first.name, last_data)
    _refused(folder, "replay-00000.safetensors is damaged: expected a header of")
    _forge(folder, first.name, first_data + bytes(120))
    _refused(folder, "replay-00000.safetensors is damaged: expected a header of")
    _forge(folder, first.name, first_data + bytes(1 << 17))
    _refused(folder, "replay-00000.safetensors must have 120 bytes and a header, got 131")
    _forge(folder, first.name, first_data)
    assert _load(folder).filled == 55


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "I32"},
        {"shape": [30]},
        {"shape": [3, 10]},
        {"data_offsets": [120, 0]},
        {"more": 1},
        {"name": "rOws"},
    ],
)
def test_a_block_of_the_right_size_under_another_header_is_refused(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "replay-00002.safetensors"
    data = path.read_bytes()
    name = change.pop("name", "rows")
    entry = {"dtype": "F32", "shape": [10, 3], "data_offsets": [0, 120]}
    _forge(folder, path.name, _header({name: {**entry, **change}}) + data[-120:])
    _refused(folder, "replay-00002.safetensors is damaged: expected a header of")
    _forge(folder, path.name, _header({"rows": entry}) + data[-120:])
    assert _load(folder).filled == 55


# --- JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 100_000, "maximum recursion depth exceeded"),
        (b'{"x":' * 100_000, "maximum recursion depth exceeded"),
        (b'{"x": NaN}', "numbers must be finite, got NaN"),
        (b'{"x": -Infinity}', "numbers must be finite, got -Infinity"),
        (b'{"x": 1e999}', "numbers must be finite, got 1e999"),
        (b'{"x": 1, "x": 2}', "the keys of an object must differ, got 1 more than once"),
        (b"9" * 10_000, "Exceeds the limit"),
        (b"\xff\xff", "can't decode"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
@pytest.mark.parametrize("name", ["manifest.json", "metadata.json"])
def test_json_that_means_harm_is_refused(folder: Path, name: str, text: bytes, message: str) -> None:
    if name == "manifest.json":
        (folder / name).write_bytes(text)
    else:
        _forge(folder, name, b'{"metadata": {"x": ' + text + b'}, "tables": {}}' if b"{} {}" != text else text)
    with pytest.raises(CheckpointError, match=re.escape(f"{folder / name} is damaged: ")) as caught:
        _load(folder)
    if not (name == "metadata.json" and text == b""):
        assert message in str(caught.value)


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("place", ["version", "files", "entry", "tables", "table", "metadata", "block"])
def test_what_can_just_be_parsed_can_be_told_of(folder: Path, place: str) -> None:
    """A value nearly too deep to be read may be too deep to be written: the message has only some of it."""
    text = _nested(sys.getrecursionlimit() - 150)
    assert json.loads(text)
    forged = {
        "version": b'{"schema_version": %s, "files": {}}',
        "files": b'{"schema_version": 2, "files": %s}',
        "entry": b'{"schema_version": 2, "files": {"x": %s}}',
    }
    if place in forged:
        (folder / "manifest.json").write_bytes(forged[place] % text)
    elif place == "block":
        _forge(folder, "replay-00000.safetensors", len(text).to_bytes(8, "little") + text)
    else:
        data = {
            "tables": b'{"metadata": {}, "tables": %s}',
            "table": b'{"metadata": {}, "tables": {"replay": %s}}',
            "metadata": b'{"metadata": %s, "tables": {}}',
        }
        _forge(folder, "metadata.json", data[place] % text)
    with pytest.raises(CheckpointError) as caught:
        _load(folder)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 10**18},
        {"rows": 10**18, "block_rows": 1},
        {"rows": 10**4000, "block_rows": 1},
        {"rows": -1},
        {"rows": 55.0},
        {"rows": True, "block_rows": 1},
        {"block_rows": 0},
        {"block_rows": -10},
        {"row_shape": "3"},
        {"row_shape": [3.0]},
        {"dtype": None},
        {"more": 1},
    ],
)
@pytest.mark.timeout(20)
def test_a_table_that_is_described_absurdly_is_refused(folder: Path, change: dict[str, Any]) -> None:
    described = {"dtype": "float32", "row_shape": [3], "rows": 55, "block_rows": 10, **change}
    _forge(folder, "metadata.json", json.dumps({"metadata": {}, "tables": {"replay": described}}).encode())
    _refused(folder, f"{folder / 'metadata.json'} is")
    del described["dtype"]
    _forge(folder, "metadata.json", json.dumps({"metadata": {}, "tables": {"replay": described}}).encode())
    _refused(folder, f"{folder / 'metadata.json'} is")


def test_a_table_of_less_than_no_rows_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", {}, {}, tables={"replay": Table(np.ones((100, 3), np.float32))})
    assert _load(tmp_path / "last").filled == 0
    described = {"dtype": "float32", "row_shape": [3], "rows": -5, "block_rows": 10}
    _forge(
        tmp_path / "last", "metadata.json", json.dumps({"metadata": {}, "tables": {"replay": described}}).encode()
    )
    _refused(tmp_path / "last", "metadata.json is damaged: expected the description of a table, got")


@pytest.mark.parametrize(
    "data", [[], {}, {"metadata": {}}, {"metadata": [], "tables": {}}, {"metadata": {}, "tables": {}, "x": 1}]
)
def test_metadata_of_another_form_is_refused(folder: Path, data: Any) -> None:
    _forge(folder, "metadata.json", json.dumps(data).encode())
    _refused(folder, "metadata.json is damaged: expected metadata and tables, got")


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"bytes": 1},
        {"bytes": -1, "sha256": "0" * 64},
        {"bytes": True, "sha256": "0" * 64},
        {"bytes": 1.0, "sha256": "0" * 64},
        {"bytes": 1, "sha256": "A" * 64},
        {"bytes": 1, "sha256": "0" * 63},
        {"bytes": 1, "sha256": 0},
        {"bytes": 1, "sha256": "0" * 64, "more": 1},
    ],
)
def test_an_entry_of_another_form_is_refused(folder: Path, entry: Any) -> None:
    _manifest(folder, lambda manifest: manifest["files"].update({"tensors.safetensors": entry}))
    _refused(folder, "manifest.json is damaged: expected the size and SHA-256 of tensors.safetensors, got")
