"""Splits into training, validation and test bags that never part a patient, and the file they are kept in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.atomic import write_json
from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.dataset import BagDataset

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """Indices of bags, each sorted; no patient is in two of the three."""

    train: tuple[int, ...]
    """Bags to train on."""
    validation: tuple[int, ...]
    """Bags to select on."""
    test: tuple[int, ...]
    """Bags to report on."""


def stratified_folds(
    labels: Sequence[int],
    patients: Sequence[str],
    folds: int,
    seed: int,
    *,
    validation_share: float = 0.1,
    classes: Sequence[str] = (),
) -> list[Fold]:
    """Return k folds: each patient is tested in exactly one, and the classes are as even as patients allow.

    Patients are dealt in turn, those of rare classes and with many bags first, each to the part where chi-squared
    of the classes grows least. Where each patient has one bag, the test parts hold floor(n / k) or ceil(n / k) bags
    of a class of n, and their sizes differ by at most one.

    Args:
        labels: class of each bag.
        patients: of each bag.
        folds: how many, 2 or more.
        seed: of the order in which patients are dealt.
        validation_share: of what is not tested, in [0, 1), but at least one patient of each class; 0 leaves the
            validation parts empty.
        classes: names of the classes for messages; their numbers if left out.

    Raises:
        ValueError: ``folds``, ``validation_share``, a label or a length is out of range.
        DataError: a class has fewer patients than there are folds, or is missing from a part of a fold.

    Example:
        >>> for fold in stratified_folds([0, 0, 0, 1, 1, 1], list("abcdef"), 3, seed=0):
        ...     print(fold)
        Fold(train=(1, 5), validation=(0, 4), test=(2, 3))
        Fold(train=(1, 3), validation=(2, 4), test=(0, 5))
        Fold(train=(0, 3), validation=(2, 5), test=(1, 4))
    """
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, got {folds}: use holdout for one split")
    if not 0.0 <= validation_share < 1.0:
        raise ValueError(f"validation_share must be in [0, 1), got {validation_share}")
    owners, counts = _patient_counts(labels, patients)
    for label, having in enumerate((counts > 0).sum(axis=0)):
        if 0 < having < folds:
            raise DataError(
                f"class {_name(label, classes)} has {having} patients, so it is missing from the test part of "
                f"{folds - having} of {folds} folds: use fewer folds or merge the class with another"
            )
    generator = np.random.default_rng(seed)
    tested_in = _deal(counts, [1.0 / folds] * folds, generator)
    result = []
    for fold in range(folds):
        part_of = np.where(tested_in == fold, 2, 0)
        rest = np.flatnonzero(tested_in != fold)
        part_of[rest] = _deal(counts[rest], [1.0 - validation_share, validation_share], generator)
        result.append(_fold(part_of[owners]))
        _require_classes(f"fold {fold}", result[fold], _needed(validation_share), labels, classes)
    return result


def holdout(
    labels: Sequence[int],
    patients: Sequence[str],
    seed: int,
    *,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    classes: Sequence[str] = (),
) -> Fold:
    """Return one split into three parts, the classes as even as patients allow.

    Args:
        labels: class of each bag.
        patients: of each bag.
        seed: of the order in which patients are dealt.
        validation_share: of all, in [0, 1), but at least one patient of each class; 0 leaves the part empty.
        test_share: of all, in (0, 1), but at least one patient of each class; with ``validation_share`` below 1.
        classes: names of the classes for messages; their numbers if left out.

    Raises:
        ValueError: a share, a label or a length is out of range.
        DataError: a class is missing from a part.
    """
    if validation_share < 0.0 or test_share <= 0.0 or validation_share + test_share >= 1.0:
        raise ValueError(
            "validation_share must be 0 or more, test_share above 0 and both together below 1, "
            f"got {validation_share} and {test_share}"
        )
    owners, counts = _patient_counts(labels, patients)
    shares = [1.0 - validation_share - test_share, validation_share, test_share]
    fold = _fold(_deal(counts, shares, np.random.default_rng(seed))[owners])
    _require_classes("the split", fold, _needed(validation_share), labels, classes)
    return fold


def write_folds(path: str | os.PathLike[str], folds: Sequence[Fold], dataset: BagDataset) -> None:
    """Write folds as JSON, by the names of the bags, with the patient and the class of each.

    Args:
        path: the file; its folder must exist.
        folds: of ``dataset``.
        dataset: what was split.

    Raises:
        OSError: the file could not be written; the old one is then untouched.
    """
    names = dataset.names
    parts = [{part: [names[index] for index in getattr(fold, part)] for part in _PARTS} for fold in folds]
    write_json(path, {"bags": _bags(dataset), "folds": parts})


def read_folds(path: str | os.PathLike[str], dataset: BagDataset) -> list[Fold]:
    """Return the folds that `write_folds` wrote, or that were written by hand in its form.

    Args:
        path: the file.
        dataset: must have the bags, patients and classes that the file was written with, in any order.

    Raises:
        DataError: the file is not of this form or was written for other data; a patient is in two parts of a fold,
            or a class is missing from one.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        bags, folds = content["bags"], [[[*map(str, fold[part])] for part in _PARTS] for fold in content["folds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} must be a file of folds, got one that cannot be read ({error})") from error
    _require_same_bags(path, bags, _bags(dataset))
    return [_read_fold(f"fold {number} of {path}", parts, dataset) for number, parts in enumerate(folds)]


def _read_fold(where: str, parts: Sequence[Sequence[str]], dataset: BagDataset) -> Fold:
    index_of = {name: index for index, name in enumerate(dataset.names)}
    part_of = np.full(len(index_of), -1)
    owner: dict[str, int] = {}
    for part, name in ((part, name) for part, names in enumerate(parts) for name in names):
        if name not in index_of:
            raise DataError(f"{where} must hold bags of the data, got {name!r}: split again")
        part_of[index_of[name]] = part
        patient = dataset.patients[index_of[name]]
        if owner.setdefault(patient, part) != part:
            raise DataError(
                f"{where} must have patient {patient!r} in one part, got "
                f"{_PARTS[owner[patient]]} and {_PARTS[part]}: split again"
            )
    fold = _fold(part_of)
    filled = [part for part in _PARTS if part == "train" or getattr(fold, part)]
    _require_classes(where, fold, filled, dataset.labels, dataset.classes)
    return fold


def _patient_counts(labels: Sequence[int], patients: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return each bag's patient as a number, and (patients, classes): the bags of each class that a patient has."""
    if not len(labels) or len(labels) != len(patients):
        raise ValueError(f"labels and patients must be one for each bag, got {len(labels)} and {len(patients)}")
    if min(labels) < 0:
        raise ValueError(f"labels must be 0 or more, got {min(labels)}: leave bags of no class out")
    unique, owners = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(unique), max(labels) + 1), dtype=np.int64)
    np.add.at(counts, (owners, np.asarray(labels)), 1)
    return owners, counts


