"""What every MIL model returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MILOutput(NamedTuple):
    """Predictions of B packed bags with M instances in all, over C classes, with K attention rows.

    Attributes:
        logits: (B, C), what is predicted.
        attention_logits: (K, M), before the softmax over each bag's instances: a row for each head, class or
            branch. None where the model has no attention, and where it streams in training.
        auxiliary_logits: (A, B, C), further predictions that the model's loss trains: of DSMIL's critical instances
            (A = 1), of ACMIL's branches (A = K); None elsewhere.
        attention_entropy: (K, B) nats, where the model streams in training; None elsewhere.
        attention_similarity: (B,), ACMIL's mean cosine of each two branches' attention; None elsewhere.
    """

    logits: Tensor
    attention_logits: Tensor | None = None
    auxiliary_logits: Tensor | None = None
    attention_entropy: Tensor | None = None
    attention_similarity: Tensor | None = None
