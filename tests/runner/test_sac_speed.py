"""The speed benchmark: who is measured, in which order, what follows from the rounds, and what is shown."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, is_done, read_result
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.runner import run_cells
from entroreg.benchmarks.speed import measuring, peers, processes, products, worker
from entroreg.benchmarks.speed.measuring import Plan
from entroreg.benchmarks.suites import sac_speed

CELL = Cell("sac-speed", "smoke", "HalfCheetah-v5-1-thread", "in-turn", 0)
TINY = Plan(("sb3",), warmup=2, rounds=2, steps=3, updates=2, stage_rounds=1)


@pytest.fixture(autouse=True)
def _as_without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENTROREG_PEERS", raising=False)
    monkeypatch.setattr(measuring, "_PAUSE", 0.0)


# --- peers


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sbx", "ENTROREG_PEERS must name each peer once, as NAME=PATH, got 'sbx': write sbx=/path"),
        (f"sbx={sys.executable},sbx={sys.executable}", "must name each peer once, as NAME=PATH, got 'sbx="),
        (f"sbx={sys.executable};rltools=x", "must name a Python interpreter for sbx, got '.*;rltools=x', which is"),
        (f"sxb={sys.executable}", "unknown peer 'sxb': did you mean 'sbx'?"),
        ("rltools=/no/such/python", "for rltools, got '/no/such/python', which is no program: give the bin/python"),
        ("rltools=", "for rltools, got '', which is no program"),
        (f"sbx={os.path.dirname(sys.executable)}", "for sbx, got .*, which is no program"),
    ],
)
def test_a_wrong_list_of_peers_is_named_before_anything_runs(
    value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENTROREG_PEERS", value)
    with pytest.raises(UserError, match=message):
        bench.run_suite("sac-speed", "smoke", 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers.named_interpreters() == {}
    monkeypatch.setenv("ENTROREG_PEERS", f"sbx={sys.executable},rltools={sys.executable}")
    assert peers.named_interpreters() == {"sbx": sys.executable, "rltools": sys.executable}


def _pretend(monkeypatch: pytest.MonkeyPatch, method: str, package: str) -> None:
    monkeypatch.setitem(peers.PEERS, method, replace(peers.PEERS[method], packages=("numpy", package)))


def test_a_peer_that_is_not_installed_is_told_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "sbx", "entroreg-no-such-package")
    _pretend(monkeypatch, "rltools", "torch")
    present, absent = peers.interpreters(("entroreg", "sbx", "rltools", "gemms"))
    assert present == {"entroreg": sys.executable, "gemms": sys.executable}
    assert absent["sbx"] == "pip install sbx-rl"
    assert 'pip install "rltools[mkl]"' in absent["rltools"]  # it is here, but its interpreter was not named
    assert "ENTROREG_PEERS=rltools=/path/to/python" in absent["rltools"]


def test_a_peer_that_is_installed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "sbx", "torch")
    _pretend(monkeypatch, "rltools", "entroreg")
    monkeypatch.setenv("ENTROREG_PEERS", f"rltools={sys.executable}")
    assert peers.interpreters(("rltools", "sbx")) == ({"rltools": sys.executable, "sbx": sys.executable}, {})


def test_a_program_that_is_no_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("ENTROREG_PEERS", f"sbx={program}")
    with pytest.raises(UserError, match=r"interpreter for sbx, got .*python, which fails \(.* exit status 3"):
        peers.interpreters(("sbx",))


# --- turns and figures


class FakeWorker:
    """Answers in seconds of its own, and writes down when it was asked."""

    def __init__(self, name: str, seconds: dict[str, list[Any]], diary: list[tuple[str, str, int]]) -> None:
        self.actions = [*seconds, "report"]
        self.start_seconds = 1.26
        self._name, self._seconds, self._diary = name, {k: iter(v) for k, v in seconds.items()}, diary

    def ask(self, action: str, count: int) -> Any:
        self._diary.append((self._name, action, count))
        return {"compile_seconds": None, "versions": {}} if action == "report" else next(self._seconds[action])


def test_every_worker_has_its_turn_in_every_round() -> None:
    diary: list[tuple[str, str, int]] = []
    workers = {
        "a": FakeWorker("a", {"steps": [1.0, 2.0]}, diary),
        "idle": FakeWorker("idle", {"updates": []}, diary),
        "b": FakeWorker("b", {"steps": [3.0, 4.0]}, diary),
    }
    assert measuring.ask_in_turn(workers, "steps", 7, 2) == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert diary == [("a", "steps", 7), ("b", "steps", 7)] * 2


def test_milliseconds_are_of_one_step_and_one_update() -> None:
    plan = Plan(("entroreg", "sb3"), warmup=0, rounds=2, steps=200, updates=50, stage_rounds=1)
    stage = {"act": 0.02, "sample": None, "rest": 0.1}
    workers = {
        "entroreg": FakeWorker("", {"steps": [1.0, 1.2], "updates": [0.3, 0.2], "stages": [stage]}, []),
        "sb3": FakeWorker("", {"steps": [2.0, 1.8], "updates": [0.6, 0.8], "stages": [stage]}, []),
        "gemms": FakeWorker("", {"updates": [0.1, 0.1]}, []),
    }
    result = measuring.measure(workers, plan)
    assert result["rounds"]["step_ms"] == {
        "entroreg": pytest.approx([5.0, 6.0]),
        "sb3": pytest.approx([10.0, 9.0]),
    }
    assert result["rounds"]["update_ms"]["gemms"] == pytest.approx([2.0, 2.0])
    assert result["rounds"]["stage_ms"]["sb3"] == [
        {"act": pytest.approx(0.1), "sample": None, "rest": pytest.approx(0.5)}
    ]
    assert result["methods"]["sb3"]["time_over_entroreg"]["median"] == pytest.approx((10 / 5 + 9 / 6) / 2)
    assert result["methods"]["sb3"]["update_over_gemms"]["max"] == pytest.approx(8.0)
    assert result["methods"]["gemms"]["start_seconds"] == 1.3
    assert result["plan"]["steps"] == 200
    json.dumps(result, allow_nan=False)


ROUNDS: dict[str, dict[str, list[Any]]] = {
    "step_ms": {
        "entroreg": [5.0, 5.5, 4.5, 6.0, 5.2],
        "sb3": [11.0, 10.0, 12.5, 10.5, 30.0],
        "rltools": [6.0, 6.1, 6.2, 6.3, 6.4],
    },
    "update_ms": {
        "entroreg": [4.0, 4.5, 3.5, 5.0, 4.2],
        "sb3": [9.0, 9.1, 9.2, 9.3, 9.4],
        "gemms": [2.0, 2.5, 1.5, 2.2, 2.1],
    },
    "stage_ms": {
        "entroreg": [dict.fromkeys(worker.STAGES, 0.8) | {"sample": None}] * 2,
        "sb3": [dict.fromkeys(worker.STAGES, 1.5), dict.fromkeys(worker.STAGES, 2.5)],
    },
}


def test_figures_follow_from_the_rounds() -> None:
    found = measuring.figures(ROUNDS)
    for name, values in ROUNDS["step_ms"].items():
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        expected = {"min": min(values), "q1": q1, "median": median, "q3": q3, "max": max(values)}
        assert found[name]["step_ms"] == pytest.approx(expected)
        assert found[name]["steps_per_second"] == pytest.approx(1000 / sorted(values)[2])
    # Round by round, not median over median: 5.77 in the last one.
    assert found["sb3"]["time_over_entroreg"]["median"] == pytest.approx(11.0 / 5.0)
    assert found["sb3"]["time_over_entroreg"]["min"] == pytest.approx(10.5 / 6.0)
    assert found["sb3"]["time_over_entroreg"]["max"] == pytest.approx(30.0 / 5.2)
    assert found["entroreg"]["update_over_gemms"]["median"] == pytest.approx(4.0 / 2.0)
    assert "time_over_entroreg" not in found["entroreg"]
    assert set(found["gemms"]) == {"update_ms"}
    assert found["sb3"]["stage_ms"] == dict.fromkeys(worker.STAGES, 2.0)
    assert found["entroreg"]["stage_ms"]["sample"] is None


def test_without_ours_there_is_no_ratio_to_it() -> None:
    found = measuring.figures({"step_ms": {"sb3": [1.0]}, "update_ms": {}, "stage_ms": {}})
    assert set(found["sb3"]) == {"step_ms", "steps_per_second"}


# --- text and picture


def _summary() -> dict[str, Any]:
    methods = {
        name: {**row, "compile_seconds": 31.25 if name == "entroreg" else None, "peak_memory_mb": 361.3}
        for name, row in sorted(measuring.figures(ROUNDS).items())
    }
    plan = {"methods": ["entroreg", "sb3", "sbx", "rltools"], "rounds": 5, "steps": 200, "updates": 100}
    absent = {"sbx": "pip install sbx-rl"}
    cells = [{"threads": n, "plan": plan, "not_installed": absent, "methods": methods} for n in (1, 2)]
    return {
        "suite": "sac-speed",
        "preset": "small",
        "cells": cells,
        "failed": [{"folder": "runs/x", "error": "E: e"}],
    }


def test_the_text_shows_ours_first_and_what_is_missing() -> None:
    lines = [line.split("  ") for line in bench.as_text(_summary()).splitlines()]
    rows = [[part.strip() for part in line if part.strip()] for line in lines]
    assert rows[1] == ["HalfCheetah-v5, 1 thread: 5 rounds of 200 steps, then of 100 updates"]
    assert rows[3] == ["entroreg", "5.20 [5.00, 5.50]", "192.3", "-", "361", "31.2"]
    assert rows[4] == ["sb3", "11.00 [10.50, 12.50]", "90.9", "2.20 [1.75, 5.77]", "361", "-"]
    assert rows[5][0] == "rltools"
    assert rows[6] == ["sbx", "not installed: pip install sbx-rl"]
    assert rows[7][-1] == "time / that of its matrix products, 2.10 ms [min, max]"
    assert rows[8] == ["entroreg", "4.20 [4.00, 4.50]", "2.00 [1.80, 2.33]"]
    assert rows[10] == ["ms per step", "entroreg", "sb3"]
    assert [row[0] for row in rows[11:17]] == list(worker.STAGES)
    assert rows[14] == ["sample", "-", "2.000"]
    assert rows[17][0].startswith("HalfCheetah-v5, 2 threads")
    assert rows[-2:] == [["failed: 1 cells; each folder has a stderr.log"], ["runs/x: E: e"]]


def test_a_bar_is_as_long_as_the_median_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.figure

    drawn: list[Any] = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: drawn.append(self) or save(self, *a, **k)
    )
    sac_speed.plot(_summary(), tmp_path / "summary.png")
    assert (tmp_path / "summary.png").read_bytes().startswith(b"\x89PNG")
    panel = drawn[0].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["entroreg", "sb3", "rltools"]
    ends = [0.0, 0.0, 0.0]
    for patch in panel.patches:
        row = round(patch.get_y() + patch.get_height() / 2)
        ends[row] = max(ends[row], patch.get_x() + patch.get_width())
    assert ends == pytest.approx([5.2, 11.0, 6.2])
    assert len(panel.patches) == 5 + 6 + 1  # ours has no sample, RLtools is not split


# --- the worker's parts


class FakeTime:
    """A clock that only the work itself moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def work(self, seconds: float, *inner: Callable[[], Any]) -> Callable[..., str]:
        def run(*_args: Any, **_kwargs: Any) -> str:
            self.now += seconds
            for call in inner:
                call()
            return f"worked {seconds}"

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(worker, "time", fake)
    return fake


