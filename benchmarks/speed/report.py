"""A speed summary as text."""

from __future__ import annotations

from typing import Any

from entroreg.benchmarks.cells import failures_as_text
from entroreg.benchmarks.speed.measuring import FLOOR
from entroreg.benchmarks.speed.worker import ENVIRONMENT, STAGES


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary of speed cells as lines for a terminal.

    Args:
        summary: with ``suite``, ``preset``, ``cells`` and ``failed``.
    """
    lines = [f"suite {summary['suite']}, preset {summary['preset']}: whole training steps, methods in turn"]
    for cell in summary["cells"]:
        plan, found = cell["plan"], cell["methods"]
        rows = {name: found[name] for name in plan["methods"] if name in found}  # JSON has them by the alphabet
        lines.append(
            f"{title(cell)}: {plan['rounds']} rounds of {plan['steps']} steps, then of {plan['updates']} updates"
        )
        lines += _steps(rows, cell["not_installed"])
        lines += _updates(rows, floor=found[FLOOR]["update_ms"]["median"])
        lines += _stages({name: row for name, row in rows.items() if "stage_ms" in row})
    return "\n".join(lines + failures_as_text(summary["failed"]))


def title(cell: dict[str, Any]) -> str:
    """Return what a cell measured, such as ``HalfCheetah-v5, 2 threads``."""
    threads = cell["threads"]
    return f"{ENVIRONMENT}, {threads} {'thread' if threads == 1 else 'threads'}"


def _steps(rows: dict[str, Any], not_installed: dict[str, str]) -> list[str]:
    lines = [
        f"  {'method':14}  {'ms/step [IQR]':>22}  {'steps/s':>8}  {'time / entroreg [min, max]':>26}"
        f"  {'peak MB':>8}  {'compile s':>9}"
    ]
    for name, row in rows.items():
        compiling = row["compile_seconds"]
        lines.append(
            f"  {name:14}  {_interval(row['step_ms'], 'q1', 'q3'):>22}  {row['steps_per_second']:8.1f}"
            f"  {_interval(row.get('time_over_entroreg')):>26}  {row['peak_memory_mb']:8.0f}"
            f"  {'-' if compiling is None else f'{compiling:.1f}':>9}"
        )
    return lines + [f"  {name:14}  not installed: {remedy}" for name, remedy in not_installed.items()]


def _updates(rows: dict[str, Any], floor: float) -> list[str]:
    head = f"  {'update alone':14}  {'ms [IQR]':>22}  time / that of its matrix products, {floor:.2f} ms [min, max]"
    return [head] + [
        f"  {name:14}  {_interval(row['update_ms'], 'q1', 'q3'):>22}  {_interval(row['update_over_gemms'])}"
        for name, row in rows.items()
        if "update_over_gemms" in row
    ]


def _stages(rows: dict[str, Any]) -> list[str]:
    lines = [f"  {'ms per step':14}" + "".join(f"  {name:>14}" for name in rows)]
    for stage in STAGES:
        values = [row["stage_ms"][stage] for row in rows.values()]
        lines.append(f"    {stage:12}" + "".join(f"  {'-' if v is None else f'{v:.3f}':>14}" for v in values))
    return lines


def _interval(spread: dict[str, float] | None, low: str = "min", high: str = "max") -> str:
    return "-" if spread is None else f"{spread['median']:.2f} [{spread[low]:.2f}, {spread[high]:.2f}]"
