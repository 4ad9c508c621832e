"""An adversarial training as a picture: returns against the floor, the curriculum, the adversary's temperature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def plot_curriculum(metrics: Path, picture: Path, title: str) -> None:
    """Draw a run's metrics.jsonl as a PNG.

    Args:
        metrics: a row for each iteration.
        picture: of the PNG.
        title: above the panels.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    from entroreg.vision.mil.heatmaps.saving import save_png

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    moved = [row for row in rows if "curriculum/return_mean" in row]
    figure = Figure(figsize=(7, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    steps = [row["num_timesteps"] for row in rows]
    for name, label in (("learning", "while the adversary learns"), ("frozen", "while the protagonist learns")):
        top.plot(steps, [row[f"rollout/return_with_{name}_adversary"] for row in rows], lw=0.8, label=label)
    if moved and "curriculum/return_floor" in moved[0]:
        top.axhline(moved[0]["curriculum/return_floor"], color="C3", ls=":", label="floor")
    top.set(title=title, ylabel="discounted return")
    _draw_curriculum(middle, moved)
    bottom.plot(
        steps, [row["curriculum/temperature_drawn"] for row in rows], ".", ms=3, label="drawn, mean of episodes"
    )
    bottom.plot(steps, [row["curriculum/temperature_mean"] for row in rows], label="mean of the distribution")
    learned = [row for row in rows if "protagonist/train/ent_coef" in row]
    alphas = [row["protagonist/train/ent_coef"] for row in learned]
    bottom.plot([row["num_timesteps"] for row in learned], alphas, lw=0.8, label="protagonist's alpha, learned")
    positive = [row["curriculum/temperature_mean"] for row in rows] + alphas
    scale = "log" if min(positive, default=0.0) > 0.0 else "linear"
    bottom.set(ylabel="temperature", xlabel="environment steps of both", yscale=scale)
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize="small")
    save_png(figure, picture, dpi=130)


def _draw_curriculum(axes: Any, moved: list[dict[str, float]]) -> None:
    key = "curriculum/shape" if moved and "curriculum/shape" in moved[0] else "curriculum/mean"
    steps = np.array([row["num_timesteps"] for row in moved])
    values = np.array([row[key] for row in moved])
    held = np.array([row.get("curriculum/held_back", 0.0) for row in moved], dtype=bool)
    axes.plot(steps, values, ".-", color="C2", label="step of the curriculum")
    axes.plot(steps[held], values[held], "x", color="C3", label="held back by the floor")
    axes.set(ylabel="shape k" if key.endswith("shape") else "temperature", yscale="log")
