"""What ``entroreg train qarl``, ``train rarl`` and ``eval --robust`` do and print."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from entroreg.atomic import write_json
from entroreg.benchmarks.cli.running import note, result_of
from entroreg.benchmarks.errors import OK, UserError
from entroreg.benchmarks.robust.options import TrainAdversarial

GRID = "robust"


def train_adversarial(options: TrainAdversarial) -> int:
    """Train; the last lines say what the curriculum did and where everything is."""
    from entroreg.benchmarks.robust.training import MODEL, run_folder, train

    folder = run_folder(options)
    result, exit_code = result_of(partial(train, options, folder, note=note), folder)
    if result is None:
        return exit_code
    if options.run.json:
        print(json.dumps({**result, "folder": str(folder)}))
        return OK
    _print_result(result)
    for name, file in (("curriculum", "curriculum.png"), ("SB3-style zip", MODEL), ("result", "result.json")):
        print(f"{name:14} {folder / file}")
    print(f"{'TensorBoard':14} tensorboard --logdir {folder / 'tb'}")
    return OK


def evaluate_adversarial(folder: Path, config: dict[str, Any], episodes: int | None, *, as_json: bool) -> int:
    """Evaluate the protagonist of a run, alone and against its own adversary."""
    from entroreg.benchmarks.robust.training import evaluate, load_run
    from entroreg.benchmarks.signals import stop_on_signals

    agent, options = load_run(folder, config)
    with stop_on_signals() as stop:
        result = evaluate(agent, options, episodes, stop)
        if result is None:
            return stop.exit_code
    print(json.dumps(result)) if as_json else _print_result(result)
    return OK


def evaluate_robust(
    folder: Path,
    config: dict[str, Any],
    *,
    name: str,
    points: int,
    episodes: int,
    physics: str,
    adversary_steps: int,
    force: float | None,
    as_json: bool,
) -> int:
    """Evaluate a run of sac, qarl or rarl over an uncertainty set and against adversaries; leave JSON and PNG.

    Args:
        folder: of the run.
        config: of the run.
        name: of the uncertainty set.
        points: values of each parameter.
        episodes: of each cell.
        physics: "correct" or "published".
        adversary_steps: of a fresh adversary; 0 for none.
        force: limit of that adversary, N; that of the training, or of the published table, if None.
        as_json: whether to print JSON.
    """
    from entroreg.benchmarks.robust.grid import robust_grid
    from entroreg.benchmarks.robust.heatmap import draw_grids
    from entroreg.benchmarks.robust.policies import policy_of
    from entroreg.benchmarks.signals import stop_on_signals
    from entroreg.envs import find_set

    policy = policy_of(folder, config)
    try:
        chosen = find_set(policy.task, name)
    except ValueError as error:
        raise UserError(str(error)) from error
    forces = policy.forces_of_fresh(adversary_steps, force)
    with stop_on_signals() as stop:
        grid = robust_grid(
            policy.act,
            policy.task,
            chosen,
            points=points,
            episodes=episodes,
            seed=policy.seed,
            physics=physics,
            stop=stop,
        )
        if grid is None:
            return stop.exit_code
        adversaries = policy.against_adversaries(episodes, adversary_steps, forces, stop)
        found = {"uncertainty_set": name, **grid, **adversaries}
        if stop():
            return stop.exit_code
    picture = folder / f"{GRID}-{name}.png"
    write_json(folder / f"{GRID}-{name}.json", found)
    draw_grids([{f"{policy.name} on {policy.task}": grid}], picture)
    print(json.dumps(found)) if as_json else _print_grid(found, picture)
    return OK


def _print_result(result: dict[str, Any]) -> None:
    print(f"{result['agent']} on {result['env']}, seed {result['seed']}, {result['steps']} steps of both players")
    spread = f"{result['return_mean']:.1f} +- {result['return_std']:.1f}"
    print(f"  mean return of {result['episodes']} episodes     {spread}")
    print(f"  against the trained adversary  {result['return_with_adversary_mean']:.1f}")
    if result["return_floor"] is not None:
        updates, held = result["curriculum_updates"], result["curriculum_held_back"]
        end = f"temperature {result['temperature_mean']:.2g}"
        end = end if result["shape"] is None else f"k {result['shape']:.3g}"
        print(f"  return floor {result['return_floor']:.3g}, discounted")
        print(f"  curriculum   {updates} teacher updates, {held} held back by the floor, {end} at the end")


def _print_grid(found: dict[str, Any], picture: Path) -> None:
    print(f"{found['uncertainty_set']}: {' x '.join(found['parameters'])}, {found['episodes']} episodes a cell")
    for name in ("nominal", "mean", "worst"):
        print(f"  {name:18} {found[name]:.1f}")
    share = found["area_over_nominal"]
    print(f"  area over nominal  {'-' if share is None else format(share, '.3f')}")
    for name in ("own", "fresh"):
        if found[f"{name}_adversary"] is not None:
            text = f"{np.mean(found[f'{name}_adversary']):.1f}"
            print(f"  {f'{name} adversary':18} {text}  (up to {found[f'{name}_force']:g} N)")
    print(f"heat map  {picture}")
