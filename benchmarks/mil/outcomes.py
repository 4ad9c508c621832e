"""What the folds of a run say of their test bags, and all of them together."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.atomic import write_bytes
from entroreg.benchmarks.mil.intervals import bootstrap_intervals
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import (
    BagReader,
    Metrics,
    Processes,
    attention_auroc,
    bag_metrics,
    by_patient,
    evaluating,
    predict,
)
from entroreg.vision.mil.fitting.prediction import run_model
from entroreg.vision.mil.models import DSMIL, MILModel

_RESAMPLES = 2000


@dataclass(frozen=True)
class FitCounts:
    """How a fold was fitted."""

    fold: int
    """Its number, from 0."""
    epochs: int
    """That were trained."""
    best_epoch: int
    """The one whose weights predict."""


@dataclass(frozen=True)
class FoldOutcome:
    """Predictions of one fold's test bags; plain data that JSON holds exactly."""

    counts: FitCounts
    """How it was fitted."""
    bags: list[int]
    """Indices of the test bags."""
    probs: list[list[float]]
    """Of each test bag, one for each class."""
    entropies: list[list[float]] | None
    """Of each test bag the attention's entropy in nats and as a share of log N; None without attention."""
    instance_aurocs: list[float]
    """Of the test bags with instances of both kinds: how well attention tells them apart."""


def tested(
    model: MILModel,
    dataset: BagDataset,
    bags: Sequence[int],
    *,
    counts: FitCounts,
    reader: BagReader,
    amp: bool,
    processes: Processes,
    stop: Callable[[], bool],
) -> FoldOutcome | None:
    """Return what a fold's model says of its test bags, or None if stopped.

    Args:
        model: with the weights of its best epoch.
        dataset: as it was trained on.
        bags: indices of the test bags.
        counts: how it was fitted.
        reader: of the data set.
        amp: whether to run the model in bfloat16.
        processes: that share the work.
        stop: asked before every batch, in every process.
    """
    found = predict(model, dataset, bags, reader=reader, amp=amp, processes=processes, stop=stop)
    if processes.any(stop()):
        return None
    entropies = None if found.entropies is None else found.entropies.T.tolist()
    aurocs = [] if entropies is None else _instance_aurocs(model, dataset, bags, reader, amp, stop)
    if processes.any(stop()):
        return None
    return FoldOutcome(counts, list(bags), found.probs.tolist(), entropies, aurocs)


def outcome_from_json(data: dict[str, Any]) -> FoldOutcome:
    """Return the outcome that ``dataclasses.asdict`` took apart."""
    return FoldOutcome(**{**data, "counts": FitCounts(**data["counts"])})


def words_for(dataset: BagDataset, outcome: FoldOutcome) -> str:
    """Return a line about a fold."""
    found = _of_fold(dataset, outcome)
    metrics = found["metrics"]
    auroc = "undefined" if metrics["auroc"] is None else f"{metrics['auroc']:.3f}"
    return (
        f"fold {found['fold']}: test AUROC {auroc}, macro-F1 {metrics['macro_f1']:.3f}, "
        f"epoch {found['best_epoch']} of {found['epochs']} kept"
    )


