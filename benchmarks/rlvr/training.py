"""One run with verifiable rewards: warm up, reinforce, evaluate, write everything down."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.tensorboard import SummaryWriter

from entroreg import checkpoint
from entroreg.agents.rlvr.addition import Addition
from entroreg.agents.rlvr.controls import CONTROLS
from entroreg.agents.rlvr.evaluation import evaluate
from entroreg.agents.rlvr.grpo import GRPO, GRPOSettings
from entroreg.agents.rlvr.policy import PASS_AT, new_policy, training_rows
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.agents.rlvr.warm_up import WarmingUp, WarmUp, WarmUpFailedError, warm_up
from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.entropy_plot import plot_entropy_monitor
from entroreg.benchmarks.errors import RUN_FAILED, UserError
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.rlvr.options import TrainRLVR, from_json, to_json
from entroreg.benchmarks.rlvr.outcome import outcome, passes
from entroreg.benchmarks.rlvr.picture import plot_controls
from entroreg.benchmarks.rlvr.room import require_room, require_room_to_evaluate
from entroreg.benchmarks.rlvr.run_checkpoint import Rollouts, load_run, save_rollouts, save_warm_up
from entroreg.benchmarks.rlvr.theory import monitor_of
from entroreg.benchmarks.row_file import METRICS, RowFile
from entroreg.benchmarks.run_folder import (
    CHECKPOINT,
    claimed,
    parsed_config,
    require_same_run,
    set_threads,
    write_head,
)
from entroreg.state_tree import join_state

FINAL_PROBLEMS = 1_024  # of the evaluations before and after; those along the way have fewer
_EVALUATION_SEED = 10_000  # added to the run's: far from the training seeds of a benchmark
_WARM_UP_SAVES = 100  # batches between checkpoints of the warm-up, some ten seconds
_MAY_DIFFER = ("out", "threads", "overwrite", "resume", "json", "checkpoint_every", "keep")


class Start(NamedTuple):
    """What reinforcement starts from: a policy that solves a part of its task."""

    task: Addition
    model: CharTransformer
    warmed: WarmUp


def run_folder(options: TrainRLVR) -> Path:
    """Return the folder of a run: OUT/train/rlvr-CONTROL/addition-DIGITS/seed-SEED."""
    task = f"addition-{options.digits}"
    return Cell("train", "command", task, f"rlvr-{options.control}", options.seed).folder(options.out)


def train(
    options: TrainRLVR,
    folder: Path,
    stop: Callable[[], bool],
    note: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any] | None:
    """Train, evaluate, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked at every batch of the warm-up, every rollout and every character of the evaluations before and
            after; a stop saves a checkpoint and ends.
        note: told of the warm-up, should there be one.

    Returns:
        The result, as in result.json, or None if stopped.

    Raises:
        UserError: the folder is taken, it holds another run to go on with, or the warm-up reached too little.
        FloatingPointError: a loss became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.threads)
    if options.resume and is_done(folder):
        require_same_run(folder, to_json(options), _MAY_DIFFER)
        return read_result(folder)
    require_room(options)
    with claimed(folder, overwrite=options.overwrite, resume=options.resume):
        if (folder / "config.json").exists():
            require_same_run(folder, to_json(options), _MAY_DIFFER)
        else:
            write_head(folder, to_json(options))
        start = _warmed_up(options, folder, stop, note)
        result = None if start is None else reinforce(options, start, folder, stop)
        if result is not None:
            write_result(folder, result)
        return result


def new_start(options: TrainRLVR) -> Start:
    """Return a freshly warmed-up policy, the same for every control; WarmUpFailedError if it learns too little."""
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    warmed = warm_up(WarmingUp(model, task, seed=options.seed), until=options.warm_up)
    assert warmed is not None, "nothing stops it"
    return Start(task, model, warmed)


