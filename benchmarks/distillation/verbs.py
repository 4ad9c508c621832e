"""What ``entroreg train distill`` and ``entroreg eval`` of its runs do and print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cli.running import result_of
from entroreg.benchmarks.distillation.options import TrainDistill
from entroreg.benchmarks.errors import OK


def train_distill(options: TrainDistill) -> int:
    """Train a student; the last lines say where everything is."""
    from entroreg.benchmarks.distillation.training import run_folder, train

    folder = run_folder(options)
    result, exit_code = result_of(partial(train, options, folder), folder)
    if result is None:
        return exit_code
    if options.run.json:
        print(json.dumps({**result, "folder": str(folder)}))
        return OK
    print(f"{options.name} on {options.model.data}, seed {options.run.seed}, {options.fit.epochs} epochs")
    _print_accuracies(result["accuracy"])
    for name, file in (
        ("curves", "learning_curve.png"),
        ("student", "student.safetensors"),
        ("result", "result.json"),
    ):
        print(f"{name:12} {folder / file}")
    return OK


def evaluate_distill(folder: Path, config: dict[str, Any], *, as_json: bool) -> int:
    """Attack the student of a finished run again.

    Args:
        folder: of the run.
        config: of the run.
        as_json: whether to print JSON.
    """
    from entroreg.benchmarks.distillation.training import evaluate_run

    found = evaluate_run(folder, config)
    print(json.dumps(found)) if as_json else _print_accuracies(found)
    return OK


def _print_accuracies(found: Mapping[str, Any]) -> None:
    print(f"  {'clean':12} {found['clean']:.4f}")
    for name in found["test_seconds"]:
        images = found.get(f"{name}_images", found["images"])
        print(f"  {name:12} {found[name]:.4f}   mean with clean {found[f'weighted_{name}']:.4f}   {images} images")
