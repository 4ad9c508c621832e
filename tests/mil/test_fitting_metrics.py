"""Metrics against loops in NumPy, per patient, undefined ones, and bootstrap intervals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entroreg.benchmarks.mil.intervals import bootstrap_intervals, weighted_metrics
from entroreg.vision.mil import DataError
from entroreg.vision.mil.fitting import attention_auroc, bag_metrics, by_patient


def auroc(scores: Any, positive: Any) -> float:
    """The share of pairs in order, by a loop."""
    pairs = itertools.product(scores[positive], scores[~positive])
    return float(np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs]))


def oracle(probs: Any, labels: Any) -> dict[str, float]:
    classes = range(probs.shape[1])
    chosen = probs.argmax(axis=1)
    f1, recalls = [], []
    for label in classes:
        hits = np.sum((chosen == label) & (labels == label))
        if np.any((chosen == label) | (labels == label)):
            f1.append(2 * hits / (np.sum(chosen == label) + np.sum(labels == label)))
        recalls.append(hits / np.sum(labels == label))
    error, confidence = 0.0, probs.max(axis=1)
    for begin in range(15):
        inside = (confidence >= begin / 15) & (confidence < (begin + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(np.mean(chosen[inside] == labels[inside]) - confidence[inside].mean())
    found = {
        "accuracy": np.mean(chosen == labels),
        "macro_f1": np.mean(f1),
        "balanced_accuracy": np.mean(recalls),
        "calibration_error": error,
    }
    if len(classes) > 2:
        return {**found, "auroc": np.mean([auroc(probs[:, label], labels == label) for label in classes])}
    best = 0.0
    for threshold in [2.0, *probs[:, 1]]:
        called = probs[:, 1] >= threshold
        if np.mean(called[labels == 0]) <= 0.1 + 1e-9:
            best = max(best, float(np.mean(called[labels == 1])))
    return {**found, "auroc": auroc(probs[:, 1], labels == 1), "sensitivity": best}


@st.composite
def predictions(draw: Any) -> tuple[Any, Any]:
    classes, count = draw(st.integers(2, 4)), draw(st.integers(8, 40))
    # whole hundredths, so that there are ties; and no confidence at the edge of a bin
    raw = draw(hnp.arrays(np.int64, (count, classes), elements=st.integers(1, 60)))
    probs = raw / raw.sum(axis=1, keepdims=True)
    labels = np.array([*range(classes), *draw(st.lists(st.integers(0, classes - 1), min_size=count - classes))])
    return probs, np.resize(labels, count)


@given(predictions())
def test_metrics_are_those_of_a_loop(case: tuple[Any, Any]) -> None:
    probs, labels = case
    edges = np.abs(probs.max(axis=1) * 15 - np.round(probs.max(axis=1) * 15)) < 1e-6
    probs[edges] = np.array([1.0, *[0.0] * (probs.shape[1] - 1)]) * 0.99 + 0.01 / probs.shape[1]
    found = bag_metrics(probs, labels)
    assert found.undefined == {}
    expected = oracle(probs, labels)
    assert found.values.keys() == expected.keys()
    weighted = weighted_metrics(probs, labels, np.ones((2, len(labels))))
    assert weighted.keys() == expected.keys()
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, abs=1e-5), name  # torchmetrics counts in float32
        assert weighted[name].tolist() == pytest.approx([value, value], abs=1e-9), name


@given(predictions(), st.integers(0, 99))
def test_a_weight_is_a_bag_that_comes_as_often(case: tuple[Any, Any], seed: int) -> None:
    probs, labels = case
    weights = np.random.default_rng(seed).integers(0, 4, size=len(labels))
    found = weighted_metrics(probs, labels, weights[None].astype(float))
    drawn = np.repeat(np.arange(len(labels)), weights)
    classes = set(labels[drawn].tolist())
    if len(classes) < probs.shape[1]:
        for name in ("auroc", "balanced_accuracy", *(["sensitivity"] if probs.shape[1] == 2 else [])):
            assert math.isnan(found[name][0])
        return
    repeated = weighted_metrics(probs[drawn], labels[drawn], np.ones((1, len(drawn))))
    for name, value in repeated.items():
        assert found[name][0] == pytest.approx(value[0], abs=1e-9), name


def test_what_a_missing_class_leaves_undefined_is_none_and_says_why() -> None:
    found = bag_metrics([[0.2, 0.8], [0.6, 0.4]], [1, 1], classes=("normal", "tumour"))
    reason = "no bag is of class 'normal'"
    assert found.undefined == dict.fromkeys(("auroc", "balanced_accuracy", "sensitivity"), reason)
    assert [found.values[name] for name in found.undefined] == [None] * 3
    assert found.values["accuracy"] == 0.5
    assert found.values["macro_f1"] == pytest.approx((0 + 2 / 3) / 2)
    of_three = bag_metrics(np.full((2, 3), 1 / 3), [0, 1])
    assert of_three.undefined == dict.fromkeys(("auroc", "balanced_accuracy"), "no bag is of class 2")


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (
            [[0.5, 0.5]],
            [0, 1],
            "probs and labels must have shapes (n, C) and (n,) with n of at least 1, got (1, 2)",
        ),
        (np.zeros((0, 2)), [], "with n of at least 1, got (0, 2)"),
        ([[math.nan, 1.0]], [0], "probs must be finite, got nan"),
    ],
)
def test_bad_predictions(probs: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        bag_metrics(probs, labels)
    assert message in str(error.value)


def test_a_patients_bags_are_averaged() -> None:
    probs = [[1.0, 0.0], [0.2, 0.8], [0.4, 0.6], [0.0, 1.0]]
    found = by_patient(probs, [0, 1, 0, 1], ["b", "a", "b", "a"])
    assert found.names == ["a", "b"]
    assert found.labels.tolist() == [1, 0]
    assert found.probs == pytest.approx(np.array([[0.1, 0.9], [0.7, 0.3]]))
    with pytest.raises(DataError, match=r"bags of patient 'b' must be of one class .* got several"):
        by_patient(probs, [0, 1, 1, 1], ["b", "a", "b", "a"])


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 9)), elements=st.floats(-30, 30)),
    st.data(),
)
def test_attention_is_judged_by_its_order(logits: Any, data: Any) -> None:
    marks = np.array(data.draw(st.lists(st.booleans(), min_size=logits.shape[1], max_size=logits.shape[1])))
    found = attention_auroc(torch.from_numpy(logits), torch.from_numpy(marks))
    if marks.all() or not marks.any():
        assert found is None
        return
    probs = torch.from_numpy(logits).softmax(dim=1).numpy()
    assert found == pytest.approx(auroc(probs.mean(axis=0), marks), abs=1e-6)
    last = attention_auroc(torch.from_numpy(logits), torch.from_numpy(marks), row=len(logits) - 1)
    assert last == pytest.approx(auroc(probs[-1], marks), abs=1e-6)


def test_intervals_draw_patients_with_all_their_bags() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = np.clip(0.5 + 0.15 * (2 * labels - 1) + 0.2 * generator.normal(size=60), 0.01, 0.99)
    probs = np.stack([1 - scores, scores], axis=1)
    alone = bootstrap_intervals(probs, labels, [str(i) for i in range(60)])
    # each bag three times over, in one patient: nothing new is known, and the interval must not shrink
    thrice = np.repeat(np.arange(60), 3)
    together = bootstrap_intervals(probs[thrice], labels[thrice], [str(i) for i in thrice])
    for name, value in bag_metrics(probs, labels).values.items():
        own, tripled = alone[name], together[name]
        assert own is not None
        assert tripled is not None
        assert value is not None
        assert own.low <= value <= own.high or name == "calibration_error"  # which resampling biases upwards
        assert tripled == pytest.approx(own, abs=0.02), name
    wide = alone["auroc"]
    assert wide is not None
    assert 0.05 < wide.high - wide.low < 0.4


def test_intervals_that_cannot_be_known() -> None:
    probs, labels = np.array([[0.3, 0.7], [0.6, 0.4]]), np.array([1, 0])
    assert set(bootstrap_intervals(probs, labels, ["a", "a"]).values()) == {None}
    one_class = bootstrap_intervals(probs, np.array([1, 1]), ["a", "b"])
    assert one_class["auroc"] is None
    assert one_class["accuracy"] is not None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        right = generator.random(60) < 0.7
        labels = np.arange(60) % 2
        scores = np.where(right, labels, 1 - labels) * 0.8 + 0.1
        found = bootstrap_intervals(
            np.stack([1 - scores, scores], 1), labels, list(map(str, range(60))), resamples=400
        )
        interval = found["accuracy"]
        assert interval is not None
        held += interval.low <= 0.7 <= interval.high
    assert 178 <= held <= 200  # 0.95 of 200 is 190; a binomial deviation is 3.1
