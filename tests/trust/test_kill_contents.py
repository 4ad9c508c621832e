"""What is looked at in the folder of a killed run: each kind of damage is found, and only times may differ."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from entroreg.benchmarks.trust import contents
from entroreg.benchmarks.trust.files import sync_files, versions, written_bytes
from entroreg.checkpoint import Table, save_checkpoint
from entroreg.state_tree import split_state

LAST = Path("checkpoints", "last")


def _save(folder: Path, weight: float = 1.0, row: float = 2.0, clock: float = 3.0, step: int = 4) -> None:
    """Save a checkpoint with a tensor, a table, and clocks: a key, a pair, and a tensor in a pair."""
    table = Table(np.full((4, 2), row))
    table.filled = 3
    state = {
        "weight": torch.tensor([weight]),
        "parts": [["episode_times", torch.tensor([clock])], ["kept", [1, 2]]],
    }
    tensors, tree = split_state(state)
    notes = {"seconds": clock, "last": {"t": clock, "r": 1.0}, "t_start": clock}
    metadata = {"state": tree, "step": step, "notes": notes}
    save_checkpoint(folder / LAST, {**tensors, "loose": torch.zeros(2)}, metadata, tables={"replay": table})


def _run(folder: Path, clock: float = 3.0) -> Path:
    """Write a run's folder as trainings do."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"out": str(folder)}))
    (folder / "meta.json").write_text(json.dumps({"started": clock}))
    (folder / "result.json").write_text(json.dumps({"return": 5.0, "train_seconds": clock}))
    rows = [{"step": 1, "time/fps": clock}, {"step": 2, "epoch_seconds": clock}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "predictions.csv").write_text("bag,label\na,1\nb,0\n")
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("data", f"{clock}")
        with archive.open("policy.pth", "w") as member:
            torch.save({"bias": torch.ones(3), 0: [1, torch.zeros(1)]}, member)
    Figure().savefig(folder / "curve.png", dpi=10)
    (folder / "tb").mkdir()
    (folder / "tb" / f"events.{clock}").write_bytes(b"cut o")
    for step in (3, 4):
        _save(folder, clock=clock, step=step)
    return folder


def _cut(path: Path, kept: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])


def test_a_whole_run_is_whole(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    assert contents.inspect(folder) == ((), False, False)
    assert contents.saves(folder) == frozenset()
    assert contents.inspect(tmp_path / "none") == ((), False, False)
    assert contents.saves(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    "name", ["config.json", "meta.json", "result.json", "predictions.csv", "model.zip", "curve.png"]
)
def test_a_file_that_is_cut_off_is_named(name: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    _cut(folder / name)
    assert contents.inspect(folder).corrupt == (name,)
    (folder / name).write_bytes(b"")
    assert contents.inspect(folder).corrupt == (name,)


def test_a_zip_with_a_flipped_bit_is_named(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    data = bytearray((folder / "model.zip").read_bytes())
    data[data.index(b"3.0")] ^= 1
    (folder / "model.zip").write_bytes(data)
    assert contents.inspect(folder).corrupt == ("model.zip",)


def test_a_damaged_row_is_corrupt_but_a_torn_last_one_is_torn(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3')
    assert contents.inspect(folder) == ((), True, False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n")
    assert contents.inspect(folder) == (("metrics.jsonl",), False, False)


@pytest.mark.parametrize("which", ["last", "last.previous"])
@pytest.mark.parametrize(
    "name", ["tensors.safetensors", "metadata.json", "manifest.json", "replay-00000.safetensors"]
)
def test_a_checkpoint_that_is_damaged_anywhere_is_named(which: str, name: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    path = folder / "checkpoints" / which / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.unlink()  # unchanged blocks are one file in both
    path.write_bytes(data)
    assert contents.inspect(folder).corrupt == (which,)
    path.unlink()
    assert contents.inspect(folder).corrupt == (which,)


def test_what_is_hidden_or_of_tensorboard_is_not_looked_at_but_counted_as_a_save(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    (folder / ".result.json.tmp").write_text("{")
    (folder / "checkpoints" / ".last.ab.saving").mkdir()
    assert contents.inspect(folder) == ((), False, False)
    assert contents.saves(folder) == {".last.ab.saving"}


def test_a_file_of_an_unknown_kind_is_not_called_whole(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    (folder / "weights.bin").touch()
    with pytest.raises(KeyError, match=r"\.bin"):
        contents.inspect(folder)


def test_runs_that_differ_in_times_only_are_equal(tmp_path: Path) -> None:
    one, other = (contents.outcome(_run(tmp_path / f"run-{clock}", clock)) for clock in (3.0, 7.0))
    assert one == other
    parts = ["checkpoints/last", "metrics.jsonl", "model.zip", "names", "predictions.csv", "result.json"]
    assert sorted(one) == parts


def _text(name: str, old: str, new: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def _other_bias(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.zip", "w") as archive, archive.open("policy.pth", "w") as member:
        torch.save({"bias": torch.tensor([1.0, 1.0, -1.0]), 0: [1, torch.zeros(1)]}, member)


def _again(**changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / "checkpoints")
        for step in (3, 4):
            _save(folder, **{"step": step, **changed})

    return change


CHANGES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a number of the result": ("result.json", _text("result.json", "5.0", "5.000000000000001")),
    "a row": ("metrics.jsonl", _text("metrics.jsonl", '"step": 2', '"step": 3')),
    "a prediction": ("predictions.csv", _text("predictions.csv", "b,0", "b,1")),
    "a weight of the zip": ("model.zip", _other_bias),
    "the sign of a zero": ("checkpoints/last", _again(weight=-0.0)),
    "a weight": ("checkpoints/last", _again(weight=1.0 + 2**-23)),
    "a row of the replay": ("checkpoints/last", _again(row=2.0 + 2**-51)),
    "a counter": ("checkpoints/last", _again(step=5)),
    "a file that is left behind": ("names", lambda folder: (folder / ".metrics.jsonl.tmp").touch()),
    "a file that is missing": ("names", lambda folder: (folder / "curve.png").unlink()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_else_differs_is_seen(change: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run")
    if change == "the sign of a zero":
        _again(weight=0.0)(folder)
    before = contents.outcome(folder)
    part, act = CHANGES[change]
    act(folder)
    after = contents.outcome(folder)
    assert {name for name in before if before[name] != after[name]} == {part}


def test_bytes_written_leave_out_hard_links(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_bytes(b"12345")
    (tmp_path / "old" / "b").write_bytes(b"123")
    before = versions(tmp_path)
    assert sum(before.values()) == 8
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a").hardlink_to(tmp_path / "old" / "a")
    (tmp_path / "new" / "c").write_bytes(b"1234567")
    sync_files(tmp_path / "new")
    assert written_bytes(before, versions(tmp_path)) == 7
    assert written_bytes({}, versions(tmp_path)) == 15
