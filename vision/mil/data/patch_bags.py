"""Bags of the size of slides with known instance labels: image patches through a frozen network."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg import _checks
from entroreg.atomic import write_bytes

Embed = Callable[[Tensor], Tensor]


def draw_patch_bags(
    labels: NDArray[np.uint8], *, bags: int, sizes: tuple[int, int], target: int, witness_share: float, seed: int
) -> list[NDArray[np.int64]]:
    """Return for each bag the places of its patches; every second bag holds some of the target's class.

    No patch comes twice while the pool lasts; then it is shuffled anew, and patches come again in other bags.

    Args:
        labels: (n,) classes of the patches.
        bags: how many.
        sizes: least and largest instances of a bag.
        target: class that makes a bag positive.
        witness_share: share of a positive bag's instances that are of that class, at least one.
        seed: of the draws.

    Raises:
        ValueError: sizes out of order, a share outside (0, 1], or a class that is not there.
    """
    _checks.require_number("bags", bags, low=2)
    _checks.require_fraction("witness_share", witness_share)
    if not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"sizes must be a least and a largest from 1, got {sizes}")
    generator = np.random.default_rng(seed)
    pools = {kind: np.flatnonzero((labels == target) == kind) for kind in (True, False)}
    if any(len(pool) < sizes[1] for pool in pools.values()):
        counts = tuple(len(pool) for pool in pools.values())
        raise ValueError(f"sizes must not exceed the patches of the target and of the rest, {counts}, got {sizes}")
    left = {kind: generator.permutation(pool) for kind, pool in pools.items()}

    def take(kind: bool, count: int) -> NDArray[np.int64]:
        if len(left[kind]) < count:
            left[kind] = generator.permutation(pools[kind])
        taken, left[kind] = np.split(left[kind], [count])
        return taken

    found = []
    for number in range(bags):
        size = int(generator.integers(sizes[0], sizes[1] + 1))
        witnesses = max(1, math.floor(witness_share * size)) if number % 2 else 0
        places = np.concatenate([take(True, witnesses), take(False, size - witnesses)])
        found.append(generator.permutation(places))
    return found


def write_patch_bags(
    folder: Path,
    bags: list[NDArray[np.int64]],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    target: int,
    embed: Embed,
) -> None:
    """Write bags of patches as feature files in TRIDENT's layout, with a table of labels beside them.

    ``features/bag-0000.h5`` holds ``features`` (N, D) float16, ``coords`` (N, 2) of a square grid and
    ``instance_labels`` (N,); ``labels.csv`` has the columns slide, patient and label.

    Args:
        folder: that exists and holds neither.
        bags: from ``draw_patch_bags``.
        images: (n, h, w) grey or (n, h, w, 3) patches.
        labels: (n,) their classes.
        target: class that makes a bag positive.
        embed: (m, h, w, 3) uint8 to (m, D); each patch that is used goes through it once.
    """
    import h5py

    used = np.unique(np.concatenate(bags))
    features = embed(torch.from_numpy(_coloured(images[used]))).numpy().astype(np.float16)
    (folder / "features").mkdir()
    side = images.shape[1]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["slide", "patient", "label"])
    for number, places in enumerate(bags):
        marked = labels[places] == target
        name = f"bag-{number:04}"
        with h5py.File(folder / "features" / f"{name}.h5", "x") as file:
            file["features"] = features[np.searchsorted(used, places)]
            file["coords"] = _grid(len(places), side)
            file["coords"].attrs["patch_size_level0"] = side
            file["instance_labels"] = marked.astype(np.uint8)
        table.writerow([name, name, "positive" if marked.any() else "negative"])
    write_bytes(folder / "labels.csv", text.getvalue().encode())


def _coloured(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (n, h, w, 3); grey images have three equal channels."""
    coloured: NDArray[np.uint8] = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
    return np.ascontiguousarray(coloured)


def _grid(count: int, side: int) -> NDArray[np.int64]:
    """Return (count, 2), x and y of the top left corners of tiles, row by row in a square."""
    columns = math.ceil(math.sqrt(count))
    places = np.arange(count)
    return side * np.stack([places % columns, places // columns], axis=1)
