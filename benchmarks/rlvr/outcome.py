"""What a run with verifiable rewards found, as JSON data."""

from __future__ import annotations

import time
from typing import Any

import torch

from entroreg.agents.rlvr.addition import END
from entroreg.agents.rlvr.evaluation import Evaluation
from entroreg.agents.rlvr.grpo import GRPO
from entroreg.agents.rlvr.sampling import sample
from entroreg.benchmarks.rlvr.options import TrainRLVR
from entroreg.benchmarks.rlvr.run_checkpoint import Rollouts
from entroreg.benchmarks.rlvr.theory import monitor_of

_SAMPLING_ROUNDS = 5


def outcome(
    options: TrainRLVR,
    trainer: GRPO,
    run: Rollouts,
    rows: list[dict[str, Any]],
    after: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    """Return the result of a run, as in result.json.

    Args:
        options: of the run.
        trainer: after all rollouts.
        run: how it began.
        rows: of all rollouts.
        after: pass@k and entropy after them.
        seconds: of all rollouts.
    """
    report = monitor_of(rows).report()
    return {
        "agent": "rlvr",
        "control": options.control,
        "seed": options.seed,
        "steps": options.steps,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "warm_up": run.warmed._asdict(),
        "start": run.before,
        "final": after,
        "score": after["pass_at_1"],
        "curve": _blocks(rows),
        "evaluations": [_evaluated(row) for row in rows if "pass_at_1" in row],
        "monitor": {name: getattr(report, name) for name in ("eta", "correlation", "r_squared")},
        "train_seconds": round(seconds, 1),
        "sampling_share": round(_sampling_seconds(trainer) * options.steps / seconds, 3),
    }


def passes(found: Evaluation) -> dict[str, float]:
    """Return pass@k and entropy by name."""
    return {**{f"pass_at_{k}": value for k, value in found.pass_at.items()}, "entropy": found.entropy}


def _evaluated(row: dict[str, float]) -> dict[str, float]:
    return {name: row[name] for name in ("step", "pass_at_1", "pass_at_8", "held_out_entropy")}


def _blocks(rows: list[dict[str, float]], length: int = 10) -> list[dict[str, float]]:
    """Return the means of the metrics over blocks of steps; ``step`` is a block's last one."""
    blocks = []
    for begin in range(0, len(rows), length):
        part = rows[begin : begin + length]
        names = [name for name in rows[0] if name not in ("step", "pass_at_1", "pass_at_8", "held_out_entropy")]
        means = {name: round(sum(row[name] for row in part) / len(part), 6) for name in names}
        blocks.append({"step": part[-1]["step"], **means})
    return blocks


def _sampling_seconds(trainer: GRPO) -> float:
    """Return the median time of drawing one rollout's answers."""
    settings, task = trainer.settings, trainer.task
    generator = torch.Generator().manual_seed(0)
    prompts = task.draw(settings.prompts, generator).prompts
    times = []
    for _ in range(_SAMPLING_ROUNDS):
        begun = time.perf_counter()
        sample(
            trainer.model,
            prompts,
            length=task.answer_length,
            end=END,
            samples=settings.samples,
            generator=generator,
        )
        times.append(time.perf_counter() - begun)
    return sorted(times)[_SAMPLING_ROUNDS // 2]
