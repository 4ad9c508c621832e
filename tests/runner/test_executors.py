"""The same suite in processes of this machine, on Ray and through submitit's local executor: equal results."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks import local_processes
from entroreg.benchmarks.bench import run_suite
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.executors import WorkerDiedError
from entroreg.benchmarks.local_processes import LocalProcesses, environments, local_executor
from entroreg.benchmarks.ray_tasks import ray_executor
from entroreg.benchmarks.slurm_jobs import slurm_executor

Start = Callable[[int], Executor]


def _comparable(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "provenance"}


@pytest.fixture(params=["ray", "submitit"])
def start(request: pytest.FixtureRequest, tmp_path: Path, toy: str) -> Start:
    """An executor that is not local; a cluster that Ray starts finds what this process finds."""
    if request.param == "ray":
        pytest.importorskip("ray")
        return ray_executor
    pytest.importorskip("submitit")
    return lambda jobs: slurm_executor(jobs, tmp_path / "submitit", cluster="local")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_elsewhere_the_results_are_those_from_here(
    tmp_path: Path, toy: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_METHODS", "quick,odd,dies")
    here = run_suite(toy, "smoke", 2, tmp_path / "here")
    there = run_suite(toy, "smoke", 2, tmp_path / "there", start=start)
    assert len(here["cells"]) == 8
    assert there["tasks"] == here["tasks"]
    assert there["cells"] == here["cells"]
    assert len(here["failed"]) == len(there["failed"]) == 4
    for ours, theirs in zip(here["failed"], there["failed"], strict=True):
        assert (ours["task"], ours["method"], ours["seed"]) == (theirs["task"], theirs["method"], theirs["seed"])
        expected = "odd seed 1" if ours["method"] == "odd" else "a worker process died"
        assert expected in ours["error"]
        assert expected in theirs["error"]
    names = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.json")}
    assert {path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*.json")} == names
    monkeypatch.setenv("TOY_METHODS", "quick")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_ray_tries_the_cell_of_a_killed_worker_again(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("TOY_METHODS", "dies-once")
    summary = run_suite(toy, "smoke", 2, tmp_path, start=ray_executor)
    assert summary["failed"] == []
    assert len(list(tmp_path.rglob("died"))) == 2


def test_a_process_has_its_share_of_threads_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert environments(2, {"A": "3"}, []) == [{"A": "3"}, {"A": "3"}]
    gpus = [environment["CUDA_VISIBLE_DEVICES"] for environment in environments(3, {}, ["0", "5"])]
    assert gpus == ["0", "5", "0"]
    assert environments(2, {"A": "1"}, ["0", "1", "2"])[0] == {"A": "1", "CUDA_VISIBLE_DEVICES": "0,2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert local_processes.visible_gpus() == ["4", "7"]
    with local_executor(2, threads=5) as executor:
        found = [executor.submit(os.getenv, name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES") * 2]
        threads_and_gpus = [future.result() for future in found]
    assert threads_and_gpus[::2] == ["5", "5"]
    assert set(threads_and_gpus[1::2]) <= {"4", "7"}
    assert "MKL_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "9")  # what the user has set stays
    with local_executor(1) as executor:
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "9"
    with local_executor(1, threads=5) as executor:  # but for what is asked for here
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "5"


def test_an_error_of_a_call_comes_back_and_a_dead_process_has_a_name() -> None:
    with local_executor(1) as executor:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()
        with pytest.raises(WorkerDiedError, match="exit code 3"):
            executor.submit(os._exit, 3).result()
        with pytest.raises(WorkerDiedError, match="killed by SIGABRT"):
            executor.submit(os.abort).result()
        assert executor.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(TypeError, match="positional arguments only, got base"):
        local_executor(1).submit(int, "1", base=2)


def _leave_a_child_and_die(path: Path) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(300)
    path.write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.timeout(60)
def test_children_of_a_dead_process_end_with_it(tmp_path: Path) -> None:
    with local_executor(1) as executor, pytest.raises(WorkerDiedError, match="killed by SIGKILL, perhaps for want"):
        executor.submit(_leave_a_child_and_die, tmp_path / "child").result()
    stat = Path("/proc", (tmp_path / "child").read_text(), "stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)  # SIGKILL takes a moment; the mark above ends a wait in vain


def test_stopped_processes_take_no_further_calls() -> None:
    backend = LocalProcesses([{}])
    backend.stop()
    with pytest.raises(WorkerDiedError, match="stopped before it began"):
        backend.call(divmod, (7, 2))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--executor", "slurm"], 3, "executor slurm needs sbatch, which is not here: run this on a login node"),
        (["--minutes", "5"], 2, "minutes has no meaning with --executor local: leave it out"),
        (["--gpus", "1"], 2, "gpus has no meaning with --executor local: leave it out"),
        (["--address", "auto"], 2, "address has no meaning with --executor local: leave it out"),
        (["--executor", "ray", "--partition", "a"], 2, "partition has no meaning with --executor ray"),
        (["--threads", "0"], 2, "threads must be at least 1, got 0"),
        (["--jobs", "0"], 2, "jobs must be at least 1, got 0"),
        (["--executor", "kubernetes"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_had_is_said(
    tmp_path: Path,
    toy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    assert main(["bench", "run", toy, "--out", str(tmp_path / "runs"), *arguments]) == code
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused(
    tmp_path: Path, toy: str, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    arguments = ["bench", "run", toy, "--executor", "ray", "--address", address, "--out", str(tmp_path / "runs")]
    assert main(arguments) == 2
    assert f"no Ray cluster answers at {address} (" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()  # nothing is written of a launch that cannot be


@pytest.mark.parametrize("package", ["ray", "submitit"])
def test_a_missing_package_is_named(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    executor = "ray" if package == "ray" else "slurm"
    assert main(["bench", "run", toy, "--executor", executor, "--out", str(tmp_path)]) == 3
    assert "pip install 'entroreg[cluster]'" in capsys.readouterr().err
