"""Learning curves as pictures: of a run, with entropy and alpha beneath its return, and of a suite over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks.statistics import iqm, stratified_bootstrap_interval

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


def plot_seed_curves(cells: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """Draw the learning curves of a suite as a PNG: a panel for each task, a line for each method.

    The line is the interquartile mean over seeds, the band its 95 % bootstrap interval.

    Args:
        cells: results with task, method and curve, a list of [step, return], as in a suite's summary.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    figure = Figure(figsize=(5 * len(tasks), 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        of_task = [cell for cell in cells if cell["task"] == task]
        for method in dict.fromkeys(cell["method"] for cell in of_task):
            curves = [cell["curve"] for cell in of_task if cell["method"] == method]
            points = seed_points(curves)
            steps = [step for step, *_ in points]
            axes.plot(steps, [middle for _, middle, *_ in points], label=f"{method}, {len(curves)} seeds")
            axes.fill_between(steps, [low for *_, low, _ in points], [high for *_, high in points], alpha=0.2)
        axes.set(title=task, xlabel="environment steps", ylabel="return of training episodes")
        axes.legend(loc="upper left", fontsize="small")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=130)


def seed_points(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float, float, float]]:
    """Return (step, IQM over seeds, low, high) wherever every seed has a point.

    Args:
        curves: for each seed, [step, return] pairs.
    """
    by_seed = [{step: value for step, value in curve} for curve in curves]
    steps = sorted(set.intersection(*(set(curve) for curve in by_seed)))
    points = []
    for step in steps:
        column = np.array([[curve[step]] for curve in by_seed])
        interval = stratified_bootstrap_interval(column, rng=np.random.default_rng(0))
        low, high = (interval.low, interval.high) if interval else (iqm(column), iqm(column))
        points.append((step, iqm(column), low, high))
    return points


def _running_mean(values: np.ndarray) -> np.ndarray:
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - WINDOW, 0)
    means: np.ndarray = (sums[ends] - sums[starts]) / (ends - starts)
    return means
