"""The change of entropy that a step on the logits makes. Shapes: N actions, or words of a vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures._softmax import masked_log_softmax


def logit_step_entropy_change(logits: Tensor, logit_step: Tensor) -> Tensor:
    r"""Return the change of entropy that a step on the logits makes, to first order, nats; negative where it falls.

    $$\Delta H \approx -\mathrm{Cov}_\pi(\log\pi, \Delta z)
      = -\sum_a \pi_a \left(\log\pi_a + H\right) \Delta z_a$$

    Holds for any optimiser: the step is the difference of the logits after an update and before it.

    Args:
        logits: (..., N) floating, before the step; -inf allowed.
        logit_step: (..., N) of the same shape; what stands at logits of -inf does not matter.

    Returns:
        (...) in float32 or wider; 0 for a row of nothing but -inf.

    Raises:
        TypeError: a tensor not floating.
        ValueError: shapes or devices that differ.

    Example:
        >>> logit_step_entropy_change(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.0]))
        tensor(-0.0197)

    Reference:
        Cui et al. (2025), arXiv 2505.22617, lemma 1.
    """
    _checks.require_floating("logits", logits)
    _checks.require_floating("logit_step", logit_step)
    _checks.require_same_shape("logit_step", logit_step, "logits", logits)
    log_probs, probs, support, _ = masked_log_softmax(logits, None, 1.0)
    centred = log_probs - (probs * log_probs).sum(dim=-1, keepdim=True)
    return -(probs * centred * torch.where(support, logit_step, 0.0)).sum(dim=-1)
