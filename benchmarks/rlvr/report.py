"""What the runs of all controls say together, and the same as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, failures_as_text, is_done, read_result
from entroreg.benchmarks.rlvr.theory import law_of, monitor_of

UNCONTROLLED = "none"
COLLAPSE = 0.7  # of its entropy that the uncontrolled run must lose: without a collapse nothing can be prevented


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return the scores over seeds, and for each control what became of entropy, pass@k and the law.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        What ``bench.summarise`` returns, its score being pass@1 after training; ``controls``: for each control its
        runs with the differences from the uncontrolled run of the same seed, of the seeds that count;
        ``controls_all``: the same of all seeds; ``entropy_lost`` by the uncontrolled run of each seed, and
        ``void_seeds``, where that is too little for a control to prevent anything.
    """
    summary = bench.summarise(cells, out)
    done = [read_result(cell.folder(out)) for cell in cells if is_done(cell.folder(out))]
    lost = {result["seed"]: 1.0 - _kept(result) for result in done if result["control"] == UNCONTROLLED}
    void = [seed for seed, share in lost.items() if share < COLLAPSE]
    counted = [result for result in done if result["seed"] in lost and result["seed"] not in void]
    return summary | {
        "controls": _rows(counted),
        "controls_all": _rows(done),
        "entropy_lost": {str(seed): share for seed, share in lost.items()},
        "void_seeds": void,
    }


def _rows(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    plain = {result["seed"]: result for result in results if result["control"] == UNCONTROLLED}
    return {
        control: _row([result for result in results if result["control"] == control], plain)
        for control in dict.fromkeys(result["control"] for result in results)
    }


def _row(results: Sequence[Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    paired = [(result, plain[result["seed"]]) for result in results if result["seed"] in plain]
    names = ("pass_at_1", "pass_at_8", "entropy")
    return {
        "seeds": [result["seed"] for result in results],
        "final": {name: [result["final"][name] for result in results] for name in names},
        "entropy_kept": [_kept(result) for result in results],
        "difference": {
            name: [ours["final"][name] - theirs["final"][name] for ours, theirs in paired] for name in names
        },
        "law": [law for law in map(law_of, (result["curve"] for result in results)) if law is not None],
        "monitor": [monitor_of(result["curve"]).report()._asdict() for result in results],
        "sampling_share": float(np.mean([result["sampling_share"] for result in results])),
    }


def _kept(result: Mapping[str, Any]) -> float:
    """Return the share of the warm start's entropy that a run has left, on held-out problems."""
    return float(result["final"]["entropy"] / result["start"]["entropy"])


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: after training, on held-out problems",
        "means over seeds; d: difference from 'none' of the same seed, mean [min, max]",
    ]
    shares = ", ".join(f"{share:.2f} (seed {seed})" for seed, share in summary["entropy_lost"].items())
    lines.append(f"entropy lost by the uncontrolled runs: {shares or 'none is done'}")
    lines.append(f"seeds that count, which lost at least {COLLAPSE:g} of it:")
    lines += _table(summary["controls"]) if summary["controls"] else ["  none: the comparison is void"]
    if summary["void_seeds"]:
        lines += ["all seeds:", *_table(summary["controls_all"])]
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _table(controls: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"  {'control':15}{'seeds':>6}{'entropy kept':>14}{'pass@1':>8}{'d pass@1':>25}{'pass@8':>8}"
        f"{'d pass@8':>25}{'law R2':>8}{'forecast error':>16}{'monitor R2':>12}",
    ]
    for name, row in controls.items():
        final, difference = row["final"], row["difference"]
        lines.append(
            f"  {name:15}{len(row['seeds']):6}{np.mean(row['entropy_kept']):14.2f}"
            f"{np.mean(final['pass_at_1']):8.3f}{_spread(difference['pass_at_1']):>25}"
            f"{np.mean(final['pass_at_8']):8.3f}{_spread(difference['pass_at_8']):>25}"
            f"{_mean(row['law'], 'r_squared'):>8}{_mean(row['law'], 'forecast_error'):>16}"
            f"{_mean(row['monitor'], 'r_squared'):>12}"
        )
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.3f} [{min(values):+.3f}, {max(values):+.3f}]" if values else "-"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return f"{np.mean(values):.3f}" if values else "-"
