"""What the cells of the suite mil say together: scores over seeds, and what AEM changes in a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, failures_as_text, is_done, read_result

PLAIN = "none"
# Accuracy of ten-fold cross-validation, mean and standard error over five runs, as published.
PUBLISHED = {
    "musk1": {"ABMIL": (0.892, 0.040), "gated ABMIL": (0.900, 0.050)},
    "musk2": {"ABMIL": (0.858, 0.048), "gated ABMIL": (0.863, 0.042)},
    "elephant": {"ABMIL": (0.868, 0.022), "gated ABMIL": (0.857, 0.027)},
}
PUBLISHED_IN = "Ilse, Tomczak, Welling 2018, table 1: accuracy"


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return the scores over seeds, and for each method its metrics and its difference from the plain model.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        What ``bench.summarise`` returns, the score being the AUROC of all out-of-fold predictions; ``methods``: for
        each task and method lists over seeds of ``metrics``, ``attention`` and, of methods with AEM, ``difference``
        from the same model and seed without; ``published``: accuracies of others.
    """
    summary = bench.summarise(cells, out)
    done = {cell: read_result(cell.folder(out)) for cell in cells if is_done(cell.folder(out))}
    methods: dict[str, dict[str, Any]] = {}
    for task, method in dict.fromkeys((cell.task, cell.method) for cell in done):
        results = {c.seed: result for c, result in done.items() if (c.task, c.method) == (task, method)}
        plain_method = f"{method.partition('+')[0]}+{PLAIN}"
        plain = {c.seed: result for c, result in done.items() if (c.task, c.method) == (task, plain_method)}
        methods.setdefault(task, {})[method] = _row(results, {} if method == plain_method else plain)
    published = {
        "source": PUBLISHED_IN,
        "accuracy": {task: PUBLISHED[task] for task in methods if task in PUBLISHED},
    }
    return summary | {"methods": methods, "published": published}


def _row(results: Mapping[int, Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    names = ("auroc", "macro_f1", "accuracy", "calibration_error")
    paired = [(result, plain[seed]) for seed, result in results.items() if seed in plain]
    return {
        "seeds": list(results),
        "metrics": {name: [result["metrics"][name] for result in results.values()] for name in names},
        "attention": {
            name: [result["attention"][name] for result in results.values()]
            for name in ("entropy", "entropy_share", "instance_auroc")
        },
        "difference": {
            name: [ours["metrics"][name] - theirs["metrics"][name] for ours, theirs in paired]
            for name in ("auroc", "macro_f1")
        },
        "train_seconds": [result["train_seconds"] for result in results.values()],
    }


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: out-of-fold predictions of whole cross-validations",
        "AUROC: interquartile mean over seeds [95 % interval]; the rest: means over seeds; d: difference from the "
        "same model and seed without AEM, mean [min, max]",
    ]
    for task, methods in summary["methods"].items():
        scores = {row["method"]: row for row in summary["tasks"][task]}
        lines.append(
            f"{task:24}{'seeds':>6}{'AUROC':>24}{'F1':>7}{'acc':>7}{'H/log N':>9}{'inst. AUROC':>13}"
            f"{'d AUROC':>26}{'d F1':>26}{'s':>7}"
        )
        lines += [_line(method, row, scores[method]) for method, row in methods.items()]
        for name, (mean, error) in summary["published"]["accuracy"].get(task, {}).items():
            lines.append(f"  {name:22} {summary['published']['source']} {mean:.3f} +- {error:.3f}")
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _line(method: str, row: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    interval = scores.get("interval")
    ends = "" if interval is None else " [{:.3f}, {:.3f}]".format(*interval)
    instances = [value for value in row["attention"]["instance_auroc"] if value is not None]
    found = f"{np.mean(instances):.3f}" if instances else "-"
    return (
        f"  {method:22}{len(row['seeds']):6}{scores['iqm']:>8.3f}{ends:>16}"
        f"{np.mean(row['metrics']['macro_f1']):7.3f}{np.mean(row['metrics']['accuracy']):7.3f}"
        f"{np.mean(row['attention']['entropy_share']):9.3f}{found:>13}"
        f"{_spread(row['difference']['auroc']):>26}{_spread(row['difference']['macro_f1']):>26}"
        f"{np.mean(row['train_seconds']):7.1f}"
    )


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.3f} [{min(values):+.3f}, {max(values):+.3f}]" if values else "-"


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw AUROC against the attention's entropy: a panel for each data set, a point for each seed and method.

    Args:
        summary: of the suite.
        picture: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    methods = summary["methods"]
    figure = Figure(figsize=(4.2 * len(methods), 4.2), layout="constrained")
    for axes, (task, rows) in zip(
        figure.subplots(1, len(methods), squeeze=False).flat, methods.items(), strict=True
    ):
        colours = {model: f"C{place}" for place, model in enumerate(dict.fromkeys(map(_model, rows)))}
        for method, row in rows.items():
            kind = method.partition("+")[2]
            axes.plot(
                row["attention"]["entropy_share"],
                row["metrics"]["auroc"],
                _MARKERS.get(kind, "o"),
                color=colours[_model(method)],
                label=method,
                alpha=0.7,
                ms=5,
            )
        axes.set(title=task, xlabel="attention entropy / log N", ylabel="AUROC, out of fold")
        axes.grid(alpha=0.3)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small"
    )
    figure.savefig(picture, dpi=90)


_MARKERS = {PLAIN: "o", "aem": "^", "aem-cosine": "v", "aem-dual": "s"}


def _model(method: str) -> str:
    return method.partition("+")[0]
