"""The data sets of the suite mil, as files that `entroreg train mil` reads; made once in the folder of the runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from entroreg.benchmarks.made_once import made_once
from entroreg.benchmarks.mil.made_bags import make_mnist_bags, make_patch_bags, write_bags
from entroreg.benchmarks.mil.options import DataOptions
from entroreg.vision.data.fetching import fetched
from entroreg.vision.mil.dataset import BagsInMemory

_TARGET = 9


def prepared(task: str, root: Path, *, standardize: bool) -> DataOptions:
    """Return where a task's data are, fetched and made if they are not there yet.

    Args:
        task: of the suite.
        root: folder for what is made.
        standardize: passed on.

    Raises:
        DataError: a data set could not be fetched.
    """
    if task not in _MADE:
        return DataOptions(_member("classic-mil", f"{task}.csv"), standardize=standardize)
    path = root / task
    with made_once(path) as fresh:
        if fresh is not None:
            _MADE[task](fresh)
    features = path / "bags.h5" if (path / "bags.h5").exists() else path / "features"
    labels = path / "labels.csv"
    return DataOptions(features, labels if labels.exists() else None, standardize=standardize)


def _member(name: str, file: str) -> Path:
    """Return a file of a data set that is fetched if need be."""
    return next(iter(fetched(name).rglob(file)))


def _drawn_bags(folder: Path) -> None:
    """Random bags whose positive ones hold one instance that is moved: they need no network."""
    rng = np.random.default_rng(0)
    bags, marks = [], []
    for index in range(24):
        bag = rng.normal(size=(int(rng.integers(1, 9)), 12)).astype(np.float32)
        marked = np.zeros(len(bag), dtype=bool)
        marked[0] = index % 2 == 1
        bag[marked] += 2.0
        bags.append(torch.from_numpy(bag))
        marks.append(torch.from_numpy(marked))
    labels = [index % 2 for index in range(24)]
    write_bags(
        BagsInMemory(bags, labels, names=[f"bag-{i:02}" for i in range(24)], marked=marks), folder / "bags.h5"
    )


_MADE: dict[str, Callable[[Path], None]] = {
    "mnist-bags": partial(make_mnist_bags, bags=200, target=_TARGET, seed=0),
    "fashion-patches": partial(
        make_patch_bags,
        name="fashion-mnist",
        bags=80,
        sizes=(400, 800),
        target=_TARGET,
        witness_share=0.01,
        seed=0,
    ),
    "drawn": _drawn_bags,
}
