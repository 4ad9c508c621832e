"""Splits: no patient in two parts, every bag used, classes even; and the file they are kept in."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.dataset import BagsInMemory
from entroreg.vision.mil.splits import Fold, holdout, read_folds, stratified_folds, write_folds


def _require_partition(fold: Fold, labels: Sequence[int], patients: Sequence[str]) -> None:
    parts = [fold.train, fold.validation, fold.test]
    assert sorted(index for part in parts for index in part) == list(range(len(labels)))
    for part in parts:
        assert list(part) == sorted(part)
    owners = [{patients[index] for index in part} for part in parts]
    assert sum(map(len, owners)) == len(set(patients))


@st.composite
def _cohorts(draw: st.DrawFn) -> tuple[list[int], list[str]]:
    """Bags of 2 to 3 classes with up to 4 bags for each patient, whose bags may differ in class."""
    classes = draw(st.integers(2, 3))
    patients = draw(
        st.lists(st.lists(st.integers(0, classes - 1), min_size=1, max_size=4), min_size=6, max_size=30)
    )
    bags = [(label, f"p{number}") for number, owned in enumerate(patients) for label in owned]
    bags = draw(st.permutations(bags))
    return [label for label, _ in bags], [patient for _, patient in bags]


@given(cohort=_cohorts(), folds=st.integers(2, 5), seed=st.integers(0, 3), share=st.sampled_from([0.0, 0.1, 0.4]))
def test_patients_stay_whole_and_each_is_tested_once(
    cohort: tuple[list[int], list[str]], folds: int, seed: int, share: float
) -> None:
    labels, patients = cohort
    try:
        result = stratified_folds(labels, patients, folds, seed, validation_share=share)
    except DataError:
        reject()
    assert len(result) == folds
    for fold in result:
        _require_partition(fold, labels, patients)
        parts = [fold.train, fold.test, *([fold.validation] if share else [])]
        assert all({labels[index] for index in part} == set(labels) for part in parts)
        assert bool(fold.validation) is (share > 0)
    assert sorted(index for fold in result for index in fold.test) == list(range(len(labels)))
    assert result == stratified_folds(labels, patients, folds, seed, validation_share=share)


@given(
    sizes=st.lists(st.integers(10, 40), min_size=2, max_size=4),
    folds=st.integers(2, 5),
    seed=st.integers(0, 9),
    share=st.sampled_from([0.1, 0.25, 0.5]),
)
def test_classes_are_as_even_as_numbers_allow(sizes: list[int], folds: int, seed: int, share: float) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    patients = [f"p{index}" for index in range(len(labels))]
    result = stratified_folds(labels, patients, folds, seed, validation_share=share)
    tested = [len(fold.test) for fold in result]
    assert max(tested) - min(tested) <= 1
    for fold in result:
        _require_partition(fold, labels, patients)
        test, validation = (Counter(labels[index] for index in part) for part in (fold.test, fold.validation))
        for label, size in enumerate(sizes):
            assert test[label] in (size // folds, math.ceil(size / folds))
            wanted = share * (size - test[label])
            assert abs(validation[label] - max(1.0, wanted)) <= 0.5 + 1e-9


@given(
    sizes=st.lists(st.integers(3, 40), min_size=2, max_size=4),
    seed=st.integers(0, 9),
    shares=st.sampled_from([(0.1, 0.2), (0.0, 0.3), (0.3, 0.3)]),
)
def test_a_holdout_has_its_shares_of_every_class(sizes: list[int], seed: int, shares: tuple[float, float]) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    patients = [f"p{index}" for index in range(len(labels))]
    fold = holdout(labels, patients, seed, validation_share=shares[0], test_share=shares[1])
    _require_partition(fold, labels, patients)
    for share, part in zip(shares, (fold.validation, fold.test), strict=True):
        count = Counter(labels[index] for index in part)
        for label, size in enumerate(sizes):
            assert abs(count[label] - (max(1.0, share * size) if share else 0)) < 1.0
    assert fold == holdout(labels, patients, seed, validation_share=shares[0], test_share=shares[1])


def test_seeds_differ_and_the_order_of_bags_does_not_part_a_patient() -> None:
    labels = [0, 1] * 20
    patients = [f"p{index // 2}" for index in range(40)]
    splits = {tuple(fold.test for fold in stratified_folds(labels, patients, 4, seed)) for seed in range(5)}
    assert len(splits) == 5
    for fold in stratified_folds(labels, patients, 4, 0):
        assert len(fold.test) == 10
        assert sum(labels[index] for index in fold.test) == 5


def test_a_patient_with_many_bags_does_not_fill_a_fold_twice() -> None:
    labels = [0] * 20 + [1] * 20
    patients = ["big"] * 10 + [f"p{index}" for index in range(30)]
    tested = [fold.test for fold in stratified_folds(labels, patients, 4, 0)]
    (full,) = (part for part in tested if 0 in part)
    assert sum(index < 20 for index in full) == 10  # the big patient and nobody else of its class
    assert sorted(sum(index < 20 for index in part) for part in tested) == [3, 3, 4, 10]


def test_patients_of_several_classes_fill_every_part_alike() -> None:
    # As in CAMELYON17: five slides for each patient, most of them of one class.
    generator = np.random.default_rng(0)
    labels = generator.choice(4, 500, p=[0.6, 0.1, 0.12, 0.18]).tolist()
    patients = [f"p{index // 5}" for index in range(500)]
    sizes = Counter(labels)
    for fold in stratified_folds(labels, patients, 5, 0, validation_share=0.25):
        for part, share in ((fold.train, 0.6), (fold.validation, 0.2), (fold.test, 0.2)):
            count = Counter(labels[index] for index in part)
            for label, size in sizes.items():
                assert abs(count[label] - share * size) <= 3
        assert len(fold.test) == 100


def test_the_smallest_cohort_has_one_patient_of_each_class_in_each_part() -> None:
    for fold in stratified_folds([0, 0, 0, 1, 1, 1], list("abcdef"), 3, seed=0):
        assert [len(fold.train), len(fold.validation), len(fold.test)] == [2, 2, 2]


def test_a_class_with_too_few_patients_is_named() -> None:
    labels, patients = [0] * 9 + [1] * 6, [*"abcdefghi", *"jjkkll"]
    with pytest.raises(DataError) as caught:
        stratified_folds(labels, patients, 5, 0, classes=["normal", "tumour"])
    assert str(caught.value) == (
        "class 'tumour' has 3 patients, so it is missing from the test part of 2 of 5 folds: "
        "use fewer folds or merge the class with another"
    )
    with pytest.raises(DataError, match=r"^class 1 has 3 patients"):
        stratified_folds(labels, patients, 5, 0)
    with pytest.raises(DataError) as caught:
        stratified_folds([0] * 9 + [1] * 2, [str(index) for index in range(11)], 2, 0, classes=["x", "y"])
    assert str(caught.value) == (
        "class 'y' is missing from the validation part of fold 0: "
        "use fewer folds, larger shares or another seed, or merge the class with another"
    )
    folds = stratified_folds([0] * 9 + [1] * 2, [str(index) for index in range(11)], 2, 0, validation_share=0.0)
    assert sorted(index for fold in folds for index in fold.test) == list(range(11))
    with pytest.raises(DataError, match=r"^class 'y' is missing from the validation part of the split: use fewer"):
        holdout([0, 0, 0, 1, 1], list("abcde"), 0, classes=["x", "y"])


def test_arguments_out_of_range_are_refused() -> None:
    for call, message in (
        (lambda: stratified_folds([0, 1], ["a", "b"], 1, 0), "folds must be 2 or more, got 1: use holdout"),
        (
            lambda: stratified_folds([0, 1], ["a", "b"], 2, 0, validation_share=1.0),
            r"validation_share must be in \[0, 1\), got 1.0",
        ),
        (
            lambda: holdout([0, 1], ["a", "b"], 0, validation_share=0.5, test_share=0.5),
            "validation_share must be 0 or more, test_share above 0 and both together below 1, got 0.5 and 0.5",
        ),
        (lambda: holdout([0, 1], ["a"], 0), "labels and patients must be one for each bag, got 2 and 1"),
        (lambda: holdout([], [], 0), "labels and patients must be one for each bag, got 0 and 0"),
        (lambda: holdout([0, -1], ["a", "b"], 0), "labels must be 0 or more, got -1: leave bags of no class out"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            call()


def _data(names: Sequence[str] = "abcdefgh", **changes: Any) -> BagsInMemory:
    labels = [ord(name) % 2 for name in names]
    patients = [f"p{name}" for name in names]
    content: dict[str, Any] = {"labels": labels, "names": list(names), "patients": patients}
    return BagsInMemory([torch.ones(1, 2)] * len(names), **{**content, **changes})


def _written(path: Path) -> list[Fold]:
    data = _data()
    folds = stratified_folds(data.labels, data.patients, 2, 0)
    write_folds(path, folds, data)
    return folds


def test_folds_come_back_by_name_in_any_order_of_bags(tmp_path: Path) -> None:
    folds = _written(tmp_path / "folds.json")
    assert read_folds(tmp_path / "folds.json", _data()) == folds
    turned = read_folds(tmp_path / "folds.json", _data("hgfedcba"))
    for fold, other in zip(folds, turned, strict=True):
        assert [*other.test] == sorted(7 - index for index in fold.test)
        assert [*other.train] == sorted(7 - index for index in fold.train)
    content = json.loads((tmp_path / "folds.json").read_text())
    assert content["bags"]["b"] == _bag("negative", "pb")
    assert content["folds"][0]["test"] == ["abcdefgh"[index] for index in folds[0].test]


def _bag(label: str, patient: str) -> dict[str, str]:
    return {"class": label, "patient": patient}


@pytest.mark.parametrize(
    ("data", "name", "there", "here"),
    [
        (_data("abcdefg"), "h", _bag("negative", "ph"), "absent"),
        (_data("abcdefghi"), "i", "absent", _bag("positive", "pi")),
        (_data(labels=[0, 0, 1, 0, 1, 0, 1, 0]), "a", _bag("positive", "pa"), _bag("negative", "pa")),
        (
            _data(patients=["pa", "x", "pc", "pd", "pe", "pf", "pg", "ph"]),
            "b",
            _bag("negative", "pb"),
            _bag("negative", "x"),
        ),
    ],
)
def test_folds_of_other_data_are_refused(
    tmp_path: Path, data: BagsInMemory, name: str, there: object, here: object
) -> None:
    path = tmp_path / "folds.json"
    _written(path)
    with pytest.raises(DataError) as caught:
        read_folds(path, data)
    expected = f"{path} must be of this data, got bag '{name}' as {there} there and as {here} here: split again"
    assert str(caught.value) == expected


def test_folds_written_by_hand_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    data = _data(patients=["p", "p", "pc", "pd", "pe", "pf", "pg", "ph"])
    write_folds(path, [], data)
    bags = json.loads(path.read_text())["bags"]

    def refusal(train: str, validation: str, test: str) -> str:
        parts = {"train": [*train], "validation": [*validation], "test": [*test]}
        path.write_text(json.dumps({"bags": bags, "folds": [parts]}))
        with pytest.raises(DataError) as caught:
            read_folds(path, data)
        return str(caught.value)

    where = f"fold 0 of {path}"
    assert refusal("ac", "bd", "ef") == (
        f"{where} must have patient 'p' in one part, got train and validation: split again"
    )
    assert refusal("abcd", "", "efz") == f"{where} must hold bags of the data, got 'z': split again"
    advice = "use fewer folds, larger shares or another seed, or merge the class with another"
    assert (
        refusal("abcd", "e", "gh") == f"class 'negative' is missing from the validation part of {where}: {advice}"
    )
    assert refusal("", "ef", "gh").startswith("class 'negative' is missing from the train part of fold 0")
    parts = {"train": [*"abcd"], "validation": [], "test": [*"gh"]}  # e and f are not used
    path.write_text(json.dumps({"bags": bags, "folds": [parts]}))
    assert read_folds(path, data) == [Fold((0, 1, 2, 3), (), (6, 7))]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"bags": {}}', '{"bags": {}, "folds": 3}', '{"bags": {}, "folds": [{"train": 1}]}'],
)
def test_a_file_that_holds_no_folds_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "folds.json"
    path.write_text(content)
    with pytest.raises(
        DataError, match=r"folds\.json must be a file of folds, got one that cannot be read \([^\n]+\)$"
    ):
        read_folds(path, _data())
    path.unlink()
    with pytest.raises(DataError, match="must be a file of folds, got one that cannot be read"):
        read_folds(path, _data())
