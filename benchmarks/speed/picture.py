"""The picture of a speed summary: milliseconds of a training step by method, split into its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entroreg.benchmarks.speed.measuring import FLOOR
from entroreg.benchmarks.speed.report import title
from entroreg.benchmarks.speed.worker import STAGES

_COLOURS = dict(zip(STAGES, ("C0", "C2", "C4", "C9", "C1", "0.75"), strict=True))
_WHOLE = "not split"  # of a method whose stages cannot be seen


def plot_steps(summary: dict[str, Any], picture: Path) -> None:
    """Draw a summary as a PNG: a panel for each cell, a bar for each method.

    A bar is as long as the median step of the timed rounds; its parts have the shares of the rounds with timers.

    Args:
        summary: with at least one cell.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display
    from matplotlib.patches import Patch

    cells = [
        {name: cell["methods"][name] for name in cell["plan"]["methods"] if name in cell["methods"]}
        for cell in summary["cells"]
    ]
    figure = Figure(figsize=(8, 1.3 + sum(0.5 + 0.36 * len(rows) for rows in cells)), layout="constrained")
    panels = figure.subplots(len(cells), 1, sharex=True, squeeze=False, height_ratios=[len(rows) for rows in cells])
    for axes, rows, cell in zip(panels[:, 0], cells, summary["cells"], strict=True):
        for name, row in rows.items():
            _draw_bar(axes, name, row)
        axes.axvline(cell["methods"][FLOOR]["update_ms"]["median"], color="k", ls=":", lw=1)
        axes.set_title(title(cell), loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()  # the first method stands above
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    longest = max(row["step_ms"]["q3"] for rows in cells for row in rows.values())
    panels[-1, 0].set(
        xlim=(0, 1.55 * longest),
        xlabel="ms per training step: median, black from q1 to q3; dotted: an update's matrix products in torch",
    )
    parts = {**_COLOURS, _WHOLE: "0.45"}
    handles = [Patch(color=colour, label=part) for part, colour in parts.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(parts), fontsize="small", frameon=False)
    figure.savefig(picture, dpi=130)


def _draw_bar(axes: Any, name: str, row: dict[str, Any]) -> None:
    step = row["step_ms"]
    stages = row.get("stage_ms", {})
    seen = {stage: stages[stage] for stage in STAGES if stages.get(stage) is not None}
    scale = step["median"] / sum(seen.values()) if seen else 1.0
    parts = {stage: scale * value for stage, value in seen.items()} or {_WHOLE: step["median"]}
    left = 0.0
    for part, width in parts.items():
        axes.barh(name, width, left=left, height=0.7, color=_COLOURS.get(part, "0.45"))
        left += width
    axes.plot((step["q1"], step["q3"]), (name, name), color="k", lw=1.5)
    text = f"  {step['median']:.2f} ms, {row['steps_per_second']:.0f} steps/s"
    ratio = row.get("time_over_entroreg")
    if ratio is not None:
        text += f", {ratio['median']:.2f} x ours"
    axes.text(max(step["median"], step["q3"]), name, text, va="center", fontsize="small")
