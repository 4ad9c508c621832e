"""A cell that needs no torch does not load it, and what its launch knew of the machine is not asked again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from entroreg.benchmarks import provenance
from entroreg.benchmarks.cells import Cell, read_result
from entroreg.benchmarks.local_processes import local_executor
from entroreg.benchmarks.provenance import collect, collect_again
from entroreg.benchmarks.runner import run_cells

pytestmark = pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="of a GPU, torch is asked for its name")

_LIGHT = """
import os
import sys

from entroreg.benchmarks.cells import write_result


def run(cell, folder):
    loaded = sorted({"torch", "gymnasium", "stable_baselines3"} & sys.modules.keys())
    if cell.method == "torch":
        import torch
    write_result(folder, {"loaded": loaded, "threads": os.environ["OMP_NUM_THREADS"]})
"""


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment or None,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["runner", "bench", "status", "comparison", "placement", "local_processes", "cli.bench_verbs"]
)
def test_to_run_cells_needs_no_torch(module: str) -> None:
    code = f"import sys, entroreg.benchmarks.{module}; print('torch' in sys.modules, 'entroreg' in sys.modules)"
    assert _python(code) == "False True"


def test_a_cell_without_torch_does_not_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "light_cells.py").write_text(_LIGHT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "light_cells", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    import light_cells  # type: ignore[import-not-found]

    cells = [Cell("light", "smoke", "t", method, 0) for method in ("light", "torch")]
    with local_executor(2, threads=3) as executor:
        outcomes = run_cells(cells, light_cells.run, tmp_path / "runs", executor=executor)
    assert [outcome.error for outcome in outcomes] == [None, None]
    for outcome in outcomes:
        assert read_result(outcome.folder) == {"loaded": [], "threads": "3"}
        meta = json.loads((outcome.folder / "meta.json").read_bytes())
        assert meta["torch_threads"] == 3
        assert meta["packages"]["torch"] == torch.__version__
        assert meta["gpu"] is None


def test_threads_are_those_torch_will_have() -> None:
    code = (
        "import json, os, sys; from entroreg.benchmarks.provenance import collect; found = collect()\n"
        "assert 'torch' not in sys.modules\n"
        "print(json.dumps([found['torch_threads'], found['cpus'], found['gpu']]))"
    )
    threads, cpus, gpu = json.loads(_python(code, PATH="/usr/bin:/bin"))
    assert (threads, gpu) == (cpus, None)
    assert json.loads(_python(code, PATH="/usr/bin:/bin", OMP_NUM_THREADS="7")) == [7, cpus, None]
    assert json.loads(_python(code, PATH="/usr/bin:/bin", OMP_NUM_THREADS="6,2")) == [6, cpus, None]  # nested
    assert json.loads(_python(code, PATH="/usr/bin:/bin", OMP_NUM_THREADS="many")) == [cpus, cpus, None]


def test_a_further_process_asks_only_what_can_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: Any) -> None:
        raise AssertionError("asked again")

    first = {**collect(["entroreg", "bench"]), "started": "then", "torch_threads": 99, "commit": "abc", "cpus": 5}
    kept = dict(first)
    for name in ("_git", "_version", "_cpu", "_gpu"):
        monkeypatch.setattr(provenance, name, never)
    monkeypatch.setattr(provenance, "_now", lambda: "now")
    assert collect_again(first) == {**kept, "started": "now", "torch_threads": torch.get_num_threads()}
    assert first == kept  # the caller's own stays


def test_elsewhere_the_commit_is_that_of_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(provenance, "_commit", never)
    monkeypatch.delenv("ENTROREG_COMMIT", raising=False)
    found = collect(["x"], ("abc", True))
    assert (found["commit"], found["dirty"], found["command"]) == ("abc", True, ["x"])
    monkeypatch.setenv("ENTROREG_COMMIT", "def")
    assert (collect(["x"], ("abc", True))["commit"], collect(["x"], (None, None))["commit"]) == ("abc", "def")
    assert collect(["x"], (None, None))["dirty"] is False
