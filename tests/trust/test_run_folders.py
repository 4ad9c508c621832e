"""What stands beside a run's checkpoint: its rows, what a crash left, options of older runs, older checkpoints."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import DISTILLATION, MIL, QARL, RLVR
from run_history import LAST, Saved, compare

from entroreg.agents.adversarial import TwoPlayers
from entroreg.benchmarks.distillation import options as distill
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.mil import options as mil
from entroreg.benchmarks.rlvr import options as rlvr
from entroreg.benchmarks.robust import options as robust
from entroreg.benchmarks.robust.building import build_training
from entroreg.benchmarks.row_file import RowFile
from entroreg.benchmarks.run_folder import claimed, has_checkpoint, require_same_run, saved_run, write_head
from entroreg.checkpoint import save_checkpoint


def test_rows_go_on_after_those_that_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with RowFile(path) as rows:
        for step in range(3):
            rows.write({"step": step, "value": 0.1 * step})
        rows.sync()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 3, "val')  # as a run leaves it that is killed in the middle of a row
    with RowFile(path, kept=2) as rows:
        assert rows.rows == [{"step": 0, "value": 0.0}, {"step": 1, "value": 0.1}]
        rows.write({"step": 2, "value": 0.1 * 2})
        assert len(rows.rows) == 3
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-1])  # the third row is torn
    with pytest.raises(UserError, match=r"metrics.jsonl must have the 3 rows that the checkpoint counts, got 2"):
        RowFile(path, kept=3)
    assert path.read_bytes() == whole[:-1]
    with RowFile(path) as rows:
        assert rows.rows == []
    assert path.read_bytes() == b""


def test_what_unfinished_writes_left_is_removed_when_a_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / LAST).mkdir(parents=True)
    (folder / LAST.parent / f".last.{'0' * 32}.saving").mkdir()
    (folder / LAST.parent / f".last.{'0' * 32}.saving" / "tensors.safetensors").touch()
    for name in (f".result.json.{'a' * 32}.tmp", "config.json"):
        (folder / name).touch()
    with claimed(folder, overwrite=False, resume=True):
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == ["checkpoints", "checkpoints/last", "config.json"]


def test_a_run_that_is_replaced_leaves_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    save_checkpoint(folder / LAST, {}, {})
    (folder / "config.json").touch()

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", dies)
        with pytest.raises(KeyboardInterrupt), claimed(folder, overwrite=True):
            pass
    assert not folder.exists()
    with claimed(folder, overwrite=False):
        assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.lock", "run"]


def test_a_crash_between_the_renames_of_a_save_leaves_a_checkpoint(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    assert saved_run(tmp_path, "mil") is None
    for step in (1, 2):
        save_checkpoint(tmp_path / LAST, {"step": torch.tensor(step)}, {"agent": "mil"})
    (tmp_path / LAST).rename(tmp_path / "gone")
    assert has_checkpoint(tmp_path)
    found = saved_run(tmp_path, "mil")
    assert found is not None
    assert found[0]["step"] == 1
    with (
        pytest.raises(UserError, match="holds the checkpoint of a run that was stopped"),
        claimed(tmp_path, overwrite=False),
    ):
        pass
    with pytest.raises(UserError, match=r"must be of a run of rlvr, got one of mil: it belongs to another run"):
        saved_run(tmp_path, "rlvr")


def test_meta_is_there_where_config_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    real, calls = os.replace, []
    monkeypatch.setattr(os, "replace", lambda *names: dies() if len(calls) else calls.append(real(*names)))
    with pytest.raises(KeyboardInterrupt):
        write_head(tmp_path, {"kind": "mil"})
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


@pytest.mark.parametrize(
    ("to_json", "from_json", "options"),
    [
        (rlvr.to_json, rlvr.from_json, RLVR),
        (mil.to_json, mil.from_json, MIL),
        (distill.to_json, distill.from_json, DISTILLATION),
        (robust.to_json, robust.from_json, QARL),
    ],
    ids=["rlvr", "mil", "distillation", "qarl"],
)
def test_a_run_of_before_these_options_goes_on(to_json: Any, from_json: Any, options: Any, tmp_path: Path) -> None:
    fields = ("checkpoint_every", "keep", "resume")
    config = to_json(options)
    of_run = config.get("run", config)
    for name in fields:
        of_run.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    old = from_json(json.loads((tmp_path / "config.json").read_bytes()))
    run = getattr(old, "run", old)
    assert run.keep == 1
    assert not run.resume
    asked = to_json(options)
    require_same_run(tmp_path, asked, fields)
    with pytest.raises(UserError, match="seed must be"):
        require_same_run(tmp_path, {**asked, **_other_seed(asked)}, fields)


def _other_seed(asked: dict[str, Any]) -> dict[str, Any]:
    return {"run": {**asked["run"], "seed": 77}} if "run" in asked else {"seed": 77}


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_of_a_memory_only_what_changed_is_written(engine: str, tmp_path: Path) -> None:
    asked = replace(QARL, run=replace(QARL.run, engine=engine, steps=10**6))
    agent = build_training(replace(asked, players=replace(asked.players, buffer_size=400_000)), 1e9)
    agent.learn(20)
    agent.save(tmp_path / "last", keep=3)
    blocks = {path.name: path.stat().st_ino for path in (tmp_path / "last").glob("*-00000.safetensors")}
    assert len(blocks) == (2 if engine == "auto" else 12)
    agent.save(tmp_path / "last", keep=3)
    assert {name: (tmp_path / "last" / name).stat().st_ino for name in blocks} == blocks, "the same files"
    agent.learn(1, reset_num_timesteps=False)
    agent.save(tmp_path / "last", keep=3)
    assert all((tmp_path / "last" / name).stat().st_ino != inode for name, inode in blocks.items())
    loaded = TwoPlayers.load(tmp_path / "last")
    loaded.save(tmp_path / "again")
    again, last = Saved.read(tmp_path / "again"), Saved.read(tmp_path / "last")
    assert again.content["state"]["iterations"] == last.content["state"]["iterations"] == agent.iterations
    assert all((again.tables[name] == rows).all() for name, rows in last.tables.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "last", "last.previous", "last.previous.2"]


def _in_the_first_form(agent: TwoPlayers, today: Saved) -> Saved:
    """Return a checkpoint as it was before there were tables."""
    state, counters = dict(today.content["state"]), {}
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    for name, player in (("protagonist", agent.protagonist), ("adversary", agent.adversary)):
        buffer: Any = player.replay_buffer
        rows = {part: torch.from_numpy(getattr(buffer, part)[: buffer.size()].copy()) for part in names}
        of_player = ("policy", "actor_optimizer", "critic_optimizer", "controller")
        learned = {key: state[name][key] for key in of_player}
        counters[name] = {**state[name]["counters"], "_episode_num": player._episode_num}
        state[name] = {**learned, "replay": {**rows, "pos": buffer.pos, "full": buffer.full}}
    counts = {name: state.pop(name) for name in ("num_timesteps", "iterations")}
    parts = {"arguments": today.content["arguments"], "counters": counters, "last_return": None, "state": state}
    return Saved({**parts, **counts}, {})


def test_a_checkpoint_of_the_first_form_goes_on(tmp_path: Path) -> None:
    agent = build_training(QARL, 0.0).learn(150)
    agent.save(tmp_path / "today")
    _in_the_first_form(agent, Saved.read(tmp_path / "today")).write(tmp_path / "first")
    for folder in ("first", "today"):
        TwoPlayers.load(tmp_path / folder).learn(100, reset_num_timesteps=False).save(tmp_path / f"{folder}-later")
    found, expected = (Saved.read(tmp_path / f"{folder}-later") for folder in ("first", "today"))
    assert compare([expected], [found]).differing == {}
