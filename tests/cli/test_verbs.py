"""Help, lists, checks and the smoke benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.cli import main

VERBS = [
    [],
    ["train"],
    ["train", "sac"],
    ["train", "discrete-sac"],
    ["train", "qarl"],
    ["train", "rarl"],
    ["train", "mil"],
    ["train", "distill"],
    ["eval"],
    ["bench"],
    ["bench", "run"],
    ["bench", "list"],
    ["data"],
    ["data", "list"],
    ["data", "fetch"],
    ["data", "bags"],
    ["data", "mnist-bags"],
    ["mil"],
    ["mil", "features"],
    ["mil", "heatmap"],
    ["list"],
    ["check"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help_shows_a_runnable_example(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Example: entroreg {verb[0] if verb else 'train'}" in out


def test_help_imports_no_torch(command: Any) -> None:
    after = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, 'numpy' in sys.modules))"
    done = command("train", "sac", "--help", before=after)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "False False"


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert listing["agents"] == "sac, discrete-sac, qarl, rarl, rlvr, mil, distill"
    assert "categorical_entropy" in listing["measures"]
    assert main(["bench", "list"]) == 0
    assert capsys.readouterr().out.startswith("sac")


def test_check_reports_this_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json"]) == 0
    topics = {finding["topic"]: finding["status"] for finding in json.loads(capsys.readouterr().out)}
    assert topics["torch"] == topics["rl"] == topics["bench"] == "ok"


def test_smoke_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "run", "sac", "--preset", "smoke", "--jobs", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "[8/8] done" in err
    assert "entroreg-sac" in out
    assert "2 of 2 seeds" in out
    summary = json.loads((tmp_path / "sac" / "summary.json").read_text())
    rows = {row["method"]: row for row in summary["tasks"]["InvertedPendulum-v5"]}
    # Equal settings and seeds: our SAC is Stable-Baselines3's to the last bit.
    assert rows["entroreg-sac"]["scores"] == rows["sb3-sac"]["scores"]
    assert summary["failed"] == []
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "[8/8] skipped" in err
    again = json.loads(out)
    assert again.pop("provenance")["packages"] == summary.pop("provenance")["packages"]
    assert again == summary
    assert len(summary["cells"]) == 8
    assert main(["bench", "run", "sac", "--preset", "small", "--out", str(tmp_path)]) == 2
    assert "choose another --out folder" in capsys.readouterr().err


def test_sigterm_ends_a_benchmark_that_can_go_on(tmp_path: Path) -> None:
    code = "import sys; from entroreg.benchmarks.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "bench", "run", "sac"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "8 cells, 0 done; the rest takes about" in process.stderr.readline()
    assert "[1/8] done" in process.stderr.readline()
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert 1 <= len(list(tmp_path.rglob("result.json"))) < 8
    assert not list(tmp_path.rglob(".running-*"))


def test_summary_counts_what_failed(tmp_path: Path) -> None:
    cells = [Cell("sac", "smoke", "task", method, seed) for method in ("a", "b") for seed in range(3)]
    for cell in cells[:5]:
        cell.folder(tmp_path).mkdir(parents=True)
        write_result(cell.folder(tmp_path), {"score": float(cell.seed + 10 * (cell.method == "a"))})
    summary = {"suite": "sac", "preset": "smoke", **bench.summarise(cells, tmp_path)}
    a, b = summary["tasks"]["task"]
    assert (a["done"], a["seeds"], a["iqm"]) == (3, 3, 11.0)
    assert (b["done"], b["seeds"]) == (2, 3)
    assert b["first_is_better"] == 1.0
    folder = str(cells[5].folder(tmp_path))
    assert summary["failed"] == [{"task": "task", "method": "b", "seed": 2, "folder": folder, "error": None}]
    text = bench.as_text(summary)
    assert "2 of 3 seeds" in text
    assert "not done: 1 cells" in text
    assert folder in text
