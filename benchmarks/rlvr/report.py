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
        What ``bench.summarise`` returns, its score being pass@1 after training; ``controls``: for each control
        means over seeds with the differences from the uncontrolled run of the same seed; ``entropy_lost`` by the
        uncontrolled runs, and ``void``: whether that is too little to say anything.
    """
    summary = bench.summarise(cells, out)
    done = [read_result(cell.folder(out)) for cell in cells if is_done(cell.folder(out))]
    plain = {result["seed"]: result for result in done if result["control"] == UNCONTROLLED}
    summary["controls"] = {
        control: _row([result for result in done if result["control"] == control], plain)
        for control in dict.fromkeys(result["control"] for result in done)
    }
    lost = [1.0 - _kept(result) for result in plain.values()]
    return summary | {"entropy_lost": lost, "void": not lost or min(lost) < COLLAPSE}


def _row(results: Sequence[Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    paired = [(result, plain[result["seed"]]) for result in results if result["seed"] in plain]
    names = ("pass_at_1", "pass_at_8", "entropy")
    return {
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
        f"  {'control':15}{'seeds':>8}{'entropy kept':>14}{'pass@1':>8}{'d pass@1':>25}{'pass@8':>8}"
        f"{'d pass@8':>25}{'law R2':>8}{'forecast error':>16}{'monitor R2':>12}",
    ]
    seeds = {
        row["method"]: f"{row['done']} of {row['seeds']}" for rows in summary["tasks"].values() for row in rows
    }
    for name, row in summary["controls"].items():
        final, difference = row["final"], row["difference"]
        lines.append(
            f"  {name:15}{seeds[name]:>8}{np.mean(row['entropy_kept']):14.2f}"
            f"{np.mean(final['pass_at_1']):8.3f}{_spread(difference['pass_at_1']):>25}"
            f"{np.mean(final['pass_at_8']):8.3f}{_spread(difference['pass_at_8']):>25}"
            f"{_mean(row['law'], 'r_squared'):>8}{_mean(row['law'], 'forecast_error'):>16}"
            f"{_mean(row['monitor'], 'r_squared'):>12}"
        )
    lost = ", ".join(f"{share:.2f}" for share in summary["entropy_lost"])
    verdict = f"void: it must be at least {COLLAPSE}" if summary["void"] else f"at least {COLLAPSE}, as it must be"
    lines.append(f"entropy lost by the uncontrolled runs: {lost or 'none is done'} ({verdict})")
    return "\n".join(lines + failures_as_text(summary["failed"]))


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):+.3f} [{min(values):+.3f}, {max(values):+.3f}]" if values else "-"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return f"{np.mean(values):.3f}" if values else "-"
