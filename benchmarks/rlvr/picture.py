"""Entropy, reward and pass@k against steps: of one run, and of all controls over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PANELS = (
    ("entropy", "curve", "entropy of the rollouts (nats)"),
    ("reward", "curve", "reward of the rollouts"),
    ("pass_at_1", "evaluations", "pass@1, held out"),
    ("pass_at_8", "evaluations", "pass@8, held out"),
)


def plot_controls(results: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """Draw results as a PNG: a panel for each quantity, a line for each control, its mean over seeds.

    Args:
        results: of runs of the same number of steps.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    from entroreg.vision.mil.heatmaps.saving import save_png

    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (name, part, label) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for control in dict.fromkeys(result["control"] for result in results):
            of_control = [result[part] for result in results if result["control"] == control]
            steps = [row["step"] for row in of_control[0]]
            values = np.array([[row[name] for row in rows] for rows in of_control])
            axes.plot(steps, values.mean(0), label=f"{control}, {len(values)} seeds", lw=1.2)
            axes.fill_between(steps, values.min(0), values.max(0), alpha=0.1)
        axes.set(xlabel="rollouts", ylabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    save_png(figure, picture, dpi=110)
