"""Does adaptation at test time help a planner under shift? Entropy over plans and over groups of them, and none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from entroreg.benchmarks.cells import Cell, write_result
from entroreg.benchmarks.planner import report
from entroreg.benchmarks.readings import Quantity, Reading, of_seed

NAME = "adaptation"
SUCCESS = Quantity("share of maps with success")
DECISION = Quantity("decision", "ms", "lower", is_time=True)
# What the robot meets: as it was trained, and four shifts, whose strengths were chosen with another planner on
# other maps, 6,000 to 6,039.
TASKS: dict[str, dict[str, Any]] = {
    "as-trained": {},
    "slippery": {"friction": 0.1},
    "noisy-lidar": {"lidar_noise": 0.2},
    "narrow": {"obstacles": 12, "gap": 0.7},
    "slippery-noisy": {"friction": 0.12, "lidar_noise": 0.1},
}
# Of 0.001, 0.01 and 0.1 each measure's best in the mean over the shifts on those maps, and the highest for the
# cluster entropy: it did better on slippery floors and noise there, and worse in narrow maps.
LEARNING_RATES = {"full": 0.001, "semantic": 0.01, "cluster": 0.01, "cluster-strong": 0.1}
METHODS = (report.PLAIN, *LEARNING_RATES)


class Size(NamedTuple):
    """Of a preset.

    Attributes:
        seeds: planners, each trained on its own maps.
        episodes: of each cell; all methods of a seed drive the same maps.
        states: labelled in each round of training.
        updates: of each round.
        tasks: how many of them.
        methods: how many of them.
    """

    seeds: int
    episodes: int
    states: int
    updates: int
    tasks: int
    methods: int


SIZES = {
    "smoke": Size(seeds=1, episodes=2, states=60, updates=40, tasks=1, methods=4),
    "small": Size(seeds=3, episodes=100, states=1500, updates=1500, tasks=5, methods=5),
    "paper": Size(seeds=10, episodes=400, states=4000, updates=4000, tasks=5, methods=5),
}
_TRAINING_MAPS, _MAPS = 100_000, 500  # the first seed of a planner's training maps, and how many it has
_TEST_MAPS = 1_000  # the first seed of the maps that are driven: the same for all planners and methods

summarise = report.summarise
as_text = report.as_text
plot = report.plot


def cells(preset: str) -> list[Cell]:
    """Return a cell for each planner and method on each task."""
    size = SIZES[preset]
    return [
        Cell(NAME, preset, task, method, seed)
        for seed in range(size.seeds)
        for task in list(TASKS)[: size.tasks]
        for method in METHODS[: size.methods]
    ]


def run(cell: Cell, folder: Path) -> None:
    """Drive the test maps of a task with one planner and method, on one thread, and write the result."""
    import gymnasium
    import torch

    import entroreg.envs  # noqa: F401  (registers the task)
    from entroreg.adaptation import centaur
    from entroreg.agents.planner.driving import drive
    from entroreg.agents.planner.training import Training
    from entroreg.agents.planner.uncertainty import uncertainties
    from entroreg.benchmarks.planner.made import trained_planner

    torch.set_num_threads(1)
    size = SIZES[cell.preset]
    training = Training(states=size.states, updates=size.updates)
    maps = range(_TRAINING_MAPS + _MAPS * cell.seed, _TRAINING_MAPS + _MAPS * (cell.seed + 1))
    home = gymnasium.make("entroreg/Navigation-v0", disable_env_checker=True)
    planner = trained_planner(folder.parents[2] / "planners" / f"seed-{cell.seed}", home, training, cell.seed, maps)
    measures = uncertainties(planner)
    adapter = None
    if cell.method != report.PLAIN:
        uncertainty = measures[report.measure_of(cell.method)]
        adapter = centaur(planner, uncertainty, ["decoder"], learning_rate=LEARNING_RATES[cell.method])
    env = gymnasium.make("entroreg/Navigation-v0", disable_env_checker=True, **TASKS[cell.task])
    episodes = [drive(env, planner, _TEST_MAPS + place, measures, adapter) for place in range(size.episodes)]
    write_result(
        folder,
        {
            "method": cell.method,
            "seed": cell.seed,
            "success": [episode.success for episode in episodes],
            "collision": [episode.collision for episode in episodes],
            "steps": [episode.steps for episode in episodes],
            "uncertainty": {name: [episode.uncertainty[name] for episode in episodes] for name in measures},
            "decision_ms": 1e3 * float(np.median(np.concatenate([episode.seconds for episode in episodes]))),
        },
    )


def readings(cell: Mapping[str, Any]) -> list[Reading]:
    """Return what a cell measured."""
    success = float(np.mean(cell["success"]))
    return of_seed(cell, {SUCCESS: success, DECISION: cell["decision_ms"]})
