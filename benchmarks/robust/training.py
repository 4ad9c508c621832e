"""One adversarial training in one folder: train, evaluate, write everything down; stopped, it can go on exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

from entroreg.agents.adversarial import TwoPlayers
from entroreg.agents.adversarial.curricula import floor_of
from entroreg.agents.adversarial.players import Frozen
from entroreg.atomic import write_json
from entroreg.benchmarks.cells import Cell, is_done, read_result, write_result
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.evaluation import Act, episode_returns
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.robust.adversaries import returns_against
from entroreg.benchmarks.robust.building import (
    as_user_errors,
    build_training,
    floor_from,
    require_trainable,
    train_reference,
)
from entroreg.benchmarks.robust.options import TrainAdversarial, TrainQARL, from_json, name_of, to_json
from entroreg.benchmarks.robust.picture import plot_curriculum
from entroreg.benchmarks.row_file import METRICS, RowFile
from entroreg.benchmarks.run_folder import (
    CHECKPOINT,
    claimed,
    parsed_config,
    require_same_run,
    set_threads,
    write_head,
)
from entroreg.benchmarks.signals import StopFlag
from entroreg.envs import make_task

MODEL = "protagonist.zip"
_REFERENCE = "reference.json"
_MAY_DIFFER = ("out", "threads", "overwrite", "resume", "json", "eval_episodes", "checkpoint_every", "keep")
_EVALUATION_SEED = 10_000  # added: far from the training seeds of a benchmark


def run_folder(options: TrainAdversarial) -> Path:
    """Return the folder of a run: OUT/train/METHOD/ENV/seed-SEED."""
    return Cell("train", "command", options.run.env, name_of(options), options.run.seed).folder(options.run.out)


def train(
    options: TrainAdversarial,
    folder: Path,
    stop: StopFlag,
    note: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any] | None:
    """Train both players, evaluate the protagonist, and write the run folder.

    Args:
        options: what to train.
        folder: of the run; made, and held while it is written.
        stop: asked after each step. A stop takes back the iteration that it comes in, and saves a checkpoint;
            before there are two players and after their training it ends at once.
        note: told of a SAC that is trained for the floor.

    Returns:
        The result, as in result.json, or None if stopped.

    Raises:
        UserError: the options do not fit the task, the folder is taken, or it holds another run.
        FloatingPointError: a loss or a return became NaN or infinite; the last checkpoint is kept.
        OSError: the folder cannot be written.
    """
    set_threads(options.run.threads)
    if options.run.resume and is_done(folder):
        require_same_run(folder, to_json(options), _MAY_DIFFER)
        return read_result(folder)
    require_trainable(options)
    with claimed(folder, overwrite=options.run.overwrite, resume=options.run.resume):
        if (folder / "config.json").exists():
            require_same_run(folder, to_json(options), _MAY_DIFFER)
        else:
            write_head(folder, to_json(options))
        agent = _begun(options, folder, stop, note)
        if agent is None or not _learn(agent, options, folder, stop):
            return None
        result = evaluate(agent, options, stop=stop)
        if result is None:
            return None
        agent.plain_protagonist().save(folder / MODEL)
        plot_curriculum(folder / METRICS, folder / "curriculum.png", f"{name_of(options)} on {options.run.env}")
        write_result(folder, result)
        return result


def evaluate(
    agent: TwoPlayers,
    options: TrainAdversarial,
    episodes: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Return the protagonist's undiscounted returns, alone and against its adversary at its strongest, greedy.

    Args:
        agent: trained.
        options: that it was trained with.
        episodes: of each; those of the options if left out.
        stop: asked before each step; True ends at once.

    Returns:
        The result, as in result.json, or None if stopped.
    """
    run = options.run
    count, seed = episodes or run.eval_episodes, run.seed + _EVALUATION_SEED
    env = make_task(run.env)
    act = greedy(agent)
    returns = episode_returns(act, env, count, seed, stop=stop)
    against = returns_against(act, agent.push, run.env, agent.forces, count, seed, stop)
    env.close()
    if stop():
        return None
    steps = {name: getattr(agent.curriculum, name, 0) for name in ("updates", "held_back")}
    return {
        "agent": name_of(options),
        "env": run.env,
        "seed": run.seed,
        "steps": agent.num_timesteps,
        "iterations": agent.iterations,
        "episodes": count,
        "returns": returns,
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "returns_with_adversary": against,
        "return_with_adversary_mean": float(np.mean(against)),
        "return_floor": floor_of(agent.curriculum),
        "curriculum_updates": steps["updates"],
        "curriculum_held_back": steps["held_back"],
        "temperature_mean": agent.curriculum.mean,
        "shape": getattr(agent.curriculum, "shape", None),
    }


