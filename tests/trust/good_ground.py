"""What bad command lines differ from: a line of each verb that works, and the files that these lines name."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

from entroreg.benchmarks import options as agents
from entroreg.benchmarks.cli import main
from entroreg.benchmarks.cli.parsing import parse
from entroreg.benchmarks.distillation import options as distill
from entroreg.benchmarks.mil import options as mil
from entroreg.benchmarks.rlvr import options as rlvr
from entroreg.benchmarks.robust import options as robust

_AGENT = (
    "--steps 20 --eval-episodes 1 --learning-starts 5 --batch-size 4 --net 4 --threads 1 --device cpu --seed 1 "
    "--out out"
)
_MIL = "--folds 2 --epochs 1 --validation-share 0 --hidden 4 --threads 1 --device cpu --seed 1 --out out"
TRAININGS = {
    "sac": f"train sac --env Pendulum-v1 {_AGENT}",
    "discrete-sac": f"train discrete-sac --env CartPole-v1 {_AGENT}",
    "qarl": f"train qarl --env InvertedPendulum-v5 --episodes 1 --episode-steps 5 --return-floor 1 {_AGENT}",
    "rarl": f"train rarl --env InvertedPendulum-v5 --episodes 1 --episode-steps 5 {_AGENT}",
    "rlvr": "train rlvr --digits 1 --steps 1 --prompts 2 --samples 2 --updates 1 --warm-up 0.01 --threads 1 "
    "--seed 1 --out out",
    "mil": f"train mil --features goods/bags.csv {_MIL}",
    "distill": "train distill --method plain --student strided-conv --width 2 --data bars --epochs 1 "
    "--attack-steps 1 --tests fgsm --test-images 4 --threads 1 --device cpu --seed 1 --out out",
}
"""Quick trainings of every kind, by the kind in config.json."""
FEATURES = f"train mil --features goods/slides --labels goods/labels.csv {_MIL}"
_SLIDE = "goods/slide.png --slide-mpp 0.5 --tile 32 --min-tissue 0 --out out"
_PLACES = {
    "sac": "sac/Pendulum-v1",
    "discrete-sac": "discrete-sac/CartPole-v1",
    "qarl": "qarl/InvertedPendulum-v5",
    "rarl": "rarl/InvertedPendulum-v5",
    "rlvr": "rlvr-none/addition-1",
    "mil": "mil-abmil/bags",
    "distill": "distill-plain-strided-conv/bars",
    "slides": "mil-abmil/slides",
}
RUNS = {name: f"goods/runs/{name}/train/{place}/seed-1" for name, place in _PLACES.items()}
"""Their folders; the second run of mil is of slides."""
LINES = {
    **{f"train {kind}": line for kind, line in TRAININGS.items()},
    "eval": f"eval {RUNS['sac']} --episodes 1",
    "bench run": "bench run overhead --preset smoke --out out",
    "bench status": "bench status goods/bench",
    "bench list": "bench list",
    "resume": "resume goods/bench",
    "compare": "compare goods/summaries goods/bench",
    "report": "report goods/summaries --out out",
    "data list": "data list",
    "data fetch": "data fetch no-such-data",
    "data bags": "data bags fashion-mnist --out out --bags 2 --instances 2",
    "data mnist-bags": "data mnist-bags --out out --bags 2",
    "mil features": f"mil features {_SLIDE}",
    "mil tiles": f"mil tiles {_SLIDE}",
    "mil heatmap": f"mil heatmap {_SLIDE} --run {RUNS['slides']}",
    "list": "list",
    "check": "check",
}
"""A line of each verb; those of data and of mil features need a network, and are bad in nothing else."""


def configs() -> dict[str, dict[str, Any]]:
    """Return config.json of each run."""
    found = {}
    for kind, line in TRAININGS.items():
        options: Any = parse(line.split())
        of_kind = {"sac": agents, "discrete-sac": agents, "mil": mil, "distill": distill, "rlvr": rlvr}.get(
            kind, robust
        )
        found[kind] = json.loads(json.dumps(of_kind.to_json(options.agent)))
    return found


def lay_out(here: Path) -> None:
    """Make ``goods`` in a folder: runs of every kind, data, results, and odd paths."""
    goods = here / "goods"
    (goods / "runs").mkdir(parents=True)
    _write_odd_paths(goods)
    _write_bags(goods / "bags.csv")
    _write_slides(goods)
    _write_results(goods)
    (goods / "settings.toml").write_text("[sac]\nlearning_rate = 0.001\n")
    for name, line in {**TRAININGS, "slides": FEATURES}.items():
        _train(name, line, here)


def _train(name: str, line: str, here: Path) -> None:
    """Train a run with the command itself and move it to its place, without what nobody reads."""
    with (
        contextlib.chdir(here),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as told,
        mock.patch("entroreg.benchmarks.rlvr.training.FINAL_PROBLEMS", 8),
        mock.patch("entroreg.agents.rlvr.warm_up._CHECK_EVERY", 5),
    ):
        code = main(line.split())
    if code != 0:
        raise RuntimeError(f"a good line must end with 0, got {code} for {line}: {told.getvalue()}")
    (here / "out").rename(here / "goods" / "runs" / name)
    run = here / RUNS[name]
    for unread in (*run.glob("*.zip"), *run.glob("*.png")):
        unread.unlink()
    shutil.rmtree(run / "tb", ignore_errors=True)


def _write_odd_paths(goods: Path) -> None:
    (goods / "empty").touch()
    (goods / "empty-folder").mkdir()
    (goods / "loop").symlink_to("loop")
    (goods / "dangling").symlink_to("gone")
    (goods / "noise").write_bytes(random.Random(0).randbytes(5_000))


def _write_bags(path: Path) -> None:
    drawn = random.Random(0)
    rows = [f"{bag % 2},{bag},{drawn.random():.4f},{drawn.random():.4f}" for bag in range(8) for _ in range(3)]
    path.write_text("\n".join(rows) + "\n")


def _write_slides(goods: Path) -> None:
    import h5py
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    (goods / "slides").mkdir()
    rows = ["slide,label,patient"]
    for index in range(8):
        with h5py.File(goods / "slides" / f"s{index}.h5", "w") as file:
            file["features"] = generator.normal(size=(3, 4)).astype(np.float32)
            file["coords"] = np.arange(6).reshape(3, 2) * 32
            file["coords"].attrs["patch_size_level0"] = 32
        rows.append(f"s{index},{('normal', 'tumour')[index % 2]},p{index}")
    (goods / "labels.csv").write_text("\n".join(rows) + "\n")
    Image.fromarray(generator.integers(255, size=(64, 64, 3), dtype=np.uint8)).save(goods / "slide.png")


def _write_results(goods: Path) -> None:
    from entroreg.benchmarks.suites import sac

    committed = Path(__file__).parents[2] / "benchmarks" / "results" / "sac_small.json"
    summary = json.loads(committed.read_text()) | {"preset": "smoke"}
    (goods / "summaries").mkdir()
    (goods / "summaries" / "sac.json").write_text(json.dumps(summary))
    launch = {"format": 1, "suite": "sac", "preset": "smoke", "seeds": None, "whole": True, "chosen": []}
    for cell in sac.cells("smoke"):
        folder = cell.folder(goods / "bench")
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(summary["cells"][0]))
        (folder / "meta.json").write_text(json.dumps({"commit": "0" * 40, "dirty": False}))
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(cell)))
    (goods / "bench" / "sac" / "bench.json").write_text(json.dumps(launch))
    (goods / "bench" / "sac" / ".lock").touch()