def summarise(dataset: BagDataset, outcomes: Sequence[FoldOutcome], seed: int) -> dict[str, Any]:
    """Return the figures of a whole cross-validation as JSON data.

    Metrics are per patient where patients have several bags, all of one class: of a patient's mean probabilities.

    Args:
        dataset: of the run.
        outcomes: of all folds.
        seed: of the bootstrap.
    """
    bags, probs = _pooled(outcomes)
    labels = np.asarray(dataset.labels)[bags]
    patients = [dataset.patients[index] for index in bags]
    of_bags = bag_metrics(probs, labels, dataset.classes)
    unit = _unit(dataset)
    names, values, truth = (
        (patients, probs, labels) if unit == "bag" else by_patient(probs, labels.tolist(), patients)
    )
    metrics = of_bags if unit == "bag" else bag_metrics(values, truth, dataset.classes)
    intervals = bootstrap_intervals(values, truth, names, resamples=_RESAMPLES, seed=seed)
    folds = [_of_fold(dataset, outcome) for outcome in outcomes]
    return {
        "bags": len(bags),
        "patients": len(set(patients)),
        "classes": list(dataset.classes),
        "unit": unit,
        "metrics": metrics.values,
        "intervals": {name: None if found is None else list(found) for name, found in intervals.items()},
        "undefined": metrics.undefined,
        **({} if unit == "bag" else {"bag_metrics": of_bags.values}),
        "attention": _attention(outcomes),
        "folds": folds,
        "fold_mean": {name: _mean([fold["metrics"].get(name) for fold in folds]) for name in of_bags.values},
        "score": metrics.values["auroc"],
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Return the figures of ``summarise`` as lines for people."""
    lines = [
        f"{found['bags']} bags of {found['patients']} patients, {len(found['folds'])} folds, per {found['unit']}"
    ]
    for name, value in found["metrics"].items():
        if value is None:
            text = f"undefined: {found['undefined'][name]}"
        else:
            interval = found["intervals"][name]
            text = f"{value:.3f}" + (f"  [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
        lines.append(f"  {name.replace('_', ' '):18} {text}")
    if attention := found["attention"]:
        lines.append(
            f"  attention entropy  {attention['entropy']:.3f} nats, {attention['entropy_share']:.3f} of log N"
        )
        if attention["instance_auroc"] is not None:
            count = attention["instance_auroc_bags"]
            lines.append(f"  instance AUROC     {attention['instance_auroc']:.3f}, the mean of {count} bags")
    return "\n".join(lines)


def write_predictions(path: Path, dataset: BagDataset, outcomes: Sequence[FoldOutcome]) -> None:
    """Write the out-of-fold prediction of every bag as CSV, in the order of the data set."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["bag", "patient", "fold", "label", *(f"prob_{name}" for name in dataset.classes)])
    rows = {
        bag: [outcome.counts.fold, dataset.classes[dataset.labels[bag]], *map(repr, probs)]
        for outcome in outcomes
        for bag, probs in zip(outcome.bags, outcome.probs, strict=True)
    }
    for bag in sorted(rows):
        writer.writerow([dataset.names[bag], dataset.patients[bag], *rows[bag]])
    write_bytes(path, text.getvalue().encode())


def _pooled(outcomes: Sequence[FoldOutcome]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the tested bags in the order of the data set, and their probabilities."""
    bags = np.concatenate([outcome.bags for outcome in outcomes]).astype(np.int64)
    probs = np.concatenate([outcome.probs for outcome in outcomes])
    order = np.argsort(bags, kind="stable")
    return bags[order], probs[order]


def _unit(dataset: BagDataset) -> str:
    """Return what is judged: bags, where each patient has one or where a patient's bags differ in class."""
    if len(set(dataset.patients)) == len(dataset):
        return "bag"
    classes_of: dict[str, set[int]] = {}
    for patient, label in zip(dataset.patients, dataset.labels, strict=True):
        classes_of.setdefault(patient, set()).add(label)
    return "patient" if all(len(classes) == 1 for classes in classes_of.values()) else "bag"


def _of_fold(dataset: BagDataset, outcome: FoldOutcome) -> dict[str, Any]:
    labels = [dataset.labels[index] for index in outcome.bags]
    metrics: Metrics = bag_metrics(outcome.probs, labels, dataset.classes)
    return {
        **asdict(outcome.counts),
        "bags": len(labels),
        "metrics": metrics.values,
        "undefined": metrics.undefined,
    }


def _attention(outcomes: Sequence[FoldOutcome]) -> dict[str, Any] | None:
    entropies = [pair for outcome in outcomes for pair in outcome.entropies or []]
    if not entropies:
        return None
    aurocs = [auroc for outcome in outcomes for auroc in outcome.instance_aurocs]
    entropy, share = np.mean(entropies, axis=0).tolist()
    return {
        "entropy": entropy,
        "entropy_share": share,
        "instance_auroc": _mean(aurocs),
        "instance_auroc_bags": len(aurocs),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are defined, None where none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _instance_aurocs(
    model: MILModel,
    dataset: BagDataset,
    bags: Sequence[int],
    reader: BagReader,
    amp: bool,
    stop: Callable[[], bool],
) -> list[float]:
    """Return how well attention finds the marked instances of the bags that have both kinds, in their order.

    DSMIL has a row of attention for each class, and the bag's own is judged. A stop leaves the list incomplete.
    """
    found = []
    with evaluating(model):
        for index in bags:
            if stop():
                break
            marks = dataset.instance_labels(index)
            if marks is None or bool(marks.all()) or not bool(marks.any()):
                continue
            logits = run_model(model, reader.read(np.array([index]), [None]), amp=amp).attention_logits
            assert logits is not None  # without gradients every model with attention keeps its logits
            row = dataset.labels[index] if isinstance(model, DSMIL) else None
            auroc = attention_auroc(logits.cpu(), marks, row)
            found += [] if auroc is None else [auroc]
    return found
