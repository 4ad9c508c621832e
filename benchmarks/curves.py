"""The learning-curve picture of a run: return, and beneath it entropy and alpha."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

WINDOW = 5  # episodes in a running mean: few, since the last ones of a short run say how good it is now


def plot_learning_curve(metrics: Path, picture: Path, title: str, *, random_return: float) -> None:
    """Draw a run's metrics.jsonl as a PNG.

    Args:
        metrics: metrics.jsonl, one row for each episode.
        picture: of the PNG.
        title: above the curves.
        random_return: mean return of the random policy, drawn as a line.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    figure = Figure(figsize=(7, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
    steps = np.array([row["step"] for row in rows])
    returns = np.array([row["return"] for row in rows])
    top.plot(steps, returns, ".", ms=2, color="0.7", label="episode")
    top.plot(steps, _running_mean(returns), color="C0", label=f"mean of {WINDOW} episodes")
    top.axhline(random_return, color="C3", ls=":", label="random policy")
    top.set(title=title, ylabel="return")
    trained = [row for row in rows if "alpha" in row]
    steps = np.array([row["step"] for row in trained])
    middle.plot(steps, [row["entropy"] for row in trained], color="C1", lw=0.8, label="policy (sample mean)")
    if trained and "target_entropy" in trained[0]:
        middle.plot(steps, [row["target_entropy"] for row in trained], color="0.3", ls="--", label="target")
    middle.set_ylabel("entropy (nats)")
    alphas = [row["alpha"] for row in trained]
    bottom.plot(steps, alphas, color="C2", label="alpha")
    bottom.set(
        ylabel="alpha", xlabel="environment steps", yscale="log" if min(alphas, default=0.0) > 0 else "linear"
    )
    for axes in (top, middle, bottom):
        axes.legend(loc="best", fontsize="small")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=130)


def _running_mean(values: np.ndarray) -> np.ndarray:
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
