"""What the cells of the suite distillation say together: accuracies over seeds, and what balance changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.benchmarks import bench
from entroreg.benchmarks.cells import Cell, failures_as_text, is_done, read_result
from entroreg.benchmarks.distillation.picture import plot_trade_off
from entroreg.benchmarks.statistics import stratified_bootstrap_interval

TESTS = ("clean", "fgsm", "pgd", "pgd-trades", "cw", "autoattack")
# Nothing is learned from attacks that fool no plain network, nor from a robust training that is not robust.
MOST_PLAIN = 0.10
LEAST_ADVERSARIAL = {"mnist": 0.85}
PAIRS = (
    ("mtard", "adversarial"),
    ("b-mtard", "adversarial"),
    ("b-mtard", "rslad"),
    ("b-mtard", "mtard"),
    ("b-mtard-sign", "mtard"),
)


def score_of(accuracy: Mapping[str, Any]) -> str:
    """Return the name of the score: the mean of clean accuracy and that under the strongest attack there is."""
    strongest = next(name for name in ("autoattack", "pgd", "fgsm") if name in accuracy)
    return f"weighted_{strongest}"


def summarise(cells: list[Cell], out: Path) -> dict[str, Any]:
    """Return accuracies over seeds for each method, differences within seeds, and which seeds are void.

    Args:
        cells: all cells of the preset, done or not.
        out: folder of all runs.

    Returns:
        What ``bench.summarise`` returns, the score being the weighted robust accuracy; ``methods``: by task and
        method lists over seeds of accuracies, with intervals of their means; ``differences``: between pairs of
        methods; ``void``: for each task the seeds whose plain or adversarial training failed, and why; ``balance``:
        what `MatchTemperature` needed on the teachers.
    """
    summary = bench.summarise(cells, out)
    done = {cell: read_result(cell.folder(out)) for cell in cells if is_done(cell.folder(out))}
    tasks: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for cell, result in done.items():
        tasks.setdefault(cell.task, {}).setdefault(cell.method, {})[cell.seed] = result
    return summary | {
        "methods": {
            task: {method: _row(results) for method, results in methods.items()} for task, methods in tasks.items()
        },
        "differences": {task: _differences(methods) for task, methods in tasks.items()},
        "void": {task: void_seeds(task, methods) for task, methods in tasks.items()},
        "balance": {
            task: [result["teachers"] for result in methods.get("b-mtard", {}).values()]
            for task, methods in tasks.items()
        },
    }


def void_seeds(task: str, methods: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the seeds that say nothing, with the reason.

    Args:
        task: its name.
        methods: results by method and seed.
    """
    found = {}
    for seed, result in methods.get("plain", {}).items():
        if result["accuracy"]["pgd"] >= MOST_PLAIN:
            found[str(seed)] = f"plain training has {result['accuracy']['pgd']:.3f} under PGD-20"
    least = LEAST_ADVERSARIAL.get(task, 0.0)
    for seed, result in methods.get("adversarial", {}).items():
        if result["accuracy"]["pgd"] < least:
            found[str(seed)] = f"adversarial training has {result['accuracy']['pgd']:.3f} under PGD-20"
    return found


def _row(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results.values()]
    names = [
        name
        for name in (*TESTS, *(f"weighted_{test}" for test in TESTS))
        if all(name in accuracy for accuracy in accuracies)
    ]
    values = {name: [accuracy[name] for accuracy in accuracies] for name in names}
    return {
        "seeds": list(results),
        "accuracy": values,
        "interval": {name: _interval(values[name]) for name in names},
        "images": accuracies[0]["images"],
        "autoattack_images": accuracies[0].get("autoattack_images"),
        "train_seconds": [result["train_seconds"] for result in results.values()],
        "gap": [_gap(result["trace"]) for result in results.values()],
        "temperatures": [_last(result["trace"], "temperature_") for result in results.values()],
    }


def _interval(values: Sequence[float]) -> list[float] | None:
    rng = np.random.default_rng(0)
    found = stratified_bootstrap_interval(np.array(values)[:, None], np.mean, rng=rng)
    return None if found is None else [round(end, 5) for end in found]


