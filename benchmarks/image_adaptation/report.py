"""Errors over streams, with their differences from no adaptation, and what collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, failures_as_text, is_done, read_result

PLAIN = "none"
_COLLAPSED = 0.5  # a class that takes more than this share of the last quarter's predictions


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return the errors over seeds, and for each stream and method what changed from no adaptation.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        What ``bench.summarise`` returns, the score being the error over the stream (lower is better); ``streams``:
        for each task and method lists over seeds.
    """
    summary = bench.summarise(cells, out)
    done = {cell: read_result(cell.folder(out)) for cell in cells if is_done(cell.folder(out))}
    streams: dict[str, dict[str, Any]] = {}
    for task, method in dict.fromkeys((cell.task, cell.method) for cell in done):
        rows = [result for cell, result in done.items() if (cell.task, cell.method) == (task, method)]
        plain = {c.seed: r for c, r in done.items() if (c.task, c.method) == (task, PLAIN)}
        streams.setdefault(task, {})[method] = stream_row(rows, plain)
    return summary | {"streams": streams}


def stream_row(rows: Sequence[Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one method's figures on one stream, each a list over seeds; differences where the images are the same.

    Args:
        rows: results of its cells.
        plain: those without adaptation, by seed.
    """
    paired = [(row, plain[row["seed"]]) for row in rows if row["seed"] in plain]
    paired = [(ours, theirs) for ours, theirs in paired if ours["images"] == theirs["images"]]
    return {
        "error": [row["error"] for row in rows],
        "difference": [ours["error"] - theirs["error"] for ours, theirs in paired],
        "first_quarter_error": [row["first_quarter_error"] for row in rows],
        "last_quarter_error": [row["last_quarter_error"] for row in rows],
        "largest_class_share": [row["largest_class_share"] for row in rows],
        "collapsed": [row["largest_class_share"] > _COLLAPSED for row in rows],
        "batch_ms": [row["batch_ms"] for row in rows],
        "images": rows[0]["images"],
        "running_error": np.mean([row["running_error"] for row in rows], axis=0).tolist(),
    }


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: error on streams of corrupted images, severity 5",
        "error: interquartile mean over seeds [95 % interval]; d: less that without adaptation, mean [min, max]; "
        "last: error in the last quarter",
    ]
    for task, methods in summary["streams"].items():
        scores = {row["method"]: row for row in summary["tasks"][task]}
        lines.append(
            f"{task:18}{'seeds':>6}{'images':>8}{'error':>24}{'d':>26}{'last':>8}{'collapsed':>11}{'ms/batch':>10}"
        )
        lines += [_line(method, row, scores[method]) for method, row in methods.items()]
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _line(method: str, row: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    interval = scores.get("interval")
    ends = "" if interval is None else " [{:.3f}, {:.3f}]".format(*interval)
    change = row["difference"]
    spread = f"{np.mean(change):+.3f} [{min(change):+.3f}, {max(change):+.3f}]" if change else "-"
    collapsed = f"{sum(row['collapsed'])} of {len(row['collapsed'])}"
    return (
        f"  {method:16}{len(row['error']):6}{row['images']:8}{scores['iqm']:>8.3f}{ends:>16}{spread:>26}"
        f"{np.mean(row['last_quarter_error']):8.3f}{collapsed:>11}{np.median(row['batch_ms']):10.1f}"
    )


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw the error along each stream, a panel for each.

    Args:
        summary: of the suite.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    streams = summary["streams"]
    columns = min(3, len(streams))
    rows = -(-len(streams) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in panels[len(streams) :]:
        unused.remove()
    for axes, (task, methods) in zip(panels, streams.items(), strict=False):
        for method, row in methods.items():
            shares = np.linspace(0.0, 1.0, len(row["running_error"]))
            axes.plot(shares, row["running_error"], label=method, lw=1.2)
        axes.set(title=task, ylim=(0, 1), xlabel="share of the stream")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.supylabel("error")
    figure.savefig(picture, dpi=90)