def test_timing_leaves_a_tenth_untimed(clock: FakeTime) -> None:
    ran: list[int] = []
    action = worker.timed(lambda count: ran.append(count) or clock.work(0.5 * count)())  # type: ignore[func-returns-value]
    assert action(200) == 100.0
    assert action(3) == 1.5
    assert ran == [20, 200, 1, 3]


def test_stages_count_each_second_once(clock: FakeTime) -> None:
    buffer = SimpleNamespace(sample=clock.work(0.5))
    agent = SimpleNamespace(
        replay_buffer=buffer,
        env=SimpleNamespace(step=clock.work(0.25)),
        _sample_action=clock.work(2.0),
        _store_transition=clock.work(9.0),  # never called, as by an engine with a way of its own
        train=clock.work(4.0, lambda: buffer.sample(256)),
    )
    before = agent.train
    answers: list[str] = []

    def steps(count: int) -> None:
        for _ in range(count):
            answers.append(agent._sample_action(0))
            agent.env.step(None)
            agent.train(gradient_steps=1)
            clock.work(0.125)()

    expected = {"act": 6.0, "environment": 0.75, "store": None, "sample": 1.5, "update": 12.0, "rest": 0.375}
    assert worker.stages(agent, steps, 3) == expected
    assert answers == ["worked 2.0"] * 3
    assert agent.train is before


