"""A population of agents as training runs: each seed gets the folder that it would have alone."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from entroreg.agents import SACPopulation
from entroreg.benchmarks.building import build_population, make_training_environment, require_trainable
from entroreg.benchmarks.cells import is_done, read_result
from entroreg.benchmarks.curves import WINDOW
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.options import TrainSAC, runs_of, to_json
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.recording import recording, require_as_before, steps_of, trained_before
from entroreg.benchmarks.run_folder import CHECKPOINT, claimed, require_same_run, set_threads
from entroreg.benchmarks.signals import StopFlag
from entroreg.benchmarks.training import MAY_DIFFER, begin_or_go_on, conclude, run_folder
from entroreg.checkpoint.names import hidden, older_ones

Trained = list[tuple[list[dict[str, float]], float]]


def train_population(options: TrainSAC, stop: StopFlag) -> list[dict[str, Any]] | None:
    """Train the seeds of a population together, and evaluate and write down each of them.

    Args:
        options: what to train, with the number of seeds.
        stop: read after each round of steps; a stop saves all checkpoints and ends.

    Returns:
        The result of each seed, as in its result.json, or None if stopped.

    Raises:
        UserError: the options do not fit the environment, a folder is taken or holds another run, or the seeds'
            checkpoints are of no common step.
        FloatingPointError: a loss of an agent became NaN or infinite; the last checkpoints are kept.
        OSError: a folder cannot be written.
    """
    set_threads(options.run.threads)
    runs = runs_of(options)
    folders = [run_folder(run) for run in runs]
    with ExitStack() as stack:
        envs, reason = [], None
        for run in runs:
            env, reason = make_training_environment(run.run.env)
            envs.append(env)
            stack.callback(env.close)
            if len(envs) == 1:  # before a thousand are made
                require_trainable(options, env)
        population = build_population(options, envs)
        for run, folder in zip(runs, folders, strict=True):
            stack.enter_context(claimed(folder, overwrite=run.run.overwrite, resume=run.run.resume))
            begin_or_go_on(run, folder)
        trained = _learn(population, runs, folders, stop, reason)
        if trained is None:
            return None
        results = []
        for agent, run, folder, (rows, seconds) in zip(population.members, runs, folders, trained, strict=True):
            if is_done(folder):  # by the run that was stopped
                require_same_run(folder, to_json(run), MAY_DIFFER)
                results.append(read_result(folder))
                continue
            result = conclude(agent, run, folder, rows, seconds, stop)
            if result is None:
                return None
            results.append(result)
        return results


def _learn(
    population: SACPopulation, runs: list[TrainSAC], folders: list[Path], stop: StopFlag, reason: str | None
) -> Trained | None:
    """Train to the end; return each seed's rows and seconds, or None if stopped before."""
    run = runs[0].run
    before = [trained_before(*one, run.steps) for one in zip(population.members, folders, strict=True)]
    finished = [one for one in before if one is not None]
    if len(finished) == len(before):
        return finished
    begins = _common_checkpoints(folders, population.seeds)
    stopping = False
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress(f"{len(runs)} x sac on {run.env}", run.steps))
        if reason is not None:
            progress.note(
                "checkpoints are written between episodes, and the seeds go on together only from a step at which "
                f"each has one: {reason}"
            )
        recorded = [
            stack.enter_context(recording(agent, one.run, folder, begin, lambda: stopping, population.seeds))
            for agent, one, folder, begin in zip(population.members, runs, folders, begins, strict=True)
        ]

        def watch(trained: SACPopulation) -> bool:
            nonlocal stopping
            progress.advance(trained.num_timesteps, recorded[0].rows[-WINDOW:])
            stopping = stop()  # once for all members, who save in the next round, at the same step
            return True

        population.learn(run.steps, watch, member_callbacks=[one.callbacks for one in recorded])
        if any(one.stopped for one in recorded):
            return None
        for one in recorded:
            one.finish()
        return [(one.rows, one.seconds) for one in recorded]


def _common_checkpoints(folders: list[Path], seeds: Sequence[int]) -> list[Path] | list[None]:
    """Return the last checkpoint of each seed, once all are of the same step; Nones where none was saved yet.

    A population saves its seeds one after the other, so a crash can leave some of them one checkpoint ahead.
    """
    found = [_checkpoints(folder) for folder in folders]
    if not all(found) and all(len(one) < 2 for one in found):  # at most the first save of some
        return [None] * len(folders)
    common = set.intersection(*(set(one) for one in found))
    if not common:
        steps = ", ".join(str(max(one, default="none")) for one in found)
        raise UserError(f"the seeds must have checkpoints of a common step to go on together, got {steps}")
    chosen = [one[max(common)] for one in found]
    for place in chosen:
        require_as_before(place, seeds)
    return [_go_back(folder / CHECKPOINT, place) for folder, place in zip(folders, chosen, strict=True)]


def _go_back(last: Path, place: Path) -> Path:
    """Make an older checkpoint the last one: behind newer ones it would be the first that later saves remove."""
    for newer in itertools.takewhile(lambda one: one != place, (last, *older_ones(last).values())):
        if newer.exists():
            os.rename(newer, hidden(last))
    if place != last:
        os.rename(place, last)
    return last


def _checkpoints(folder: Path) -> dict[int, Path]:
    places = sorted((folder / CHECKPOINT.parent).glob(f"{CHECKPOINT.name}*"), reverse=True)
    steps = {place: steps_of(place) for place in places}
    return {step: place for place, step in steps.items() if step is not None}
