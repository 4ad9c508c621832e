"""Entropy controls of language-model policy gradients: a transformer that learns to add, with each of them.

All controls of a seed start from the same warmed-up policy, so that they are compared in pairs.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.readings import Curve, Quantity, Reading, of_seed
from entroreg.benchmarks.rlvr import report
from entroreg.benchmarks.rlvr.options import ControlName, TrainRLVR
from entroreg.benchmarks.rlvr.picture import plot_controls

NAME = "rlvr"
CONTROLS: tuple[ControlName, ...] = get_args(ControlName)
SMOKE_CONTROLS: tuple[ControlName, ...] = ("none", "clip-cov")
SETTINGS = {
    "smoke": TrainRLVR(steps=6, digits=1, prompts=16, evaluate_every=3),
    "small": TrainRLVR(steps=350, digits=2, evaluate_every=50),
    "paper": TrainRLVR(steps=2000, evaluate_every=50),
}
SEEDS = {"smoke": 1, "small": 5, "paper": 10}
PASS_AT_1, PASS_AT_8 = Quantity("pass@1"), Quantity("pass@8")

as_text = report.as_text
summarise = report.summarise


def cells(preset: str) -> list[Cell]:
    """Return all cells of a preset: controls x seeds."""
    task = f"addition-{SETTINGS[preset].digits}"
    controls = SMOKE_CONTROLS if preset == "smoke" else CONTROLS
    return [Cell(NAME, preset, task, control, seed) for control in controls for seed in range(SEEDS[preset])]


def run(cell: Cell, folder: Path) -> None:
    """Train one policy from its seed's warm start on one thread, and write the result."""
    import torch

    from entroreg.benchmarks.rlvr.training import reinforce

    torch.set_num_threads(1)
    control: ControlName = next(name for name in CONTROLS if name == cell.method)
    options = replace(SETTINGS[cell.preset], control=control, seed=cell.seed)
    start = _shared_start(options, folder.parents[2] / "warm-start" / f"seed-{cell.seed}")
    result = reinforce(options, start, folder)
    assert result is not None, "nothing stops a cell"
    write_result(folder, result)


def _shared_start(options: TrainRLVR, folder: Path) -> Any:
    """Return the warmed-up policy of a seed; the first cell that needs it makes it, the others wait."""
    from entroreg import checkpoint
    from entroreg.agents.rlvr.addition import Addition
    from entroreg.agents.rlvr.policy import new_policy
    from entroreg.agents.rlvr.warm_up import WarmUp
    from entroreg.benchmarks.rlvr.training import Start, new_start

    settings = {"digits": options.digits, "seed": options.seed, "until": options.warm_up}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            made = new_start(options)
            assert made is not None, "nothing stops a cell"
            metadata = {"settings": settings, "warmed": made.warmed._asdict()}
            checkpoint.save_checkpoint(folder, made.model.state_dict(), metadata)
    tensors, metadata = checkpoint.load_checkpoint(folder)
    if metadata["settings"] != settings:
        raise ValueError(f"{folder} must hold the warm start of {settings}, got {metadata['settings']}: remove it")
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    model.load_state_dict(tensors)
    return Start(task, model, WarmUp(**metadata["warmed"]))


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw entropy, reward and pass@k of all controls."""
    plot_controls(summary["cells"], picture)


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    return of_seed(cell, {PASS_AT_1: cell["final"]["pass_at_1"], PASS_AT_8: cell["final"]["pass_at_8"]})


def curves(cell: Mapping[str, Any]) -> dict[str, Curve]:
    """Return reward and entropy of the rollouts."""
    names = {"reward": "reward", "entropy": "entropy of the policy (nats)"}
    return {name: [[row["step"], row[column]] for row in cell["curve"]] for column, name in names.items()}