def test_the_products_are_those_of_an_update() -> None:
    """Against autograd's own count: a first layer split by input asks for no gradient of the observation."""

    def mlp(parts: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
        *first, second, third = weights
        hidden = sum((part @ weight for part, weight in zip(parts, first, strict=True)), torch.zeros(()))
        return ((hidden.relu() @ second).relu()) @ third

    def weights(*inputs: int, out: int, grad: bool = True) -> list[torch.Tensor]:
        shapes = [*((size, 256) for size in inputs), (256, 256), (256, out)]
        return [torch.randn(shape, requires_grad=grad) for shape in shapes]

    observation, action = torch.randn(256, 17), torch.randn(256, 6)
    actor = weights(17, out=12)
    critics, targets = [weights(17, 6, out=1) for _ in range(2)], [weights(17, 6, out=1) for _ in range(2)]
    with FlopCounterMode(display=False) as expected:
        with torch.no_grad():
            next_action = mlp([observation], actor)[:, :6]
            for target in targets:
                mlp([observation, next_action], target)
        sum(mlp([observation, action], critic) for critic in critics).sum().backward()  # type: ignore[union-attr]
        new_action = mlp([observation], actor)[:, :6]
        frozen = [[weight.detach() for weight in critic] for critic in critics]
        sum(mlp([observation, new_action], critic) for critic in frozen).sum().backward()  # type: ignore[union-attr]
    updates = products.products_of_an_update()
    with FlopCounterMode(display=False) as counted:
        updates(1)
    assert counted.get_total_flops() == expected.get_total_flops()


# --- processes


FAKE = """
import json, os, sys, time
from entroreg.benchmarks.speed import worker

def fake(method, threads, warmup):
    print("a line of Python")
    os.write(1, b"a line of C\\n")
    return {
        "where": lambda count: [os.environ["OMP_NUM_THREADS"], len(os.sched_getaffinity(0)), threads, warmup],
        "die": lambda count: os.abort(),
        "sleep": lambda count: time.sleep(60),
    }

worker.BUILDERS["fake"] = fake
worker.main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


def _started(folder: Path, method: str = "fake") -> Any:
    script = folder / "fake.py"
    script.write_text(FAKE)
    return processes.started(method, sys.executable, threads=1, warmup=5, folder=folder, script=script)


def test_the_protocol_is_not_disturbed_by_what_a_library_prints(tmp_path: Path) -> None:
    with _started(tmp_path) as process:
        assert process.actions == ["where", "die", "sleep"]
        assert process.ask("where", 1) == ["1", 1, 1, 5]
    assert sorted((tmp_path / "fake.log").read_text().splitlines()) == ["a line of C", "a line of Python"]


def test_a_worker_that_dies_is_named_with_its_last_lines(tmp_path: Path) -> None:
    with _started(tmp_path) as process:
        with pytest.raises(RuntimeError, match=r"worker of fake must answer die 3, got exit code -6: .*fake\.log"):
            process.ask("die", 3)
        with pytest.raises(RuntimeError, match=r"must answer where 1, got exit code -6(.|\n)*a line of C"):
            process.ask("where", 1)


def test_a_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _started(tmp_path) as process:
        monkeypatch.setattr(processes, "_PATIENCE", 0.2)
        with pytest.raises(RuntimeError, match=r"must answer sleep 1, got no answer in 0\.2 s"):
            process.ask("sleep", 1)


def test_the_worker_needs_no_package_until_it_builds() -> None:
    command = [sys.executable, "-I", "-S", str(processes.SCRIPT), "no-method", "1", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "KeyError: 'no-method'"


def test_a_crash_fails_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sac_speed.PLANS, "smoke", replace(TINY, methods=("no-method",)))
    with ThreadPoolExecutor(1) as threads:
        (outcome,) = run_cells([CELL], sac_speed.run, tmp_path, executor=threads)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert "the worker of no-method must be ready, got exit code 1: mend what no-method.log" in outcome.error
    assert outcome.error.endswith("KeyError: 'no-method'")
    (failed,) = sac_speed.summarise([CELL], tmp_path)["failed"]
    assert (failed["folder"], failed["error"]) == (str(CELL.folder(tmp_path)), outcome.error)


def test_too_few_cores_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(RuntimeError, match="HalfCheetah-v5-2-threads must have 2 cores, got 1: run it on another"):
        sac_speed.run(replace(CELL, task="HalfCheetah-v5-2-threads"), tmp_path)


def test_cells_never_run_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jobs must be at most 1 for suite sac-speed, got 2: they slow each other"):
        bench.run_suite("sac-speed", "smoke", 2, tmp_path)


def test_a_task_is_a_folder_of_its_own_name() -> None:
    assert [cell.folder(Path()).parts[2] for cell in sac_speed.cells("small")] == list(sac_speed.THREADS)


def test_stable_baselines3_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sac_speed.PLANS, "smoke", replace(TINY, methods=("sb3", "rltools")))
    folder = CELL.folder(tmp_path)
    folder.mkdir(parents=True)
    sac_speed.run(CELL, folder)
    result = read_result(folder)
    assert result["threads"] == 1
    assert list(result["not_installed"]) == ["rltools"]
    assert {name: len(turns) for name, turns in result["rounds"]["update_ms"].items()} == {"sb3": 2, "gemms": 2}
    sb3 = result["methods"]["sb3"]
    assert all(value > 0 for value in sb3["stage_ms"].values())
    assert sb3["step_ms"]["min"] > 0
    assert sb3["compile_seconds"] is None
    assert sb3["versions"]["torch"] == torch.__version__
    assert 100 < sb3["peak_memory_mb"] < 4000
    for name, row in measuring.figures(result["rounds"]).items():
        assert row.items() <= result["methods"][name].items()
    text = (folder / "result.json").read_text()
    assert '"/' not in text  # no path


@pytest.mark.slow
def test_the_smoke_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "run", "sac-speed", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "[2/2] done" in err
    assert "entroreg-eager" in out
    names = {path.name for path in (tmp_path / "sac-speed").iterdir()}
    assert names == {"in-turn", "summary.json", "summary.png", "bench.json", ".lock"}
    summary = json.loads((tmp_path / "sac-speed" / "summary.json").read_text())
    assert [cell["threads"] for cell in summary["cells"]] == [1, 2]
    assert summary["failed"] == []
    assert summary["provenance"]["cpus"] == len(os.sched_getaffinity(0))
    assert all(is_done(cell.folder(tmp_path)) for cell in sac_speed.cells("smoke"))
