"""Packed batches: resident and stored bags are the same; standardised bags; what is read ahead comes in order."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.vision.mil import BagsInMemory
from entroreg.vision.mil.fitting import ResidentBags, StoredBags, reader_for, standardized
from entroreg.vision.mil.fitting.reading import read_ahead

SIZES = [1, 300, 4, 2, 150, 7]


def dataset() -> BagsInMemory:
    generator = torch.Generator().manual_seed(0)
    bags = [torch.randn(size, 3, generator=generator) for size in SIZES]
    marked = [torch.arange(size) == 0 for size in SIZES]
    return BagsInMemory(bags, labels=[0, 1] * 3, marked=marked, patients=list("aabbcc"))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.booleans(), st.integers(0, 99))
def test_both_readers_give_the_bags(indices: list[int], subsampled: bool, seed: int) -> None:
    data, generator = dataset(), np.random.default_rng(seed)
    rows: list[Any] = [generator.integers(SIZES[i], size=3) if subsampled and i % 2 else None for i in indices]
    expected = [data.bags[i] if own is None else data.bags[i][own] for i, own in zip(indices, rows, strict=True)]
    for reader in (ResidentBags(data, "cpu"), StoredBags(data, "cpu")):
        found = reader.read(np.array(indices), rows)
        assert found.sizes == tuple(len(bag) for bag in expected)
        assert torch.equal(found.features, torch.cat(expected))
        assert found.offsets.tolist() == np.cumsum([0, *found.sizes]).tolist()


def test_a_single_whole_bag_is_not_copied() -> None:
    data = dataset()
    assert StoredBags(data, "cpu").read(np.array([1]), [None]).features is data.bags[1]
    reader = ResidentBags(data, "cpu")
    first, second = (reader.read(np.array([1]), [None]).features for _ in range(2))
    assert first.data_ptr() == second.data_ptr()


def test_half_precision_stays_half() -> None:
    data = BagsInMemory([bag.half() for bag in dataset().bags], labels=[0, 1] * 3)
    assert ResidentBags(data, "cpu").read(np.array([0, 2]), [None, None]).features.dtype == torch.float16


def test_large_sets_stay_where_they_are() -> None:
    class Large(BagsInMemory):
        def __post_init__(self) -> None:
            super().__post_init__()
            object.__setattr__(self, "sizes", [2**30] * 6)

    assert reader_for(dataset(), "cpu").resident
    assert not reader_for(Large(dataset().bags, labels=[0, 1] * 3), "cpu").resident


def test_jobs_come_in_order_and_one_runs_ahead() -> None:
    threads, begun = set(), []

    def job(number: int) -> int:
        threads.add(threading.get_ident())
        begun.append(number)
        return number

    results = read_ahead(partial(job, number) for number in range(5))
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(begun) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert begun == [0, 1]
    assert list(results) == [1, 2, 3, 4]
    assert threading.get_ident() not in threads


def test_a_job_that_fails_fails_where_its_result_is_due() -> None:
    def fail() -> int:
        raise OSError("gone")

    results = read_ahead([lambda: 1, fail])
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_standardised_over_the_training_bags_only() -> None:
    data = dataset()
    constant = BagsInMemory([torch.cat([bag, torch.full((len(bag), 1), 7.0)], 1) for bag in data.bags], data.labels)
    found = standardized(constant, [1, 2, 4])
    seen = torch.cat([found.features(index) for index in (1, 2, 4)])
    raw = np.concatenate([data.bags[index].numpy() for index in (1, 2, 4)]).astype(np.float64)
    assert seen.mean(0).numpy() == pytest.approx(np.zeros(4), abs=1e-6)
    assert seen.std(0, correction=0).numpy() == pytest.approx([1, 1, 1, 0], abs=1e-5)
    expected = (data.bags[0].numpy() - raw.mean(0)) / raw.std(0)
    assert found.features(0)[:, :3].numpy() == pytest.approx(expected, abs=1e-5)


def test_standardised_bags_are_else_the_data_set() -> None:
    data = dataset()
    found = standardized(data, [0, 1])
    assert (found.names, found.patients, found.labels) == (data.names, data.patients, data.labels)
    assert (found.sizes, found.classes, found.in_features) == (data.sizes, data.classes, 3)
    assert len(found) == 6
    assert found.instance_labels(2) is data.marked[2]
    assert found.coords(2) is None
    assert found.parts(1) == data.parts(1)
