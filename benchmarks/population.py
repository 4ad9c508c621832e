"""A population of agents as training runs: each seed gets the folder that it would have alone."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from entroreg.agents import SACPopulation
from entroreg.benchmarks.building import build_population, make_environment
from entroreg.benchmarks.curves import WINDOW
from entroreg.benchmarks.options import TrainSAC, runs_of, to_json
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.run_folder import claimed, set_threads, write_head
from entroreg.benchmarks.signals import StopFlag
from entroreg.benchmarks.training import conclude, recording, run_folder

Rows = list[dict[str, float]]


def train_population(options: TrainSAC, stop: StopFlag) -> list[dict[str, Any]] | None:
    """Train the seeds of a population together, and evaluate and write down each of them.

    Args:
        options: what to train, with the number of seeds.
        stop: read at every step; a stop saves all checkpoints and ends.

    Returns:
        The result of each seed, as in its result.json, or None if stopped.

    Raises:
        UserError: the options do not fit the environment, or a folder is taken.
        FloatingPointError: a loss of an agent became NaN or infinite; the last checkpoints are kept.
        OSError: a folder cannot be written.
    """
    set_threads(options.run.threads)
    runs = runs_of(options)
    folders = [run_folder(run) for run in runs]
    with ExitStack() as stack:
        envs = []
        for run in runs:
            envs.append(make_environment(run.run.env))
            stack.callback(envs[-1].close)
        population = build_population(options, envs)
        for run, folder in zip(runs, folders, strict=True):
            stack.enter_context(claimed(folder, overwrite=run.run.overwrite))
            write_head(folder, to_json(run))
        started = time.perf_counter()
        rows = _learn(population, runs, folders, stop)
        seconds = time.perf_counter() - started
        results = []
        for parts in zip(population.members, envs, runs, folders, rows, strict=True):
            result = conclude(*parts, seconds, stop)
            if result is None:
                return None
            results.append(result)
        return results


def _learn(population: SACPopulation, runs: list[TrainSAC], folders: list[Path], stop: StopFlag) -> list[Rows]:
    run = runs[0].run
    title = f"{len(runs)} x sac on {run.env}"
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress(title, run.steps))
        callbacks = [
            stack.enter_context(recording(*parts)) for parts in zip(population.members, runs, folders, strict=True)
        ]
        rows = [recorder.rows for recorder, _ in callbacks]

        def watch(trained: SACPopulation) -> bool:
            progress.advance(trained.num_timesteps, rows[0][-WINDOW:])
            return not stop()

        population.learn(run.steps, watch, member_callbacks=[list(own) for own in callbacks])
    return rows
