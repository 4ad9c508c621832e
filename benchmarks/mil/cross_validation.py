"""The folds of a run, one after the other, with a checkpoint that holds what the rest depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from entroreg import checkpoint
from entroreg.benchmarks.mil.building import fit_settings, new_aem, new_model
from entroreg.benchmarks.mil.fold_checkpoint import fold_checkpoint, remove_folds, save_fold
from entroreg.benchmarks.mil.options import TrainMIL
from entroreg.benchmarks.mil.outcomes import (
    FitCounts,
    FoldOutcome,
    outcome_from_json,
    summarise,
    tested,
    words_for,
    write_predictions,
)
from entroreg.benchmarks.mil.picture import plot_folds
from entroreg.benchmarks.mil.recording import Recorder
from entroreg.benchmarks.progress import show_progress
from entroreg.benchmarks.run_folder import CHECKPOINT, saved_run
from entroreg.state_tree import join_state, split_state
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting import BagReader, Fitter, Processes, reader_for, standardized
from entroreg.vision.mil.splits import Fold

Stop = Callable[[], bool]
_AGENT = "mil"
_SAVE_SECONDS = 30.0  # between checkpoints by default: writing one takes longer than an epoch of small bags


class CrossValidation:
    """Fits and tests one fold after the other; goes on where the folder's checkpoint, if there is one, ends.

    Args:
        options: of the run.
        folder: of the run, which is held.
        dataset: of the run.
        folds: of the data set.
        device: to train on.
        processes: that train together.

    Raises:
        UserError: the folder's checkpoint is damaged, or of something else.
    """

    def __init__(
        self,
        options: TrainMIL,
        folder: Path,
        dataset: BagDataset,
        folds: list[Fold],
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._options, self._folder, self._dataset, self._folds = options, folder, dataset, folds
        self._device, self._processes = device, processes
        self._reader = None if options.data.standardize else reader_for(dataset, device)
        self._outcomes: list[FoldOutcome] = []
        self._fitted: dict[str, Any] | None = None  # of the fold that was stopped
        self._row_count = 0  # in metrics.jsonl
        self._earlier_seconds = 0.0
        self._begun = self._saved = time.perf_counter()
        self._load()
        if processes.rank == 0:
            remove_folds(folder, len(self._outcomes))

    def go(self, stop: Stop) -> bool:
        """Fit and test the folds that are left; return False if stopped, with the checkpoint saved."""
        options = self._options
        epochs = options.fit.epochs
        title = f"mil {options.model.model} on {options.data.name}"
        with ExitStack() as stack:
            recorder = None
            if self._processes.rank == 0:
                progress = stack.enter_context(show_progress(title, epochs * len(self._folds)))
                recorder = stack.enter_context(Recorder(self._folder, epochs, progress, self._row_count))
            for number in range(len(self._outcomes), len(self._folds)):
                with _named(number):
                    fitted = self._fit_and_test(number, recorder, stop)
                if not fitted:
                    return False
            if recorder is not None:
                write_predictions(self._folder / "predictions.csv", self._dataset, self._outcomes)
                plot_folds(recorder.rows, self._folder / "learning_curve.png", title)
        return True

    def result(self) -> dict[str, Any]:
        """Return the result of all folds, as JSON data."""
        options = self._options
        model = new_model(options.model, self._dataset, options.run.seed, fold=0)
        return {
            "agent": "mil",
            "model": options.model.model,
            "data": options.data.name,
            "aem": options.aem.aem,
            "aem_schedule": options.aem.aem_schedule,
            "seed": options.run.seed,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "train_seconds": round(self._seconds(), 1),
            **summarise(self._dataset, self._outcomes, options.run.seed),
        }

    def _fit_and_test(self, number: int, recorder: Recorder | None, stop: Stop) -> bool:
        fold = self._folds[number]
        dataset, reader = self._data_of(fold)
        fitter = self._new_fitter(number, dataset, reader)
        while not fitter.done:
            row = fitter.run_epoch(stop)
            if row is not None and recorder is not None:
                recorder.write(number, row)
                self._row_count += 1
            stopped = self._processes.any(row is None or stop())
            if stopped or self._is_due(fitter):
                self._save(fitter.state_dict(), recorder)
            if stopped:
                return False
        last = fitter.state_dict()
        fitter.load_best()
        outcome = tested(
            fitter.model,
            dataset,
            fold.test,
            counts=FitCounts(number, fitter.epoch, fitter.selection.epoch),
            reader=reader,
            amp=fitter.settings.amp,
            processes=self._processes,
            stop=stop,
        )
        if outcome is None:
            self._save(last, recorder)
            return False
        self._outcomes.append(outcome)
        if recorder is not None:
            save_fold(fold_checkpoint(self._folder, number), fitter.model, dataset, outcome.counts)
            recorder.end_fold(number, words_for(dataset, outcome))
        return True

    def _data_of(self, fold: Fold) -> tuple[BagDataset, BagReader]:
        if self._reader is not None:
            return self._dataset, self._reader
        dataset = standardized(self._dataset, fold.train)
        return dataset, reader_for(dataset, self._device)

    def _new_fitter(self, number: int, dataset: BagDataset, reader: BagReader) -> Fitter:
        options, fold = self._options, self._folds[number]
        settings = fit_settings(options, number)
        model = new_model(options.model, dataset, options.run.seed, number).to(self._device)
        aem = new_aem(options.aem, dataset, fold.train, settings)
        fitter = Fitter(
            model, dataset, fold.train, fold.validation, settings, aem, reader=reader, processes=self._processes
        )
        if self._fitted is not None:
            with checkpoint.refusing_unfit(self._folder / CHECKPOINT):
                fitter.load_state_dict(self._fitted)
            self._fitted = None
        return fitter

    def _seconds(self) -> float:
        return self._earlier_seconds + time.perf_counter() - self._begun

    def _is_due(self, fitter: Fitter) -> bool:
        every = self._options.run.checkpoint_every
        if every is None:
            return time.perf_counter() - self._saved > _SAVE_SECONDS
        return fitter.done or fitter.epoch % every == 0

    def _save(self, fitted: Mapping[str, Any], recorder: Recorder | None) -> None:
        """Save everything that the rest of the run depends on; the first process, which records, does."""
        if recorder is None:
            return
        recorder.sync()
        tensors, tree = split_state(fitted)
        metadata = {
            "agent": _AGENT,
            "fitter": tree,
            "outcomes": [asdict(outcome) for outcome in self._outcomes],
            "rows": self._row_count,
            "seconds": self._seconds(),
        }
        checkpoint.save_checkpoint(self._folder / CHECKPOINT, tensors, metadata, keep=self._options.run.keep)
        self._saved = time.perf_counter()

    def _load(self) -> None:
        saved = saved_run(self._folder, _AGENT)
        if saved is None:
            return
        tensors, metadata = saved
        with checkpoint.refusing_unfit(self._folder / CHECKPOINT):
            self._fitted = join_state(tensors, metadata["fitter"])
            self._outcomes = [outcome_from_json(outcome) for outcome in metadata["outcomes"]]
            self._row_count = int(metadata["rows"])
            self._earlier_seconds = float(metadata["seconds"])


@contextmanager
def _named(fold: int) -> Iterator[None]:
    """Name a fold where something in it is not finite."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"fold {fold}: {error}") from error
