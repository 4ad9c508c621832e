"""Metrics of predicted bags; one that a missing class leaves undefined is None, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from entroreg.vision.data.errors import DataError

CALIBRATION_BINS = 15
SPECIFICITY = 0.9
_ROUNDING = 1e-6  # torchmetrics compares 1 - FPR in float32 with the specificity asked for


class Metrics(NamedTuple):
    """Metrics of some predictions.

    Attributes:
        values: by name; None where undefined.
        undefined: why, for those.
    """

    values: dict[str, float | None]
    undefined: dict[str, str]


class PatientPredictions(NamedTuple):
    """Predictions of patients, in the order of their names.

    Attributes:
        names: (P,).
        probs: (P, C), the mean over each patient's bags.
        labels: (P,).
    """

    names: list[str]
    probs: NDArray[np.float64]
    labels: NDArray[np.int64]


def bag_metrics(
    probs: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    specificity: float = SPECIFICITY,
) -> Metrics:
    """Return accuracy, macro-F1, calibration error, AUROC, balanced accuracy and, of two classes, sensitivity.

    - ``macro_f1``: mean over the classes that are among labels or predictions.
    - ``calibration_error``: expected, of the predicted class, in 15 bins of equal width.
    - ``auroc``: of class 1 where there are two, else the mean over classes of one against the rest.
    - ``balanced_accuracy``: mean recall of the classes.
    - ``sensitivity``: of class 1, the best at a specificity of at least ``specificity``; two classes only.

    The last three are None where a class has no bag.

    Args:
        probs: (n, C) probabilities.
        labels: (n,) integers in [0, C).
        classes: names of the C classes for messages; their numbers if left out.
        specificity: in [0, 1].

    Raises:
        ValueError: shapes that do not fit, nothing at all, or probabilities that are not finite.
        ModuleNotFoundError: torchmetrics is not installed.

    Example:
        >>> bag_metrics([[0.9, 0.1], [0.2, 0.8]], [0, 1]).values["auroc"]
        1.0
    """
    predicted, target = _checked(probs, labels)
    metrics = _always_defined(predicted, target)
    present = set(target.tolist())
    missing = [label for label in range(predicted.shape[1]) if label not in present]
    if not missing:
        return Metrics({**metrics, **_of_all_classes(predicted, target, specificity)}, {})
    name = repr(classes[missing[0]]) if classes else str(missing[0])
    names = ("auroc", "balanced_accuracy", *(("sensitivity",) if predicted.shape[1] == 2 else ()))
    reason = f"no bag is of class {name}"
    return Metrics({**metrics, **dict.fromkeys(names)}, dict.fromkeys(names, reason))


def by_patient(probs: ArrayLike, labels: Sequence[int], patients: Sequence[str]) -> PatientPredictions:
    """Return the mean probabilities of each patient's bags.

    Args:
        probs: (n, C).
        labels: (n,) classes.
        patients: (n,) names.

    Raises:
        DataError: two bags of a patient differ in class.

    Example:
        >>> by_patient([[1.0, 0.0], [0.5, 0.5]], [0, 0], ["a", "a"]).probs
        array([[0.75, 0.25]])
    """
    values = np.asarray(probs, dtype=np.float64)
    names, owners = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.bincount(owners)
    means = np.stack([np.bincount(owners, column) / counts for column in values.T], axis=1)
    of_patient = np.zeros(len(names), dtype=np.int64)
    of_patient[owners] = labels
    differing = np.flatnonzero(of_patient[owners] != np.asarray(labels))
    if len(differing):
        raise DataError(
            f"bags of patient {patients[differing[0]]!r} must be of one class to be judged together, got several: "
            "judge each bag by itself"
        )
    return PatientPredictions(names.tolist(), means, of_patient)


def attention_auroc(attention_logits: Tensor, marks: Tensor, row: int | None = None) -> float | None:
    """Return how well a bag's attention tells marked instances from others, as an AUROC.

    Args:
        attention_logits: (K, N) of one bag.
        marks: (N,) boolean.
        row: of the attention that is judged; None for the mean probability over all K rows.

    Returns:
        In [0, 1], or None where all instances are of one kind.

    Example:
        >>> attention_auroc(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([False, True, False]))
        1.0
    """
    if bool(marks.all()) or not bool(marks.any()):
        return None
    from torchmetrics.functional.classification import binary_auroc

    # float64: in float32 small probabilities would underflow and tie.
    probs = attention_logits.double().softmax(dim=1)
    scores = probs.mean(dim=0) if row is None else probs[row]
    return _number(binary_auroc(scores, marks.long(), validate_args=False))


def _checked(probs: ArrayLike, labels: ArrayLike) -> tuple[Tensor, Tensor]:
    values, target = np.asarray(probs, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if values.ndim != 2 or not len(values) or target.shape != values.shape[:1]:
        raise ValueError(
            f"probs and labels must have shapes (n, C) and (n,) with n of at least 1, got {values.shape} and "
            f"{target.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"probs must be finite, got {values[~np.isfinite(values)][0]}")
    return torch.from_numpy(values), torch.from_numpy(target)


def _always_defined(probs: Tensor, labels: Tensor) -> dict[str, float | None]:
    from torchmetrics.functional import classification as tm

    chosen = probs.argmax(dim=1)
    shared: dict[str, Any] = {"num_classes": probs.shape[1], "validate_args": False}
    error = tm.multiclass_calibration_error(probs, labels, n_bins=CALIBRATION_BINS, **shared)
    return {
        "accuracy": _number((chosen == labels).float().mean()),
        "calibration_error": _number(error),
        "macro_f1": _number(tm.multiclass_f1_score(chosen, labels, average="macro", **shared)),
    }


def _of_all_classes(probs: Tensor, labels: Tensor, specificity: float) -> dict[str, float | None]:
    from torchmetrics.functional import classification as tm

    shared: dict[str, Any] = {"num_classes": probs.shape[1], "validate_args": False}
    recall = _number(tm.multiclass_accuracy(probs.argmax(dim=1), labels, average="macro", **shared))
    if probs.shape[1] > 2:
        return {"auroc": _number(tm.multiclass_auroc(probs, labels, **shared)), "balanced_accuracy": recall}
    least = max(specificity - _ROUNDING, 0.0)
    sensitivity, _ = tm.binary_sensitivity_at_specificity(probs[:, 1], labels, least, validate_args=False)
    return {
        "auroc": _number(tm.binary_auroc(probs[:, 1], labels, validate_args=False)),
        "balanced_accuracy": recall,
        "sensitivity": _number(sensitivity),
    }


def _number(metric: Tensor) -> float:
    """Return a metric without the digits that float32, in which torchmetrics counts, does not have."""
    return round(float(metric), 6)
