"""One training run in one folder: train, evaluate, write everything down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from entroreg.agents import SAC, DiscreteSAC
from entroreg.agents.agent_checkpoint import load_agent, save_agent
from entroreg.benchmarks import cells
from entroreg.benchmarks.building import build_agent, make_environment
from entroreg.benchmarks.cells import Cell
from entroreg.benchmarks.curves import plot_learning_curve
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.evaluation import episode_returns, greedy_policy, random_policy
from entroreg.benchmarks.monitor import Checkpointer, EpisodeRecorder, StepWatch
from entroreg.benchmarks.options import TrainOptions, from_json, kind_of, to_json
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.run_folder import CHECKPOINT, claimed, parsed_config, set_threads, write_head
from entroreg.benchmarks.signals import StopFlag


def run_folder(options: TrainOptions) -> Path:
    """Return the folder of a run: OUT/train/AGENT/ENV/seed-SEED."""
    run = options.run
    return Cell("train", "command", run.env, kind_of(options), run.seed).folder(run.out)


def train(options: TrainOptions, folder: Path, stop: StopFlag) -> dict[str, Any] | None:
    """Train, evaluate against the random policy, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: read at every step; a stop saves a checkpoint and ends.

    Returns:
        The result, as in result.json, or None if stopped.

    Raises:
        UserError: the options do not fit the environment, or the folder is taken.
        FloatingPointError: a loss became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.run.threads)
    env = make_environment(options.run.env)
    try:
        agent = build_agent(options, env)
        with claimed(folder, overwrite=options.run.overwrite):
            write_head(folder, to_json(options))
            started = time.perf_counter()
            rows = _learn(agent, options, folder, stop)
            seconds = time.perf_counter() - started
            return conclude(agent, env, options, folder, rows, seconds, stop)
    finally:
        env.close()


def conclude(
    agent: SAC | DiscreteSAC,
    env: gym.Env[Any, Any],
    options: TrainOptions,
    folder: Path,
    rows: list[dict[str, float]],
    train_seconds: float,
    stop: StopFlag,
) -> dict[str, Any] | None:
    """Evaluate a trained agent, draw its learning curve and write its result.

    Args:
        agent: trained.
        env: of the agent.
        options: that it was trained with.
        folder: of the run.
        rows: of its episodes.
        train_seconds: that training took.
        stop: read at every step; a stop ends at once.

    Returns:
        The result, as in result.json, or None if stopped.
    """
    result = None if stop() else evaluate(agent, env, options, options.run.eval_episodes, stop)
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
    """
    options = parsed_config(folder, config, from_json)
    env = make_environment(options.run.env)
    agent = build_agent(options, env)
    try:
        load_agent(agent, folder / CHECKPOINT)
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no checkpoint yet: train longer, or lower --checkpoint-every") from error
    except (KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the checkpoint in {folder} does not fit its config.json: {reason}") from error
    return agent, env, options


def _learn(agent: SAC | DiscreteSAC, options: TrainOptions, folder: Path, stop: StopFlag) -> list[dict[str, float]]:
    run = options.run
    title = f"{kind_of(options)} on {run.env}"
    with show_progress(title, run.steps) as progress, recording(agent, options, folder) as (recorder, checkpointer):
        watch = StepWatch(progress, recorder.rows, stop)
        agent.learn(run.steps, callback=[recorder, checkpointer, watch])
    return recorder.rows


@contextmanager
def recording(
    agent: SAC | DiscreteSAC, options: TrainOptions, folder: Path
) -> Iterator[tuple[EpisodeRecorder, Checkpointer]]:
    """Log an agent's training into its run folder; at the end of the block save the agent.

    Args:
        agent: to be trained inside the block.
        options: of the run.
        folder: of the run.

    Yields:
        The callbacks to train with.
    """
    agent.set_logger(Logger(str(folder), [TensorBoardOutputFormat(str(folder / "tb"))]))
    with (folder / "metrics.jsonl").open("w") as metrics:
        yield EpisodeRecorder(metrics), Checkpointer(folder / CHECKPOINT, options.run.checkpoint_every)
    agent.logger.dump(agent.num_timesteps)  # what is left since the last one
    agent.logger.close()
    save_agent(agent, folder / CHECKPOINT)
    agent.save(folder / "model.zip")


def _draw(options: TrainOptions, folder: Path, result: dict[str, Any]) -> None:
    title = f"{kind_of(options)} on {result['env']}, seed {result['seed']}: {result['return_mean']:.1f} at the end"
    plot_learning_curve(
        folder / "metrics.jsonl",
        folder / "learning_curve.png",
        title,
        random_return=result["random_return_mean"],
    )
