"""Fitting MIL models: settings, batches, epochs, selection, metrics, and several processes at once."""

from entroreg.vision.mil.fitting.batching import planned_steps
from entroreg.vision.mil.fitting.distributed import Processes, joined_processes
from entroreg.vision.mil.fitting.fitter import Fitter
from entroreg.vision.mil.fitting.metrics import (
    Metrics,
    PatientPredictions,
    attention_auroc,
    bag_metrics,
    by_patient,
)
from entroreg.vision.mil.fitting.prediction import Predictions, evaluating, predict
from entroreg.vision.mil.fitting.reading import BagReader, ResidentBags, StoredBags, reader_for
from entroreg.vision.mil.fitting.settings import FitSettings
from entroreg.vision.mil.fitting.standardize import StandardizedBags, standardized

__all__ = [
    "BagReader",
    "FitSettings",
    "Fitter",
    "Metrics",
    "PatientPredictions",
    "Predictions",
    "Processes",
    "ResidentBags",
    "StandardizedBags",
    "StoredBags",
    "attention_auroc",
    "bag_metrics",
    "by_patient",
    "evaluating",
    "joined_processes",
    "planned_steps",
    "predict",
    "reader_for",
    "standardized",
]
