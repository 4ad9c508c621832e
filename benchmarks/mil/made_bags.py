"""Bags with known instance labels made of fetched images, as files that `entroreg train mil` reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.data.cifar import read_cifar10
from entroreg.vision.data.fetching import fetched
from entroreg.vision.data.idx import read_digits
from entroreg.vision.mil.data.mnist_bags import draw_bags, mnist_bags
from entroreg.vision.mil.data.patch_bags import draw_patch_bags, write_patch_bags
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.slides.efficientnet_lite import embed_tiles, load_efficientnet_lite0

_SIDE = 64  # pixels that a patch is enlarged to: the network halves its input five times
_AT_ONCE = 64


def make_mnist_bags(folder: Path, *, bags: int, target: int, seed: int) -> None:
    """Write MNIST-bags of about ten digits to ``folder/bags.h5``.

    Args:
        folder: that exists.
        bags: how many.
        target: digit that makes a bag positive.
        seed: of the draws.

    Raises:
        FetchError: MNIST cannot be had here.
    """
    images, labels = read_digits(fetched("mnist"), "train")
    write_bags(mnist_bags(images, draw_bags(labels, bags=bags, target=target, seed=seed)), folder / "bags.h5")


def make_patch_bags(
    folder: Path, name: str, *, bags: int, sizes: tuple[int, int], target: int, witness_share: float, seed: int
) -> None:
    """Write slide-size bags of patches through EfficientNet-Lite0 to ``folder/features`` and ``folder/labels.csv``.

    Args:
        folder: that exists.
        name: ``fashion-mnist`` or ``cifar10``.
        bags: how many.
        sizes: least and largest instances of a bag.
        target: class that makes a bag positive.
        witness_share: share of a positive bag's instances that are of that class.
        seed: of the draws.

    Raises:
        FetchError: the data set or the network's weights cannot be had here.
    """
    images, labels = _READERS[name](fetched(name))
    weights = fetched("efficientnet-lite0") / "efficientnet-lite0-57934424.pth"
    network = load_efficientnet_lite0(weights)
    drawn = draw_patch_bags(labels, bags=bags, sizes=sizes, target=target, witness_share=witness_share, seed=seed)
    write_patch_bags(folder, drawn, images, labels, target=target, embed=partial(_embed, network))


def write_bags(dataset: BagDataset, path: Path) -> None:
    """Write labelled bags as one HDF5 file in AEM's layout, with instance labels where there are any.

    Args:
        dataset: of bags.
        path: of the file.
    """
    import h5py

    with h5py.File(path, "x") as file:
        for index, name in enumerate(dataset.names):
            group = file.create_group(name)
            group.attrs["label"] = dataset.classes[dataset.labels[index]]
            group["feat"] = dataset.features(index).numpy()
            marks = dataset.instance_labels(index)
            if marks is not None:
                group["instance_labels"] = marks.numpy()


def _embed(network: torch.nn.Module, patches: Tensor) -> Tensor:
    """Return (n, 1280) of (n, h, w, 3) uint8, enlarged a part at a time."""
    found = []
    for part in patches.split(_AT_ONCE):  # type: ignore[no-untyped-call]
        planes = part.permute(0, 3, 1, 2).float()
        large = torch.nn.functional.interpolate(planes, (_SIDE, _SIDE), mode="bilinear", align_corners=False)
        found.append(embed_tiles(network, large.round().to(torch.uint8).permute(0, 2, 3, 1), _AT_ONCE))
    return torch.cat(found)


def _fashion(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return read_digits(folder, "train")


def _cifar(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return read_cifar10(folder, "train")


_READERS = {"fashion-mnist": _fashion, "cifar10": _cifar}
