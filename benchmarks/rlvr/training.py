"""One run with verifiable rewards: warm up, reinforce, evaluate, write everything down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.tensorboard import SummaryWriter

from entroreg import checkpoint
from entroreg.agents.rlvr.addition import END, Addition
from entroreg.agents.rlvr.controls import CONTROLS
from entroreg.agents.rlvr.evaluation import Evaluation, evaluate
from entroreg.agents.rlvr.grpo import GRPO, GRPOSettings
from entroreg.agents.rlvr.policy import PASS_AT, new_policy, training_rows
from entroreg.agents.rlvr.sampling import sample
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.agents.rlvr.warm_up import WarmUp, WarmUpFailedError, warm_up
from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.entropy_plot import plot_entropy_monitor
from entroreg.benchmarks.errors import RUN_FAILED, UserError
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.rlvr.options import TrainRLVR, from_json, to_json
from entroreg.benchmarks.rlvr.picture import plot_controls
from entroreg.benchmarks.rlvr.theory import monitor_of
from entroreg.benchmarks.run_folder import CHECKPOINT, claimed, parsed_config, set_threads, write_head
from entroreg.policy_gradient import EntropyMonitor
from entroreg.state_tree import join_state, split_state

FINAL_PROBLEMS = 1_024  # of the evaluations before and after; those along the way have fewer
_EVALUATION_SEED = 10_000  # added to the run's: far from the training seeds of a benchmark
_SAMPLING_ROUNDS = 5


class Start(NamedTuple):
    """What reinforcement starts from: a policy that solves a part of its task."""

    task: Addition
    model: CharTransformer
    warmed: WarmUp


def run_folder(options: TrainRLVR) -> Path:
    """Return the folder of a run: OUT/train/rlvr-CONTROL/addition-DIGITS/seed-SEED."""
    task = f"addition-{options.digits}"
    return Cell("train", "command", task, f"rlvr-{options.control}", options.seed).folder(options.out)


def train(options: TrainRLVR, folder: Path, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Train, evaluate, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked at every step; a stop saves a checkpoint and ends.

    Returns:
        The result, as in result.json, or None if stopped.

    Raises:
        UserError: the folder is taken, or the warm-up did not reach its accuracy.
        FloatingPointError: a loss became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.threads)
    with claimed(folder, overwrite=options.overwrite):
        write_head(folder, to_json(options))
        try:
            start = new_start(options, stop)
        except WarmUpFailedError as error:
            raise UserError(f"{error}: ask for less with --warm-up", RUN_FAILED) from error
        result = None if start is None else reinforce(options, start, folder, stop)
        if result is not None:
            write_result(folder, result)
        return result


def new_start(options: TrainRLVR, stop: Callable[[], bool] = lambda: False) -> Start | None:
    """Return a freshly warmed-up policy, or None if stopped; the same for every control."""
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    warmed = warm_up(model, task, until=options.warm_up, seed=options.seed, stop=stop)
    return None if warmed is None else Start(task, model, warmed)


def reinforce(
    options: TrainRLVR, start: Start, folder: Path, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Train a warmed-up policy by GRPO and evaluate it.

    Args:
        options: of the run.
        start: whose model is trained in place.
        folder: for metrics.jsonl, TensorBoard's files, the checkpoint and two pictures.
        stop: asked at every step; a stop saves a checkpoint and ends.

    Returns:
        The result, or None if stopped.
    """
    seed = _EVALUATION_SEED + options.seed
    before = evaluate(start.model, start.task, seed=seed, problems=FINAL_PROBLEMS, at=PASS_AT)
    settings = GRPOSettings(options.prompts, options.samples, options.updates, options.learning_rate)
    control = CONTROLS[options.control](options.target * before.entropy)
    trainer = GRPO(start.model, start.task, control, settings, seed=options.seed)
    started = time.perf_counter()
    monitor = EntropyMonitor()
    rows = _learn(trainer, monitor, options, folder, stop)
    seconds = time.perf_counter() - started
    if stop():
        return None
    after = evaluate(start.model, start.task, seed=seed, problems=FINAL_PROBLEMS, at=PASS_AT)
    report = monitor.report()
    curve = _blocks(rows)
    result = {
        "agent": "rlvr",
        "control": options.control,
        "seed": options.seed,
        "steps": options.steps,
        "parameters": sum(parameter.numel() for parameter in start.model.parameters()),
        "warm_up": start.warmed._asdict(),
        "start": _as_json(before),
        "final": _as_json(after),
        "score": after.pass_at[1],
        "curve": curve,
        "evaluations": [_evaluated(row) for row in rows if "pass_at_1" in row],
        "monitor": {name: getattr(report, name) for name in ("eta", "correlation", "r_squared")},
        "train_seconds": round(seconds, 1),
        "sampling_share": round(_sampling_seconds(trainer) * options.steps / seconds, 3),
    }
    plot_controls([result], folder / "learning_curve.png")
    columns = monitor_of(curve).columns()
    plot_entropy_monitor(columns, folder / "entropy_monitor.png", "Change of policy entropy in ten rollouts")
    return result


def _learn(
    trainer: GRPO, monitor: EntropyMonitor, options: TrainRLVR, folder: Path, stop: Callable[[], bool]
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    title = f"rlvr {options.control} on {options.digits}-digit addition"
    evaluation_seed = _EVALUATION_SEED + options.seed
    with (
        (folder / "metrics.jsonl").open("w") as metrics,
        SummaryWriter(str(folder / "tb")) as writer,
        show_progress(title, options.steps) as progress,
    ):
        found = training_rows(trainer, options.steps, evaluate_every=options.evaluate_every, seed=evaluation_seed)
        for row in found:
            rows.append(row)
            metrics.write(json.dumps(row) + "\n")
            metrics.flush()
            for name, value in row.items():
                writer.add_scalar(f"train/{name}", value, trainer.steps)
            monitor.update(trainer.steps, row["entropy"], row["covariance"])
            monitor.write(writer)
            progress.advance(trainer.steps, [{**row, "return": row["reward"]}])
            stopping = stop()
            if "pass_at_1" in row or stopping:
                save_trainer(trainer, folder / CHECKPOINT)
            if stopping:
                break
    return rows


def save_trainer(trainer: GRPO, folder: Path) -> None:
    """Write everything that the next step depends on as an atomic checkpoint."""
    tensors, tree = split_state(trainer.state_dict())
    checkpoint.save_checkpoint(folder, tensors, {"agent": "rlvr", "state": tree})


def evaluate_run(folder: Path, config: dict[str, Any], problems: int) -> dict[str, float]:
    """Return pass@k and entropy of the policy of a run folder, on the problems that the run itself ended with.

    Args:
        folder: of a run of ``entroreg train rlvr``.
        config: of the run, from ``read_config``.
        problems: held out.

    Raises:
        UserError: the folder is no such run, or has no checkpoint.
        CheckpointError: the checkpoint is damaged.
    """
    options = parsed_config(folder, config, from_json)
    try:
        tensors, metadata = checkpoint.load_checkpoint(folder / CHECKPOINT)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no checkpoint yet: train longer, or lower --evaluate-every") from error
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    try:
        model.load_state_dict(join_state(tensors, metadata["state"])["model"])
    except (KeyError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the checkpoint in {folder} does not fit its config.json: {reason}") from error
    return _as_json(evaluate(model, task, seed=_EVALUATION_SEED + options.seed, problems=problems, at=PASS_AT))


def _as_json(found: Evaluation) -> dict[str, float]:
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
