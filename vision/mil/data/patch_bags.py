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

    No patch is drawn again until its pool, of the target or of the rest, cannot fill the next bag; then the pool is
    shuffled anew, and patches recur in other bags. No bag ever holds a patch twice.

    Args:
        labels: (n,) classes of the patches.
        bags: how many.
        sizes: least and largest instances of a bag.
        target: class that makes a bag positive.
        witness_share: share of a positive bag's instances that are of that class, rounded down, at least one.
        seed: of the draws.

    Raises:
        ValueError: fewer than two bags, sizes out of order, a share outside (0, 1], or too few patches for a bag.

    Example:
        >>> labels = np.arange(100, dtype=np.uint8) % 10
        >>> bags = draw_patch_bags(labels, bags=2, sizes=(5, 5), target=9, witness_share=0.4, seed=0)
        >>> [int((labels[bag] == 9).sum()) for bag in bags]
        [0, 2]
    """
    _checks.require_number("bags", bags, low=2)
    _checks.require_fraction("witness_share", witness_share)
    if not 1 <= sizes[0] <= sizes[1]:
        raise ValueError(f"sizes must be a least and a largest from 1, got {sizes}")
    generator = np.random.default_rng(seed)
    pools = {kind: np.flatnonzero((labels == target) == kind) for kind in (True, False)}
    for kind, needed in ((True, _witnesses(sizes[1], witness_share)), (False, sizes[1])):
        if len(pools[kind]) < needed:
            raise ValueError(
                f"sizes must not ask for more than the {len(pools[kind])} patches that are"
                f"{' ' if kind else ' not '}of class {target}, got bags of {sizes[1]} that need {needed} of them"
            )
    left = {kind: generator.permutation(pool) for kind, pool in pools.items()}

    def take(kind: bool, count: int) -> NDArray[np.int64]:
        if len(left[kind]) < count:
            left[kind] = generator.permutation(pools[kind])
        taken, left[kind] = np.split(left[kind], [count])
        return taken

    found = []
    for number in range(bags):
        size = int(generator.integers(sizes[0], sizes[1] + 1))
        witnesses = _witnesses(size, witness_share) if number % 2 else 0
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

    Raises:
        ValueError: ``embed`` returns another shape, or features that are not finite in float16.
        OSError: the folder cannot be written.
    """
    import h5py

    used = np.unique(np.concatenate(bags))
    features = _embedded(_coloured(images[used]), embed)
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


def _witnesses(size: int, share: float) -> int:
    return max(1, math.floor(share * size))


def _embedded(patches: NDArray[np.uint8], embed: Embed) -> NDArray[np.float16]:
    found = embed(torch.from_numpy(patches))
    if found.dim() != 2 or len(found) != len(patches):
        raise ValueError(f"embed must return ({len(patches)}, features), got {tuple(found.shape)}")
    features = found.half()
    if not features.isfinite().all():
        raise ValueError("embed must return features that are finite in float16, got some that are not")
    stored: NDArray[np.float16] = features.numpy()
    return stored


def _coloured(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (n, h, w, 3); grey images have three equal channels."""
    coloured: NDArray[np.uint8] = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
    return np.ascontiguousarray(coloured)


def _grid(count: int, side: int) -> NDArray[np.int64]:
    """Return (count, 2), x and y of the top left corners of tiles, row by row in a square."""
    columns = math.ceil(math.sqrt(count))
    places = np.arange(count)
    return side * np.stack([places % columns, places // columns], axis=1)
