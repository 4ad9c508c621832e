"""One training run in one folder: train, evaluate, write everything down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from entroreg.agents import SAC, DiscreteSAC
from entroreg.agents.agent_checkpoint import load_agent
from entroreg.benchmarks import cells
from entroreg.benchmarks.building import (
    build_agent,
    make_environment,
    make_training_environment,
    require_trainable,
)
from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.curves import plot_learning_curve
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.evaluation import episode_returns, greedy_policy, random_policy
from entroreg.benchmarks.monitor import StepWatch
from entroreg.benchmarks.options import TrainOptions, from_json, kind_of, to_json
from entroreg.benchmarks.progress import Progress, show_progress
from entroreg.benchmarks.recording import recording, steps_of, trained_before
from entroreg.benchmarks.run_folder import (
    CHECKPOINT,
    claimed,
    parsed_config,
    require_same_run,
    set_threads,
    write_head,
)
from entroreg.benchmarks.signals import StopFlag

MAY_DIFFER = ("out", "threads", "overwrite", "resume", "json", "eval_episodes", "checkpoint_every", "keep")


def run_folder(options: TrainOptions) -> Path:
    """Return the folder of a run: OUT/train/AGENT/ENV/seed-SEED."""
    run = options.run
    return Cell("train", "command", run.env, kind_of(options), run.seed).folder(run.out)


def train(options: TrainOptions, folder: Path, stop: StopFlag) -> dict[str, Any] | None:
    """Train, evaluate against the random policy, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: read between rollouts, where a stop saves a checkpoint and ends, and at every step of the evaluation.

    Returns:
        The result, as in result.json, or None if stopped.

    Raises:
        UserError: the options do not fit the environment, the folder is taken, or it holds another run.
        FloatingPointError: a loss became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    run = options.run
    set_threads(run.threads)
    if run.resume and cells.is_done(folder):
        require_same_run(folder, to_json(options), MAY_DIFFER)
        return cells.read_result(folder)
    env, reason = make_training_environment(run.env)
    try:
        require_trainable(options, env)
        agent = build_agent(options, env)
        with claimed(folder, overwrite=run.overwrite, resume=run.resume):
            begin_or_go_on(options, folder)
            with show_progress(f"{kind_of(options)} on {run.env}", run.steps) as progress:
                if reason is not None:
                    progress.note(f"checkpoints are written between episodes: {reason}")
                trained = _learn(agent, options, folder, progress, stop)
            return None if trained is None else conclude(agent, options, folder, *trained, stop)
    finally:
        env.close()


def begin_or_go_on(options: TrainOptions, folder: Path) -> None:
    """Write down what is run, or see to it that the folder is of the same run.

    Raises:
        UserError: it is of another one.
    """
    if (folder / "config.json").exists():
        require_same_run(folder, to_json(options), MAY_DIFFER)
    else:
        write_head(folder, to_json(options))


def conclude(
    agent: SAC | DiscreteSAC,
    options: TrainOptions,
    folder: Path,
    rows: list[dict[str, float]],
    train_seconds: float,
    stop: StopFlag,
) -> dict[str, Any] | None:
    """Evaluate a trained agent, draw its learning curve and write its result.

    Args:
        agent: trained.
        options: that it was trained with.
        folder: of the run.
        rows: of its episodes.
        train_seconds: that training took.
        stop: read at every step; a stop ends at once.

    Returns:
        The result, as in result.json, or None if stopped.
    """
    env = make_environment(options.run.env)  # as it is when the run is evaluated later
    try:
        result = None if stop() else evaluate(agent, env, options, options.run.eval_episodes, stop)
    finally:
        env.close()
    if result is None:
        return None
    result |= {
        "train_seconds": round(train_seconds, 1),
        "train_steps_per_second": round(agent.num_timesteps / train_seconds, 1),
        "alpha": span([row["alpha"] for row in rows if "alpha" in row]),
        "entropy": span([row["entropy"] for row in rows if "entropy" in row]),
    }
    _draw(options, folder, result)
    cells.write_result(folder, result)
    return result


def evaluate(
    agent: SAC | DiscreteSAC, env: gym.Env[Any, Any], options: TrainOptions, episodes: int, stop: StopFlag
) -> dict[str, Any] | None:
    """Return the agent's returns and, on the same starts, the random policy's; None if stopped."""
    seed = options.run.seed + 10_000  # far from the training seeds of a benchmark
    returns = episode_returns(greedy_policy(agent), env, episodes, seed, stop=stop)
    chance = episode_returns(random_policy(env, seed), env, episodes, seed, stop=stop)
    if stop():
        return None
    return {
        "agent": kind_of(options),
        "env": options.run.env,
        "seed": options.run.seed,
        "steps": agent.num_timesteps,
        "episodes": episodes,
        "returns": returns,
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "random_returns": chance,
        "random_return_mean": float(np.mean(chance)),
    }


def span(values: list[float]) -> dict[str, float] | None:
    """Return the smallest, largest and last of some values, or None where there are none."""
    return {"min": min(values), "max": max(values), "final": values[-1]} if values else None


def load_run(folder: Path, config: dict[str, Any]) -> tuple[SAC | DiscreteSAC, gym.Env[Any, Any], TrainOptions]:
    """Return the agent of a run folder, with its environment and options; nothing is unpickled.

    Args:
        folder: of a run of ``entroreg train``.
        config: of the run, from ``read_config``.

    Raises:
        UserError: the folder is no such run, or has no checkpoint.
        CheckpointError: the checkpoint is damaged.
        UnfitCheckpointError: it does not fit the run's config.json.
    """
    options = parsed_config(folder, config, from_json)
    env = make_environment(options.run.env)
    agent = build_agent(options, env)
    try:
        load_agent(agent, folder / CHECKPOINT)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no checkpoint yet: train longer, or lower --checkpoint-every") from error
    return agent, env, options


def _learn(
    agent: SAC | DiscreteSAC, options: TrainOptions, folder: Path, progress: Progress, stop: StopFlag
) -> tuple[list[dict[str, float]], float] | None:
    """Train to the end; return the rows of the episodes and the seconds, or None if stopped before."""
    run = options.run
    before = trained_before(agent, folder, run.steps)
    if before is not None:
        return before
    checkpoint = folder / CHECKPOINT
    begin = None if steps_of(checkpoint) is None else checkpoint
    with recording(agent, run, folder, begin, stop) as recorded:
        agent.learn(run.steps, callback=[*recorded.callbacks, StepWatch(progress, recorded.rows)])
        if agent.num_timesteps < run.steps or recorded.stopped:
            return None
        recorded.finish()
        return recorded.rows, recorded.seconds


def _draw(options: TrainOptions, folder: Path, result: dict[str, Any]) -> None:
    title = f"{kind_of(options)} on {result['env']}, seed {result['seed']}: {result['return_mean']:.1f} at the end"
    plot_learning_curve(
        folder / "metrics.jsonl",
        folder / "learning_curve.png",
        title,
        random_return=result["random_return_mean"],
    )
