"""Bags made of images: their labels, their sizes, and which patches they hold."""

from __future__ import annotations

import csv
import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.mil.data import patch_bags
from entroreg.vision.mil.data.mnist_bags import draw_bags, mnist_bags
from entroreg.vision.mil.data.patch_bags import draw_patch_bags, write_patch_bags
from entroreg.vision.mil.files.feature_folder import open_features

DIGITS = (np.arange(1000) % 10).astype(np.uint8)


@given(
    bags=st.integers(2, 30),
    target=st.integers(0, 9),
    mean_size=st.floats(1.0, 25.0),
    deviation=st.floats(0.0, 8.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_mnist_bags_are_what_they_say(
    bags: int, target: int, mean_size: float, deviation: float, seed: int
) -> None:
    settings = {"bags": bags, "target": target, "mean_size": mean_size, "size_deviation": deviation}
    drawn = draw_bags(DIGITS, seed=seed, **settings)  # type: ignore[arg-type]
    assert len(drawn.places) == bags
    assert sum(drawn.labels) == bags // 2
    for places, label, marked in zip(*drawn, strict=True):
        assert len(places) >= 1
        assert marked.tolist() == [DIGITS[place] == target for place in places]
        assert label == any(marked.tolist())
    again = draw_bags(DIGITS, seed=seed, **settings)  # type: ignore[arg-type]
    assert all(map(np.array_equal, drawn.places, again.places))


def test_mnist_bag_sizes() -> None:
    """Round(N(10, 2)) given the label: Bayes' theorem with a target among a bag of n with 1 - 0.9^n."""
    drawn = draw_bags(DIGITS, bags=4000, seed=1)
    sizes, labels = np.array([len(places) for places in drawn.places]), np.array(drawn.labels)
    n = np.arange(1, 21)
    prior = np.exp(-((n - 10.0) ** 2) / 8.0)
    for label, likelihood in ((0, 0.9**n), (1, 1.0 - 0.9**n)):
        weights = prior * likelihood / (prior * likelihood).sum()
        mean = (weights * n).sum()
        deviation = np.sqrt((weights * (n - mean) ** 2).sum())
        found = sizes[labels == label]
        assert abs(found.mean() - mean) < 4 * deviation / np.sqrt(len(found))
        assert found.std() == pytest.approx(deviation, rel=0.08)
    assert not np.array_equal(draw_bags(DIGITS, bags=9, seed=2).places[0], drawn.places[0])


def test_mnist_bags_hold_pixels() -> None:
    images = np.zeros((10, 28, 28), np.uint8)
    images[:, 2, 3] = 25 * np.arange(10)
    drawn = draw_bags(np.arange(10, dtype=np.uint8), bags=6, seed=0)
    found = mnist_bags(images, drawn)
    assert found.in_features == 784
    assert list(found.labels) == [0, 1, 0, 1, 0, 1]
    assert list(found.names)[:2] == ["bag-0000", "bag-0001"]
    for index, places in enumerate(drawn.places):
        bag = found.features(index)
        assert bag.dtype == torch.float32
        torch.testing.assert_close(bag[:, 2 * 28 + 3], torch.from_numpy(places).float() * 25 / 255)
        assert torch.count_nonzero(bag) == np.count_nonzero(places)
        marked = found.instance_labels(index)
        assert marked is not None
        assert marked.tolist() == (places == 9).tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bags": 1}, "bags must be finite and at least 2, got 1"),
        ({"target": 10}, r"digits must hold the target 10 and others, got 0 of 1000"),
        ({"mean_size": 0.5}, "mean_size must be finite and at least 1, got 0.5"),
        ({"size_deviation": -1.0}, "size_deviation must be finite and at least 0, got -1.0"),
        (
            {"mean_size": 200.0},
            "mean_size must allow for bags with and without the target, 0.1 of the digits, got 200",
        ),
    ],
)
def test_mnist_bags_that_cannot_be_drawn(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        draw_bags(DIGITS, **{"bags": 4, **settings})  # type: ignore[arg-type]


def test_a_target_that_is_next_to_never_there() -> None:
    digits = np.zeros(10**6, np.uint8)
    digits[0] = 9
    with pytest.raises(ValueError, match="about 1 of such bags are negative"):
        draw_bags(digits, bags=2)


@given(
    bags=st.integers(2, 12),
    least=st.integers(1, 60),
    more=st.integers(0, 30),
    share=st.floats(0.001, 1.0),
    target=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_patch_bags_are_what_they_say(
    bags: int, least: int, more: int, share: float, target: int, seed: int
) -> None:
    sizes = (least, least + more)
    drawn = draw_patch_bags(DIGITS, bags=bags, sizes=sizes, target=target, witness_share=share, seed=seed)
    assert len(drawn) == bags
    for number, places in enumerate(drawn):
        assert sizes[0] <= len(places) <= sizes[1]
        assert len(set(places.tolist())) == len(places)
        witnesses = int((DIGITS[places] == target).sum())
        assert witnesses == (max(1, int(share * len(places))) if number % 2 else 0)


def test_patches_recur_only_when_they_run_out() -> None:
    def drawn(bags: int) -> list[NDArray[np.int64]]:
        return draw_patch_bags(DIGITS, bags=bags, sizes=(100, 100), target=9, witness_share=0.2, seed=3)

    # 5 x 100 + 5 x 80 = 900 patches that are not of the target, 5 x 20 = 100 that are: all there are.
    assert sorted(np.concatenate(drawn(10)).tolist()) == list(range(1000))
    assert max(np.bincount(np.concatenate(drawn(12)))) == 2
    assert all(map(np.array_equal, drawn(10), drawn(12)))


def test_witnesses_stand_anywhere_in_a_bag() -> None:
    drawn = draw_patch_bags(DIGITS, bags=400, sizes=(10, 10), target=9, witness_share=0.1, seed=0)
    places = [int(np.flatnonzero(DIGITS[bag] == 9)[0]) for bag in drawn[1::2]]
    assert set(places) == set(range(10))


def test_the_example_of_patch_bags() -> None:
    assert doctest.testmod(patch_bags) == (0, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bags": 1}, "bags must be finite and at least 2, got 1"),
        ({"witness_share": 0.0}, r"witness_share must be in \(0, 1\], got 0.0"),
        ({"sizes": (5, 4)}, r"sizes must be a least and a largest from 1, got \(5, 4\)"),
        ({"sizes": (0, 4)}, r"sizes must be a least and a largest from 1, got \(0, 4\)"),
        (
            {"sizes": (1, 901)},
            "sizes must not ask for more than the 900 patches that are not of class 9, got bags of 901 that need",
        ),
        (
            {"sizes": (1, 300), "witness_share": 0.5},
            "sizes must not ask for more than the 100 patches that are of class 9, got bags of 300 that need 150",
        ),
        ({"target": 11}, "sizes must not ask for more than the 0 patches that are of class 11"),
    ],
)
def test_patch_bags_that_cannot_be_drawn(settings: dict[str, object], message: str) -> None:
    defaults = {"bags": 2, "sizes": (4, 4), "target": 9, "witness_share": 0.1, "seed": 0}
    with pytest.raises(ValueError, match=f"^{message}"):
        draw_patch_bags(DIGITS, **{**defaults, **settings})  # type: ignore[arg-type]


class Means:
    """Stands in for the network: the mean of each channel; remembers how many patches it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, patches: Tensor) -> Tensor:
        assert patches.dtype == torch.uint8
        assert patches.shape[1:] == (4, 4, 3)
        self.seen += len(patches)
        return patches.float().mean(dim=(1, 2))


@pytest.mark.parametrize("grey", [True, False])
def test_written_patch_bags_are_read_again(tmp_path: Path, grey: bool) -> None:
    labels = np.arange(40, dtype=np.uint8) % 4
    values = np.arange(40, dtype=np.uint8)[:, None] * (np.array([1, 1, 1]) if grey else np.array([1, 2, 3]))
    images = np.broadcast_to(values[:, None, None, :].astype(np.uint8), (40, 4, 4, 3))
    bags = draw_patch_bags(labels, bags=6, sizes=(3, 10), target=2, witness_share=0.3, seed=5)
    embed = Means()
    write_patch_bags(tmp_path, bags, images[..., 0] if grey else images, labels, target=2, embed=embed)
    assert embed.seen == len(set(itertools.chain(*(bag.tolist() for bag in bags))))
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"slide": "bag-0001", "patient": "bag-0001", "label": "positive"}
    found = open_features(tmp_path / "features", tmp_path / "labels.csv")
    assert list(found.classes) == ["negative", "positive"]
    assert list(found.labels) == [0, 1] * 3
    for index, places in enumerate(bags):
        features = found.features(index)
        assert features.dtype == torch.float16
        assert features.tolist() == values[places].tolist()
        marked = found.instance_labels(index)
        assert marked is not None
        assert marked.tolist() == (labels[places] == 2).tolist()
        coords = found.coords(index)
        assert coords is not None
        side = int(np.ceil(np.sqrt(len(places))))
        expected = [[4 * x, 4 * y] for y in range(side) for x in range(side)][: len(places)]
        assert coords.tolist() == expected
        assert found.parts(index)[0].tile_size == 4


def test_features_that_cannot_be_stored(tmp_path: Path) -> None:
    labels = np.array([0, 0, 1, 1], np.uint8)
    bags = [np.array([0, 1]), np.array([2, 0])]
    images = np.zeros((4, 4, 4), np.uint8)

    def write(embed: object) -> None:
        write_patch_bags(tmp_path, bags, images, labels, target=1, embed=embed)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"^embed must return \(3, features\), got \(3, 4, 4, 3\)$"):
        write(lambda patches: patches.float())
    with pytest.raises(ValueError, match=r"^embed must return features that are finite in float16, got some that"):
        write(lambda patches: patches.float().mean(dim=(1, 2)) + 70_000.0)
    assert list(tmp_path.iterdir()) == []
