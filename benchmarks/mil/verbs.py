"""What ``entroreg train mil`` and ``entroreg eval`` of its runs do and print."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from entroreg.benchmarks.cli.running import result_of
from entroreg.benchmarks.errors import OK
from entroreg.benchmarks.mil.options import TrainMIL


def train_mil(options: TrainMIL) -> int:
    """Cross-validate a model; the last lines say where everything is."""
    from entroreg.benchmarks.mil.outcomes import as_text
    from entroreg.benchmarks.mil.training import run_folder, train

    folder = run_folder(options)
    result, exit_code = result_of(partial(train, options, folder), folder)
    if result is None:
        return exit_code
    if os.environ.get("RANK", "0") != "0":  # of the processes of torchrun the first one speaks
        return OK
    if options.run.json:
        print(json.dumps({**result, "folder": str(folder)}))
        return OK
    print(f"mil {options.model.model} on {options.data.name}, seed {options.run.seed}")
    print(as_text(result))
    for name, file in (
        ("curves", "learning_curve.png"),
        ("predictions", "predictions.csv"),
        ("splits", "splits.json"),
        ("result", "result.json"),
    ):
        print(f"{name:12} {folder / file}")
    print(f"{'TensorBoard':12} tensorboard --logdir {folder / 'tb'}")
    return OK


def evaluate_mil(
    folder: Path, config: dict[str, Any], *, heatmap: bool, slides: Sequence[str], as_json: bool
) -> int:
    """Evaluate a run's folds again, or draw their attention over the slides.

    Args:
        folder: of the run.
        config: of the run.
        heatmap: whether to draw.
        slides: to be drawn; all if empty.
        as_json: whether to print JSON.
    """
    if heatmap:
        from entroreg.benchmarks.mil.heatmaps import draw_run

        drawn = draw_run(folder, config, slides)
        print(json.dumps(drawn)) if as_json else print("\n".join(one["picture"] for one in drawn))
        return OK
    from entroreg.benchmarks.mil.evaluation import evaluate_run
    from entroreg.benchmarks.mil.outcomes import as_text

    found = evaluate_run(folder, config)
    print(json.dumps(found)) if as_json else print(as_text(found))
    return OK
