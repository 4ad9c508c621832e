"""One loop for all methods of robust training and distillation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from entroreg import _checks
from entroreg.vision.distillation.attacks import attacked, frozen
from entroreg.vision.distillation.augmentation import crop_and_flip
from entroreg.vision.distillation.balance import Balance
from entroreg.vision.distillation.methods import METHODS, Step
from entroreg.vision.distillation.schedules import attack_share, learning_rate, milestone_factor
from entroreg.vision.distillation.settings import DistillationSettings
from entroreg.vision.distillation.step_check import StepCheck
from entroreg.vision.distillation.teachers import Teacher, require_teachers
from entroreg.vision.images.data import ImageSet, as_float

__all__ = ["Trainer", "train"]

_ORDER, _CROPS, _NOISE = range(3)  # consumers of random numbers
_KEYS = ("student", "optimizer", "balance", "step", "sums", "count")


class Trainer:
    """Trains a student, step by step; it can be stopped after any step and go on from its state.

    Whatever is drawn is a function of the seed and the step, so that on a CPU a resumed training is an undisturbed
    one to the last bit, if the student itself draws nothing (no dropout).

    Args:
        student: images (B, C, H, W) in [0, 1] to logits (B, K); moved to the device and trained in place.
        images: to train on; held as bytes on the device.
        settings: of the training.
        teachers: as many as the method takes; moved to the device. Never trained.
        device: where all of it runs.

    Raises:
        ValueError: no images, another number of teachers than the method takes, or a teacher in training mode, of
            other classes or with logits that are not finite.

    Example:
        >>> from entroreg.vision.distillation.attacks import Attack
        >>> images = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), 2)
        >>> student = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> settings = DistillationSettings("adversarial", Attack(0.1, 0.05), epochs=2)
        >>> [row["epoch"] for row in Trainer(student, images, settings).run()]
        [1.0, 2.0]
    """

    def __init__(
        self,
        student: nn.Module,
        images: ImageSet,
        settings: DistillationSettings,
        teachers: Sequence[Teacher] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.device = settings, torch.device(device)
        self.method = METHODS[settings.method]
        self.teachers = _require_number(teachers, self.method.teachers, settings.method)
        if not len(images.labels):
            raise ValueError("images must not be empty, got none")
        self.student = self._placed(student)
        for teacher in self.teachers:
            self._placed(teacher.network)
        self._images, self._labels = images.images.to(self.device), images.labels.to(self.device)
        self.steps_per_epoch = -(-len(images.labels) // settings.batch)
        self.balance = Balance(settings.balance, len(self.teachers))
        self._optimizer = _new_optimizer(self.student, settings)
        self.step = 0
        self._sums: dict[str, Tensor] = {}  # of the metrics since the last row
        self._count = 0
        self._check = StepCheck(at_once=self.device.type == "cpu")
        with self._autocast():
            require_teachers(self.teachers, self._floating(self._images[: settings.batch]), images.classes)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.step >= self.settings.epochs * self.steps_per_epoch

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[dict[str, float]]:
        """Train until the end or a stop, and yield rows of metrics.

        Args:
            stop: asked after every step.

        Yields:
            At an epoch's end, and every ``log_every`` steps, the means since the last row: loss, and with several
            teachers also loss_i, temperature_i, entropy_i and weight_i; epoch (done, in part), step (done),
            learning_rate and eps.

        Raises:
            FloatingPointError: the loss or the gradient of a step is not finite; on a CPU before the weights are
                touched, on a GPU before the next row or state is returned.
        """
        order, epoch = None, -1
        while not self.finished:
            if epoch != self.step // self.steps_per_epoch or order is None:
                epoch = self.step // self.steps_per_epoch
                order = torch.randperm(len(self._labels), generator=self._stream(_ORDER, epoch, "cpu"))
                order = order.to(self.device)
            place = self.step % self.steps_per_epoch * self.settings.batch
            self._take_step(order[place : place + self.settings.batch])
            if self._logs():
                yield self._row()
            if stop():
                return

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that the steps change; FloatingPointError where a step was not finite."""
        self._check.read()
        return copy.deepcopy(
            {
                "student": self.student.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "balance": self.balance.state_dict(),
                "step": self.step,
                "sums": self._sums,
                "count": self._count,
            }
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: a key is missing or unknown, or the state is of another balance.
            RuntimeError: the state is of another student.
        """
        _checks.require_keys("state of Trainer", state, _KEYS)
        state = copy.deepcopy(dict(state))  # the optimiser keeps the tensors that it is given
        self.balance.load_state_dict(state["balance"])
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self._count = int(state["step"]), int(state["count"])
        self._sums = {name: value.to(self.device) for name, value in state["sums"].items()}

    def _take_step(self, picked: Tensor) -> None:
        settings = self.settings
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, self.steps_per_epoch)
        self.balance.slow_down(milestone_factor(settings, self.step // self.steps_per_epoch))
        images = self._images[picked]
        if settings.crop_and_flip:
            images = crop_and_flip(images, self._stream(_CROPS, self.step))
        self.student.train()
        with self._autocast():
            losses = self.method.losses(self._step(self._floating(images), self._labels[picked]))
        loss, metrics = self.balance.combined(losses)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = get_total_norm([p.grad for p in self.student.parameters() if p.grad is not None])
        self._check.add(self.step + 1, loss, norm)  # on a CPU this stops before the weights are touched
        self._optimizer.step()
        for name, value in {"loss": loss.detach(), **metrics}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.to(self.device, torch.float64)
        self._count += 1
        self.step += 1

    def _step(self, images: Tensor, labels: Tensor) -> Step:
        attack = self.settings.attack.scaled(attack_share(self.settings, self.step, self.steps_per_epoch))

        def attacking(loss: Callable[[Tensor], Tensor]) -> Tensor:
            return attacked(self.student, images, loss, attack, self._stream(_NOISE, self.step))

        return Step(
            self._logits, attacking, self._prediction, images, labels, self.teachers, self.balance.temperatures
        )

    def _logits(self, images: Tensor) -> Tensor:
        found: Tensor = self.student(images)
        return found.float()

    @torch.no_grad()
    def _prediction(self, images: Tensor) -> Tensor:
        with frozen(self.student):
            return self._logits(images)

    def _logs(self) -> bool:
        every = self.settings.log_every
        return self.step % self.steps_per_epoch == 0 or (every is not None and self.step % every == 0)

    def _row(self) -> dict[str, float]:
        """Return the means since the last row, in one transfer from the device."""
        means = (torch.stack(list(self._sums.values())) / self._count).tolist()
        self._check.read()
        row = dict(zip(self._sums, means, strict=True))
        self._sums, self._count = {}, 0
        last = self.step - 1
        return row | {
            "epoch": self.step / self.steps_per_epoch,
            "step": self.step,
            "learning_rate": learning_rate(self.settings, last, self.steps_per_epoch),
            "eps": self.settings.attack.eps * attack_share(self.settings, last, self.steps_per_epoch),
        }

    def _placed(self, network: nn.Module) -> nn.Module:
        network = network.to(self.device)
        if self.settings.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def _floating(self, images: Tensor) -> Tensor:
        order = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        return as_float(images).contiguous(memory_format=order)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.amp)

    def _stream(self, consumer: int, number: int, device: torch.device | str | None = None) -> torch.Generator:
        sequence = np.random.SeedSequence(self.settings.seed, spawn_key=(consumer, number))
        generator = torch.Generator(device or self.device)
        return generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def train(
    student: nn.Module,
    images: ImageSet,
    settings: DistillationSettings,
    teachers: Sequence[Teacher] = (),
    device: torch.device | str = "cpu",
) -> list[dict[str, float]]:
    """Train a student in place and return the rows of metrics; see `Trainer`.

    Args:
        student: images to logits.
        images: to train on.
        settings: of the training.
        teachers: as many as the method takes.
        device: where all of it runs.

    Raises:
        ValueError: as `Trainer`.
        FloatingPointError: as `Trainer.run`.

    Example:
        >>> from entroreg.vision.distillation.attacks import Attack
        >>> images = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]), 2)
        >>> student = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> len(train(student, images, DistillationSettings("plain", Attack(0.1, 0.05), epochs=3)))
        3
    """
    return list(Trainer(student, images, settings, teachers, device).run())


def _new_optimizer(student: nn.Module, settings: DistillationSettings) -> torch.optim.Optimizer:
    chosen = settings.optimizer
    if chosen.name == "adam":
        return torch.optim.Adam(student.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay)
    return torch.optim.SGD(
        student.parameters(), chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
    )


def _require_number(teachers: Sequence[Teacher], takes: str, method: str) -> tuple[Teacher, ...]:
    found = len(teachers)
    fits = {"none": found == 0, "one": found == 1, "several": found >= 2}[takes]
    if not fits:
        raise ValueError(f"method {method} takes {takes} of teachers, got {found}: give what it learns from")
    return tuple(teachers)