def greedy(agent: TwoPlayers) -> Act:
    """Return the protagonist's deterministic policy on the task's own observation."""
    frozen = Frozen(agent.protagonist, stochastic=False)
    return lambda observation: frozen(agent.at_strongest(observation))


def load_run(folder: Path, config: dict[str, Any]) -> tuple[TwoPlayers, TrainAdversarial]:
    """Return the training of a run folder, with its options; nothing is unpickled.

    Raises:
        UserError: the folder is no such run, or has no checkpoint.
        CheckpointError: the checkpoint is damaged.
    """
    options = parsed_config(folder, config, from_json)
    try:
        return TwoPlayers.load(folder / CHECKPOINT), options
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no checkpoint yet: train longer, or lower --checkpoint-every") from error


def _begun(
    options: TrainAdversarial, folder: Path, stop: Callable[[], bool], note: Callable[[str], None]
) -> TwoPlayers | None:
    """Return a fresh training, or the one that the checkpoint holds; None if stopped before there is any."""
    try:
        return TwoPlayers.load(folder / CHECKPOINT)
    except FileNotFoundError:  # the run begins
        pass
    with as_user_errors(options.run.env):
        floor = _floor(options, folder, stop, note)
        return None if stop() else build_training(options, floor)


def _floor(
    options: TrainAdversarial, folder: Path, stop: Callable[[], bool], note: Callable[[str], None]
) -> float | None:
    """Return the floor of the curriculum: given, or half of what a plain SAC reaches, which is trained for it."""
    if not isinstance(options, TrainQARL) or options.curriculum.curriculum == "linear":
        return None
    if options.curriculum.return_floor is not None:
        return options.curriculum.return_floor
    path = folder / _REFERENCE
    if not path.exists():
        steps = options.curriculum.reference_steps
        note(f"training a plain SAC for {steps} steps: half of its return is the floor")
        agent, found = train_reference(options, stop)
        if stop():
            return None
        agent.save(folder / "reference.zip")
        write_json(path, {"discounted_return": found, "steps": steps})
    return floor_from(path)


def _learn(agent: TwoPlayers, options: TrainAdversarial, folder: Path, stop: StopFlag) -> bool:
    """Train to the end and say whether it was reached."""
    run = options.run
    title = f"{name_of(options)} on {run.env}"
    with RowFile(folder / METRICS, agent.iterations) as rows, show_progress(title, run.steps) as progress:
        agent.set_logger(Logger(str(folder), [TensorBoardOutputFormat(str(folder / "tb")), _Rows(rows)]))

        saved: int | None = None

        def after(_agent: TwoPlayers) -> bool:
            progress.advance(min(agent.num_timesteps, run.steps), [{"return": agent.last_return}])
            if agent.num_timesteps >= run.steps or agent.iterations % run.checkpoint_every == 0:
                save()
            return True

        def save() -> None:
            nonlocal saved
            rows.sync()
            agent.save(folder / CHECKPOINT, keep=run.keep)
            saved = agent.iterations

        left = run.steps - agent.num_timesteps
        if left > 0:
            agent.learn(left, reset_num_timesteps=False, on_iteration=after, stop=stop)
        if agent.num_timesteps < run.steps and saved != agent.iterations:
            save()
    return agent.num_timesteps >= run.steps


class _Rows(KVWriter):
    """A row for each iteration."""

    def __init__(self, rows: RowFile) -> None:
        self._rows = rows

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Append what was recorded."""
        self._rows.write({"num_timesteps": step, **{key: float(value) for key, value in key_values.items()}})

    def close(self) -> None:
        """Leave the closing to whoever opened the file."""
