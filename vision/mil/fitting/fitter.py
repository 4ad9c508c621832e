"""The fit of one model to the training bags of one fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.guards import CollapseWatch
from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.attention_entropy import AttentionEntropy
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting.distributed import Processes
from entroreg.vision.mil.fitting.metrics import bag_metrics
from entroreg.vision.mil.fitting.prediction import predict
from entroreg.vision.mil.fitting.reading import BagReader, reader_for
from entroreg.vision.mil.fitting.selection import Selection
from entroreg.vision.mil.fitting.settings import FitSettings
from entroreg.vision.mil.fitting.trainer import Trainer
from entroreg.vision.mil.fitting.training_bags import TrainingBags
from entroreg.vision.mil.models import MILModel

_KEYS = ("settings", "epoch", "trainer", "selection", "watch")
_COLLAPSED = 0.1  # of log N: of a thousand instances two have it all
_COLLAPSED_EPOCHS = 5


class Fitter:
    """Fits a model by AdamW, epoch by epoch, and keeps the best one by validation macro-F1 + AUROC.

    Of equal scores the later epoch is kept. A fit that is stopped, saved, loaded and continued equals the
    undisturbed one to the last bit: every epoch has random streams of its own, and nothing is seeded globally.

    Args:
        model: on the device to train on; trained in place.
        dataset: with the bags.
        fold_train: indices of the training bags, of every class at least one.
        fold_validation: indices of the bags to select on, of every class at least one; if empty, the last epoch is
            kept.
        settings: of the fit.
        aem: attention-entropy maximisation; None for none. Its controller moves after each step of the optimiser.
        reader: of the data set on the model's device, to be shared between folds; made if left out.
        processes: that fit together, see `joined_processes`; all give the same arguments.

    Raises:
        DataError: a class has no training or no validation bag.
        ValueError: model and data set differ in features or classes, or patience without validation bags.

    Example:
        >>> from entroreg.vision.mil import ABMIL, BagsInMemory
        >>> bags = [torch.full((3, 4), float(label)) for label in (0, 1, 0, 1)]
        >>> dataset = BagsInMemory(bags, labels=[0, 1, 0, 1])
        >>> fitter = Fitter(ABMIL(4, classes=2), dataset, [0, 1], [2, 3], FitSettings(epochs=2))
        >>> while not fitter.done:
        ...     row = fitter.run_epoch()
        >>> row["epoch"], row["train/attention_entropy_share"]
        (2, 1.0)
    """

    def __init__(
        self,
        model: MILModel,
        dataset: BagDataset,
        fold_train: Sequence[int],
        fold_validation: Sequence[int],
        settings: FitSettings,
        aem: AttentionEntropy | None = None,
        *,
        reader: BagReader | None = None,
        processes: Processes | None = None,
    ) -> None:
        _check_fit(model, dataset, fold_train, fold_validation, settings)
        self.model, self.settings = model, settings
        self._dataset, self._validation = dataset, list(fold_validation)
        self._processes = processes or Processes()
        self._reader = reader or reader_for(dataset, next(model.parameters()).device)
        bags = TrainingBags(dataset, fold_train, self._reader, settings, self._processes)
        self._trainer = Trainer(model, bags, settings, aem, self._processes)
        self._aem = aem
        self._watch = CollapseWatch("attention entropy", "of log N", _COLLAPSED_EPOCHS)
        self.epoch = 0
        self.selection = Selection()

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        patience = self.settings.patience
        return self.epoch >= self.settings.epochs or (patience is not None and self.selection.waited >= patience)

    @property
    def best_state(self) -> dict[str, Tensor]:
        """The model's state dict after the epoch that is kept; empty before the first."""
        return self.selection.state

    def run_epoch(self, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Train an epoch, evaluate the validation bags, and return a row of numbers.

        Args:
            stop: asked after every step and before every batch of validation bags; a stop takes back what the
                epoch did, so that it can be saved and go on.

        Returns:
            ``epoch`` (from 1), ``step``, ``best_epoch``, and by name ``train/...`` and ``validation/...``: losses,
            the entropy of the attention in nats and as a share of log N, lambda, metrics (None where undefined).
            None if stopped.

        Raises:
            FloatingPointError: attention, a loss, a gradient or a validation bag's logits are not finite; the epoch
                is taken back.
            RuntimeError: the fit is done.

        Warns:
            EntropyCollapseWarning: attention has stayed on next to nothing, H / log N below 0.1, for five epochs.
        """
        if self.done:
            raise RuntimeError(f"the fit is done after {self.epoch} epochs: make a new Fitter to train longer")
        before = self._trainer.state_dict()
        try:
            trained = self._trainer.train(self.epoch, stop)
            validated = None if trained is None else self._validate(stop)
        except FloatingPointError:
            self._trainer.load_state_dict(before)
            raise
        if trained is None or validated is None:
            self._trainer.load_state_dict(before)
            return None
        self.epoch += 1
        metrics, score = validated
        self.selection.consider(self.epoch, score, self.model)
        self._watch_attention(trained)
        counts = {"epoch": self.epoch, "step": self._trainer.step, "best_epoch": self.selection.epoch}
        return {**counts, **trained, **metrics}

    def load_best(self) -> None:
        """Give the model the weights of the epoch that is kept."""
        self.model.load_state_dict(self.best_state)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that the next epoch depends on."""
        return {
            "settings": asdict(self.settings),
            "epoch": self.epoch,
            "trainer": self._trainer.state_dict(),
            "selection": self.selection.state_dict(),
            "watch": self._watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, in a fitter with the same arguments.

        Raises:
            ValueError: keys or settings differ.
        """
        _checks.require_keys("state of Fitter", state, _KEYS)
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"state must be of a fit with {asdict(self.settings)}, got {state['settings']}")
        self._trainer.load_state_dict(state["trainer"])
        self.selection.load_state_dict(state["selection"])
        self._watch.load_state_dict(state["watch"])
        self.epoch = int(state["epoch"])

    def _watch_attention(self, row: Mapping[str, Any]) -> None:
        share = row.get("train/attention_entropy_share")
        if share is None or self._processes.rank:  # the first process speaks
            return
        remedy = "give an AttentionEntropy (AEM)"
        if self._aem is not None:
            remedy = f"raise AEM's lambda, {row['train/lambda']:.3g} now"
        advice = f"if more than one instance of a bag matters, {remedy}"
        self._watch.update(share, floor=_COLLAPSED, at=f"epoch {self.epoch}", advice=advice)

    def _validate(self, stop: Callable[[], bool]) -> tuple[dict[str, Any], float | None] | None:
        """Return the metrics of the validation bags, where there are any, and the score; None if stopped."""
        if not self._validation:
            return {}, None
        amp, processes, reader = self.settings.amp, self._processes, self._reader
        try:
            found = predict(
                self.model, self._dataset, self._validation, reader=reader, amp=amp, processes=processes, stop=stop
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"validation of epoch {self.epoch + 1}: {error}") from error
        if processes.any(stop()):
            return None
        labels = [self._dataset.labels[index] for index in self._validation]
        metrics = bag_metrics(found.probs, labels, self._dataset.classes).values
        row = {"loss": float(torch.nn.functional.cross_entropy(found.logits, torch.tensor(labels))), **metrics}
        if found.entropies is not None:
            row["attention_entropy"], row["attention_entropy_share"] = found.entropies.mean(dim=1).tolist()
        auroc, f1 = metrics["auroc"], metrics["macro_f1"]
        score = None if auroc is None or f1 is None else auroc + f1
        return {f"validation/{name}": value for name, value in row.items()}, score


def _check_fit(
    model: MILModel,
    dataset: BagDataset,
    train: Sequence[int],
    validation: Sequence[int],
    settings: FitSettings,
) -> None:
    for what, have, need in (
        ("in_features", model.in_features, dataset.in_features),
        ("classes", model.classes, len(dataset.classes)),
    ):
        if have != need:
            raise ValueError(f"the model must have the data set's {what}, {need}, got {have}")
    if settings.patience is not None and not validation:
        raise ValueError("patience needs validation bags to wait for, got none")
    for part, indices in (("training", train), ("validation", validation)):
        present = {dataset.labels[index] for index in indices}
        for label, name in enumerate(dataset.classes):
            if label not in present and (indices or part == "training"):
                raise DataError(f"class {name!r} must have a {part} bag, got none: use fewer folds or other splits")
