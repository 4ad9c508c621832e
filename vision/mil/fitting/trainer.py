"""The steps of an epoch: batches in, gradients added up, the optimiser and the controller moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from entroreg import _checks
from entroreg.schedules import CosineSchedule
from entroreg.vision.mil.attention_entropy import AttentionEntropy
from entroreg.vision.mil.fitting.attention_log import AttentionLog
from entroreg.vision.mil.fitting.batching import Indices, balancing_weights, planned_steps
from entroreg.vision.mil.fitting.copying import copied
from entroreg.vision.mil.fitting.distributed import Processes
from entroreg.vision.mil.fitting.epoch_log import EpochLog
from entroreg.vision.mil.fitting.prediction import run_model
from entroreg.vision.mil.fitting.settings import FitSettings
from entroreg.vision.mil.fitting.streams import model_randomness
from entroreg.vision.mil.fitting.training_bags import TrainingBags, TrainingBatch
from entroreg.vision.mil.models import MILModel
from entroreg.vision.mil.output import MILOutput

_KEYS = ("model", "optimizer", "aem", "step")


class Trainer:
    """Owns what every step changes: a model, its optimiser and AEM's controller.

    Args:
        model: trained in place.
        bags: to train on.
        settings: of the fit.
        aem: attention-entropy maximisation, or None.
        processes: that train together.

    Attributes:
        step: number of steps done.
    """

    def __init__(
        self,
        model: MILModel,
        bags: TrainingBags,
        settings: FitSettings,
        aem: AttentionEntropy | None,
        processes: Processes,
    ) -> None:
        self.model, self.aem = model, aem
        self._bags, self._settings, self._processes = bags, settings, processes
        self._device = next(model.parameters()).device
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        steps = planned_steps(bags.sizes.tolist(), bags.labels.tolist(), settings)
        self._learning_rate = CosineSchedule(settings.learning_rate, 0.0, steps=steps)
        # A weight counts a bag's whole loss, as if the bag came that often: the weighted mean of cross_entropy
        # would cancel it in a batch of one bag, and batches would not add up to their step.
        weights = torch.from_numpy(balancing_weights(bags.labels))
        self._class_weights = weights if settings.balance == "weights" else None
        self.step = 0
        processes.share_first([*model.parameters(), *model.buffers()])
        if aem is not None:
            aem.regularizer.controller.to(self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what every step changes."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "aem": None if self.aem is None else self.aem.state_dict(),
            "step": self.step,
        }
        result: dict[str, Any] = copied(state)
        return result

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        _checks.require_keys("state of Trainer", state, _KEYS)
        state = copied(state)  # the optimiser keeps the tensors that it is given
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.zero_grad()
        if self.aem is not None:
            self.aem.load_state_dict(state["aem"])
        self.step = int(state["step"])

    def train(self, epoch: int, stop: Callable[[], bool]) -> dict[str, Any] | None:
        """Train an epoch and return its means by name, ``train/...``; None if stopped in the middle.

        Args:
            epoch: its number, from 0.
            stop: asked after every step.

        Raises:
            FloatingPointError: a loss or a gradient is not finite.
        """
        at_once = self._device.type == "cpu"
        log = EpochLog(epoch, at_once=at_once, processes=self._processes, culprits=self._bags.culprits)
        attention = AttentionLog()
        self.model.train()
        # float64 for every model, so that a process without bags sends what the others send
        totals, seen = torch.zeros(4, dtype=torch.float64, device=self._device), []
        with model_randomness(self._settings.seed, epoch, self._processes.rank, self._device):
            for part in self._bags.epoch(epoch):
                totals = totals + self._backward(part, attention)
                seen.append(part.batch.bags)
                if not part.batch.ends_step:
                    continue
                self._end_step(totals, seen, log)
                totals, seen = torch.zeros_like(totals), []
                if self._processes.any(stop()):
                    return None
        return self._row(log, attention)

    def _backward(self, part: TrainingBatch, attention: AttentionLog) -> Tensor:
        """Add a batch's gradient, and return (attention, loss, AEM's loss, entropy) as its parts of the step's."""
        if part.bags is None:
            return torch.zeros(4, dtype=torch.float64, device=self._device)
        output = run_model(self.model, part.bags, amp=self._settings.amp)
        attention.add(output, part.bags)
        step_bags = part.batch.step_bags
        losses = self.model.bag_losses(output, torch.from_numpy(part.labels).to(self._device, non_blocking=True))
        if self._class_weights is not None:
            losses = losses * self._class_weights[part.labels].to(self._device, losses.dtype, non_blocking=True)
        loss = losses.sum() / step_bags
        checked = _checked_attention(output, loss)
        if self.aem is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return torch.nn.functional.pad(torch.stack([checked, loss.detach()]), (0, 2))
        regularised = self.aem(output, part.bags)
        share = len(part.bags) / step_bags
        aem_loss = regularised.loss * share
        (loss + aem_loss).backward()  # type: ignore[no-untyped-call]
        return torch.stack([checked, loss.detach(), aem_loss.detach(), regularised.entropy * share])

    def _end_step(self, totals: Tensor, seen: list[Indices], log: EpochLog) -> None:
        self._processes.sum_gradients(self._parameters)
        norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        log.add(totals[:3], norm, seen)  # on a CPU this stops before the weights are touched
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self.aem is not None:
            self.aem.update(self._processes.sum(totals[3].clone()))
        self.step += 1

    def _row(self, log: EpochLog, attention: AttentionLog) -> dict[str, Any]:
        row = {f"train/{name}": value for name, value in log.means().items()}
        row["train/learning_rate"] = self._optimizer.param_groups[0]["lr"]
        if self.aem is not None:
            row["train/lambda"] = float(self.aem.regularizer.controller.value)
        entropy, share, count = self._processes.sum(attention.sums(self._device)).tolist()
        if count:
            row |= {"train/attention_entropy": entropy / count, "train/attention_entropy_share": share / count}
        return row


def _checked_attention(output: MILOutput, like: Tensor) -> Tensor:
    """Return a number that is NaN or infinite where a batch's attention is; 0 for a model without any."""
    # Logits of instances that are left out are -inf: their largest is finite nevertheless.
    found = output.attention_logits if output.attention_logits is not None else output.attention_entropy
    return torch.zeros_like(like) if found is None else found.detach().amax().to(like.dtype)