def reinforce(
    options: TrainRLVR, start: Start, folder: Path, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Train a warmed-up policy by GRPO and evaluate it; go on where the folder's checkpoint ends, if there is one.

    Args:
        options: of the run.
        start: whose model is trained in place.
        folder: for metrics.jsonl, TensorBoard's files, the checkpoint and two pictures.
        stop: asked at every rollout and every character of the evaluations; a stop saves a checkpoint and ends.

    Returns:
        The result, or None if stopped.
    """
    seed = _EVALUATION_SEED + options.seed
    run = load_run(folder)
    if not isinstance(run, Rollouts):
        before = evaluate(start.model, start.task, seed=seed, problems=FINAL_PROBLEMS, at=PASS_AT, stop=stop)
        if stop():
            return None
        run = Rollouts(start.warmed, passes(before))
    settings = GRPOSettings(options.prompts, options.samples, options.updates, options.learning_rate)
    with checkpoint.refusing_unfit(folder / CHECKPOINT):
        control = CONTROLS[options.control](options.target * run.before["entropy"])
        trainer = GRPO(start.model, start.task, control, settings, seed=options.seed)
        if run.state is not None:
            trainer.load_state_dict(run.state)
    rows, seconds = _learn(trainer, run, options, folder, stop)
    if stop():
        return None
    after = evaluate(start.model, start.task, seed=seed, problems=FINAL_PROBLEMS, at=PASS_AT, stop=stop)
    if stop():
        return None
    result = outcome(options, trainer, run, rows, passes(after), seconds)
    plot_controls([result], folder / "learning_curve.png")
    columns = monitor_of(result["curve"]).columns()
    plot_entropy_monitor(columns, folder / "entropy_monitor.png", "Change of policy entropy in ten rollouts")
    return result


def _warmed_up(
    options: TrainRLVR, folder: Path, stop: Callable[[], bool], note: Callable[[str], None]
) -> Start | None:
    """Return what the rollouts start from, warmed up where the checkpoint in the folder is not; None if stopped."""
    saved = load_run(folder)
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    if isinstance(saved, Rollouts):
        return Start(task, model, saved.warmed)
    warming = WarmingUp(model, task, seed=options.seed)
    if saved is not None:
        with checkpoint.refusing_unfit(folder / CHECKPOINT):
            warming.load_state_dict(saved)
    note(f"warming up until {options.warm_up:.0%} of the answers are right, a minute or two")

    def after_step() -> bool:
        stopping, ends = stop(), warming.accuracy >= options.warm_up
        if stopping or ends or warming.steps % _WARM_UP_SAVES == 0:
            save_warm_up(warming, folder, keep=options.keep)
        return not stopping

    try:
        warmed = warm_up(warming, until=options.warm_up, after_step=after_step)
    except WarmUpFailedError as error:
        raise UserError(f"{error}: ask for less with --warm-up and --overwrite", RUN_FAILED) from error
    return None if warmed is None else Start(task, model, warmed)


def _learn(
    trainer: GRPO, run: Rollouts, options: TrainRLVR, folder: Path, stop: Callable[[], bool]
) -> tuple[list[dict[str, Any]], float]:
    """Take the rollouts that are left, and return all rows and the seconds of all rollouts."""
    title = f"rlvr {options.control} on {options.digits}-digit addition"
    begun = time.perf_counter()
    with (
        RowFile(folder / METRICS, run.rows) as metrics,
        SummaryWriter(str(folder / "tb"), purge_step=trainer.steps + 1) as writer,
        show_progress(title, options.steps) as progress,
    ):
        monitor = monitor_of(metrics.rows)
        evaluation = {"evaluate_every": options.evaluate_every, "seed": _EVALUATION_SEED + options.seed}
        for row in training_rows(trainer, options.steps, **evaluation):
            metrics.write(row)
            for name, value in row.items():
                writer.add_scalar(f"train/{name}", value, trainer.steps)
            monitor.update(trainer.steps, row["entropy"], row["covariance"])
            monitor.write(writer)
            progress.advance(trainer.steps, [{**row, "return": row["reward"]}])
            stopping = stop()
            if stopping or trainer.steps % options.checkpoint_every == 0 or trainer.steps == options.steps:
                metrics.sync()
                seconds = run.seconds + time.perf_counter() - begun
                so_far = run._replace(rows=len(metrics.rows), seconds=seconds)
                save_rollouts(trainer, so_far, folder, keep=options.keep)
            if stopping:
                break
        return metrics.rows, run.seconds + time.perf_counter() - begun


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
    require_room_to_evaluate(options, problems)
    try:
        tensors, metadata = checkpoint.load_checkpoint(folder / CHECKPOINT)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no checkpoint yet: train longer, or lower --evaluate-every") from error
    task = Addition(options.digits)
    model = new_policy(task, options.seed)
    with checkpoint.refusing_unfit(folder / CHECKPOINT):
        model.load_state_dict(join_state(tensors, metadata["state"])["model"])
    return passes(evaluate(model, task, seed=_EVALUATION_SEED + options.seed, problems=problems, at=PASS_AT))