def _deal(counts: NDArray[np.int64], shares: Sequence[float], generator: np.random.Generator) -> NDArray[np.intp]:
    """Return the part of each patient: dealt in turn, the hardest first, each to where chi-squared grows least."""
    totals = np.maximum(counts.sum(axis=0), 1)
    weights = counts / totals
    order = generator.permutation(len(counts))
    order = order[np.lexsort((weights[order].argmax(axis=1), -weights[order].sum(axis=1)))]
    used = np.flatnonzero(shares)
    share = np.asarray(shares)[used]
    held = np.zeros((len(used), counts.shape[1]))
    parts = np.zeros(len(counts), dtype=np.intp)
    for patient in order:
        # The sum of (held - expected)^2 / expected grows by twice this, less what is the same for all parts.
        middle = held + counts[patient] / 2
        growth = (middle @ weights[patient]) / share
        filling = middle.sum(axis=1) / share
        # A part without a class comes before all that have it: small classes would else round to no patient at all.
        new = ((held == 0) & (counts[patient] > 0)).sum(axis=1)
        # Rounded, so that parts which are equal but for their last bits are a tie, which the filling decides.
        chosen = np.lexsort((filling.round(9), growth.round(9), -new))[0]
        parts[patient] = used[chosen]
        held[chosen] += counts[patient]
    return parts


def _fold(part_of: NDArray[np.intp]) -> Fold:
    return Fold(*(tuple(np.flatnonzero(part_of == part).tolist()) for part in range(len(_PARTS))))


def _needed(validation_share: float) -> tuple[str, ...]:
    return _PARTS if validation_share > 0.0 else ("train", "test")


def _require_classes(
    where: str, fold: Fold, parts: Iterable[str], labels: Sequence[int], classes: Sequence[str]
) -> None:
    for part in parts:
        missing = set(labels) - {labels[index] for index in getattr(fold, part)}
        if missing:
            raise DataError(
                f"class {_name(min(missing), classes)} is missing from the {part} part of {where}: "
                "use fewer folds, larger shares or another seed, or merge the class with another"
            )


def _bags(dataset: BagDataset) -> dict[str, dict[str, str]]:
    # In the order in which the file has them, so that a message shows both sides alike.
    rows = zip(dataset.names, dataset.patients, dataset.labels, strict=True)
    return {name: {"class": dataset.classes[label], "patient": patient} for name, patient, label in rows}


def _require_same_bags(path: Path, written: Any, found: dict[str, dict[str, str]]) -> None:
    names = written if isinstance(written, dict) else {}
    for name in sorted({*names, *found}):
        if names.get(name) != found.get(name):
            raise DataError(
                f"{path} must be of this data, got bag {name!r} as {names.get(name, 'absent')} there and as "
                f"{found.get(name, 'absent')} here: split again"
            )


def _name(label: int, classes: Sequence[str]) -> str:
    return repr(classes[label]) if classes else str(label)