def _differences(methods: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, dict[str, list[float]]]:
    found = {}
    for ours, theirs in PAIRS:
        pairs = [
            (result["accuracy"], methods[theirs][seed]["accuracy"])
            for seed, result in methods.get(ours, {}).items()
            if seed in methods.get(theirs, {})
        ]
        if pairs:
            names = [name for name in pairs[0][0] if name in TESTS or name.startswith("weighted_")]
            found[f"{ours} - {theirs}"] = {
                name: [round(ours[name] - theirs[name], 5) for ours, theirs in pairs] for name in names
            }
    return found


def _gap(trace: Mapping[str, Sequence[float]]) -> float | None:
    """Return the mean difference of two teachers' entropies over the last tenth of the training."""
    if "entropy_1" not in trace:
        return None
    gaps = np.abs(np.array(trace["entropy_0"]) - np.array(trace["entropy_1"]))
    return float(gaps[-max(1, len(gaps) // 10) :].mean())


def _last(trace: Mapping[str, Sequence[float]], prefix: str) -> list[float]:
    return [values[-1] for name, values in trace.items() if name.startswith(prefix)]


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as lines for a terminal."""
    lines = [
        f"suite {summary['suite']}, preset {summary['preset']}: accuracy in %, mean over seeds [95 % interval]"
    ]
    for task, methods in summary["methods"].items():
        first = next(iter(methods.values()))
        tests = [name for name in TESTS if name in first["accuracy"]]
        images = f"{first['images']} attacked images"
        if first["autoattack_images"]:
            images += f", autoattack on the first {first['autoattack_images']}"
        lines += [f"{task}: {images}", f"  {'':13}{'seeds':>6}" + "".join(f"{name:>23}" for name in tests) + _TAIL]
        lines += [_line(method, row, tests) for method, row in methods.items()]
        for pair, difference in summary["differences"][task].items():
            cells = "".join(f"{_spread(difference[name]):>23}" for name in tests)
            lines.append(f"  {pair:19}{cells}")
        lines += [f"  seed {seed} is void: {reason}" for seed, reason in summary["void"][task].items()]
        lines += [_balance(found) for found in summary["balance"][task]]
    return "\n".join(lines + failures_as_text(summary["failed"]))


_TAIL = f"{'H gap':>8}{'temperatures':>16}{'train s':>9}"


def _line(method: str, row: Mapping[str, Any], tests: Sequence[str]) -> str:
    gaps = [gap for gap in row["gap"] if gap is not None]
    gap = f"{np.mean(gaps):.4f}" if gaps else "-"
    last = [values for values in row["temperatures"] if values]
    temperatures = " ".join(f"{value:.2f}" for value in np.mean(last, axis=0)) if last else "-"
    return (
        f"  {method:13}{len(row['seeds']):6}"
        + "".join(f"{_mean(row['accuracy'][name], row['interval'][name]):>23}" for name in tests)
        + f"{gap:>8}{temperatures:>16}{np.mean(row['train_seconds']):9.0f}"
    )


def _mean(values: Sequence[float], interval: Sequence[float] | None) -> str:
    ends = "" if interval is None else f" [{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    return f"{100 * np.mean(values):.2f}{ends}"


def _spread(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):+.2f} [{100 * min(values):+.2f}, {100 * max(values):+.2f}]"


def _balance(found: Mapping[str, Any]) -> str:
    clean, robust = found["entropies"]
    parts = [
        f"{mode} {found[mode]['updates'] or 'more than 20000'} updates, chatter {max(found[mode]['chatter']):.1e}, "
        f"gap {found[mode]['gap']:.4f}"
        for mode in ("solve", "sign")
    ]
    return f"  teachers' entropies {clean:.4f} and {robust:.4f} nats; until equal within 0.01: {'; '.join(parts)}"


def plot(summary: dict[str, Any], picture: Path) -> None:
    """Draw clean against robust accuracy of all methods.

    Args:
        summary: of the suite.
        picture: of the PNG.
    """
    first = next(iter(next(iter(summary["methods"].values())).values()))["accuracy"]
    plot_trade_off(summary["methods"], score_of(first).removeprefix("weighted_"), picture)
