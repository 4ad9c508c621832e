"""What a batch adds to the loss of its step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.mil.fitting.batching import Indices
from entroreg.vision.mil.models import MILModel
from entroreg.vision.mil.output import MILOutput


def bag_loss_share(
    model: MILModel,
    output: MILOutput,
    labels: Indices,
    class_weights: NDArray[np.float64] | None,
    step_bags: int,
) -> Tensor:
    r"""Return a batch's part of the mean loss over the bags of a step; the parts of a step's batches add up to it.

    $$\frac{1}{B_\mathrm{step}} \sum_{b \in \mathrm{batch}} w_{y_b} \ell_b$$

    The weight counts a bag's whole loss, as if the bag came that often, and is divided by the number of bags. The
    weighted mean of ``cross_entropy`` would cancel the weight in a batch of one bag, and batches would not add up.

    Args:
        model: whose ``loss`` is a mean over bags.
        output: of the model, B bags.
        labels: (B,) classes.
        class_weights: (C,), or None for equal ones.
        step_bags: bags of the step.

    Returns:
        scalar.
    """
    on_device = torch.from_numpy(labels).to(output.logits.device, non_blocking=True)
    if class_weights is None:
        return model.loss(output, on_device) * (len(labels) / step_bags)
    parts = []
    for label in np.unique(labels).tolist():  # within a class all weights are the same, and the mean is the model's
        places = np.flatnonzero(labels == label)
        share = float(class_weights[label]) * len(places) / step_bags
        rows = torch.from_numpy(places).to(on_device.device, non_blocking=True)
        parts.append(model.loss(_of_bags(output, rows), on_device[rows]) * share)
    return torch.stack(parts).sum()


def _of_bags(output: MILOutput, rows: Tensor) -> MILOutput:
    """Return the output of some of the bags, without the attention over instances, which no loss reads."""
    auxiliary, entropy, similarity = output.auxiliary_logits, output.attention_entropy, output.attention_similarity
    return MILOutput(
        output.logits[rows],
        auxiliary_logits=None if auxiliary is None else auxiliary[:, rows],
        attention_entropy=None if entropy is None else entropy[:, rows],
        attention_similarity=None if similarity is None else similarity[rows],
    )
