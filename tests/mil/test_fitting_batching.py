"""Settings of a fit, and the order in which it sees its bags."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.benchmarks.mil.options import FitOptions
from entroreg.vision.mil.fitting import FitSettings, planned_steps
from entroreg.vision.mil.fitting.batching import (
    balancing_weights,
    drawn_rows,
    epoch_batches,
    evaluation_batches,
    trained_sizes,
)

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=30).map(np.array)
LIMITS = st.one_of(st.none(), st.integers(1, 120))


@given(SIZES, LIMITS, st.one_of(st.none(), st.integers(1, 7)), st.integers(1, 4), st.integers(0, 3))
def test_every_bag_comes_once_within_the_limits(
    sizes: Any, instances: int | None, bags: int | None, accumulate: int, epoch: int
) -> None:
    settings = FitSettings(instances_per_step=instances, bags_per_step=bags, accumulate=accumulate)
    batches = epoch_batches(sizes, np.zeros_like(sizes), settings, epoch)
    order = np.concatenate([batch.bags for batch in batches])
    assert sorted(order) == list(range(len(sizes)))
    most = bags or (len(sizes) if instances else 1)
    for place, batch in enumerate(batches):
        assert 1 <= len(batch.bags) <= most
        assert instances is None or len(batch.bags) == 1 or sizes[batch.bags].sum() <= instances
        if place + 1 < len(batches):  # no batch ends before it must
            following = sizes[batch.bags].sum() + sizes[batches[place + 1].bags[0]]
            assert len(batch.bags) == most or (instances is not None and following > instances)
    ends = [place for place, batch in enumerate(batches) if batch.ends_step]
    assert ends == [*range(accumulate - 1, len(batches) - 1, accumulate), len(batches) - 1]
    for begin, end in zip([0, *(end + 1 for end in ends)], ends, strict=False):
        step = batches[begin : end + 1]
        assert {batch.step_bags for batch in step} == {sum(len(batch.bags) for batch in step)}


def test_the_order_is_of_the_seed_and_the_epoch_alone() -> None:
    sizes, labels = np.full(40, 3), np.zeros(40, dtype=int)

    def order(seed: int, epoch: int) -> list[int]:
        batches = epoch_batches(sizes, labels, FitSettings(bags_per_step=40, seed=seed), epoch)
        return batches[0].bags.tolist()  # type: ignore[no-any-return]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_planned_steps_are_those_that_are_taken() -> None:
    sizes, labels = np.arange(1, 31), np.arange(30) % 2
    settings = FitSettings(epochs=7, instances_per_step=60)
    taken = [sum(b.ends_step for b in epoch_batches(sizes, labels, settings, epoch)) for epoch in range(7)]
    assert len(set(taken)) > 1  # the budget cuts every order at other places
    assert planned_steps(sizes.tolist(), labels.tolist(), settings) == sum(taken)


def test_balanced_sampling_draws_rare_classes_as_often() -> None:
    labels = np.array([0] * 90 + [2] * 10)
    settings = FitSettings(bags_per_step=100, balance="sampling")
    drawn = [epoch_batches(np.ones(100), labels, settings, epoch)[0].bags for epoch in range(50)]
    share = np.mean(labels[np.concatenate(drawn)] == 2)
    assert share == pytest.approx(0.5, abs=0.03)  # 5,000 draws: a standard deviation is 0.007


def test_weights_of_classes() -> None:
    labels = np.array([0] * 9 + [2])
    weights = balancing_weights(labels)
    assert weights.tolist() == pytest.approx([10 / 18, 0.0, 5.0])
    assert weights[labels].mean() == pytest.approx(1.0)


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.integers(0, 9))
def test_a_share_of_instances(size: int, share: float, seed: int) -> None:
    settings = FitSettings(instance_share=share)
    rows = drawn_rows(size, settings, np.random.default_rng(seed))
    expected = max(int(share * size), 1)
    assert trained_sizes(np.array([size]), settings).tolist() == [expected]
    if share == 1.0:
        assert rows is None
        return
    assert rows is not None
    assert len(set(rows.tolist())) == len(rows) == expected
    assert rows.min() >= 0
    assert rows.max() < size


def test_a_fixed_number_of_instances_repeats_those_of_small_bags_only() -> None:
    settings = FitSettings(sampled_bag_size=8)
    generator = np.random.default_rng(0)
    large, small = drawn_rows(20, settings, generator), drawn_rows(3, settings, generator)
    assert large is not None
    assert small is not None
    assert len(set(large.tolist())) == 8
    assert len(small) == 8
    assert set(small.tolist()) == {0, 1, 2}
    seen = {place for _ in range(40) for place in drawn_rows(20, settings, generator).tolist()}  # type: ignore[union-attr]
    assert seen == set(range(20))


def test_evaluation_keeps_the_order() -> None:
    batches = [part.tolist() for part in evaluation_batches(np.array([4, 4, 20, 1, 1]), instances=8)]
    assert batches == [[0, 1], [2], [3, 4]]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 2.0}, TypeError, "epochs must be an int, got float"),
        ({"bags_per_step": 0}, ValueError, "bags_per_step must be at least 1, got 0"),
        ({"instances_per_step": 0}, ValueError, "instances_per_step must be at least 1, got 0"),
        ({"sampled_bag_size": 0}, ValueError, "sampled_bag_size must be at least 1, got 0"),
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
        ({"accumulate": 0}, ValueError, "accumulate must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and above 0, got 0.0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be finite and at least 0, got -1.0"),
        ({"balance": "both"}, ValueError, "balance must be one of ['none', 'sampling', 'weights'], got 'both'"),
        ({"instance_share": 0.0}, ValueError, "instance_share must be in (0, 1], got 0.0"),
        (
            {"instance_share": 0.5, "sampled_bag_size": 4},
            ValueError,
            "instance_share and sampled_bag_size exclude each other",
        ),
    ],
)
def test_bad_settings(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as error:
        FitSettings(**arguments)
    assert message in str(error.value)


def test_the_commands_flags_are_the_settings() -> None:
    settings = {field.name: field.default for field in fields(FitSettings) if field.name != "seed"}
    assert {field.name: field.default for field in fields(FitOptions)} == settings
