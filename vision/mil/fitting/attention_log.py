"""The entropy of the attention that was paid, measured in few calls over many batches."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from entroreg.measures import packed_entropy, packed_normalized_entropy
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.output import MILOutput

_HELD = 2**20  # attention logits that are held before they are measured


class AttentionLog:
    """Collects attention, detached, and measures its entropy; the mean over a bag's rows of attention.

    Nothing is read from the device, and a batch costs next to nothing: the logits of many are measured at once.
    """

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._sizes: list[int] = []
        self._entropies: list[Tensor] = []

    def add(self, output: MILOutput, bags: Bags) -> None:
        """Take the attention of a batch; of a model without attention nothing."""
        if output.attention_logits is not None:
            self._logits.append(output.attention_logits.detach())
            self._sizes += bags.sizes
            if sum(logits.numel() for logits in self._logits) > _HELD:
                self._measure()
        elif output.attention_entropy is not None:
            self._measure()  # what came before comes first
            entropy = output.attention_entropy.detach().float().mean(dim=0)
            # log 1 = 0: a bag of one instance has entropy 0 whatever it is divided by.
            self._entropies.append(torch.stack([entropy, entropy / bags.offsets.diff().clamp(min=2).log()]))

    def entropies(self) -> Tensor | None:
        """Return (2, n): of each bag so far H in nats and H / log N; None where there was no attention."""
        self._measure()
        return torch.cat(self._entropies, dim=1) if self._entropies else None

    def sums(self, device: torch.device) -> Tensor:
        """Return (3,): the sums of both over bags, and the number of bags; on a device."""
        entropies = self.entropies()
        if entropies is None:
            return torch.zeros(3, device=device)
        return torch.cat([entropies.sum(dim=1), entropies.new_tensor([entropies.shape[1]])])

    def _measure(self) -> None:
        if not self._logits:
            return
        logits = torch.cat(self._logits, dim=1).float()
        offsets = torch.tensor([0, *itertools.accumulate(self._sizes)], device=logits.device)
        measured = [measure(logits, offsets).mean(dim=0) for measure in (packed_entropy, packed_normalized_entropy)]
        self._entropies.append(torch.stack(measured))
        self._logits, self._sizes = [], []
