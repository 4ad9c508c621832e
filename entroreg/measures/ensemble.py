"""What the members of an ensemble disagree about."""

from __future__ import annotations

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures._softmax import check_logits, masked_log_softmax


def mutual_information(
    logits: Tensor, mask: Tensor | None = None, temperature: float = 1.0, *, validate: bool = False
) -> Tensor:
    r"""Return the mutual information of prediction and ensemble member, in nats, non-negated.

    $$I = H\Big(\tfrac1M \sum_m p_m\Big) - \tfrac1M \sum_m H(p_m)
        = \tfrac1M \sum_m \mathrm{KL}\Big(p_m \Big\| \tfrac1M \sum_k p_k\Big),
        \qquad p_m = \mathrm{softmax}(z_m / \tau)$$

    0 where all members agree, however uncertain each is. The sum of divergences is what is computed: the difference
    of entropies loses its digits where they agree.

    Args:
        logits: (..., M, N) floating, unnormalised, of M members; -inf allowed. A row of -inf alone is left out.
        mask: (..., M, N) boolean, True = keep; None keeps all.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and the smaller of log M and log N, up to rounding.

    Raises:
        TypeError: logits not a floating tensor, or mask not a boolean one.
        ValueError: fewer than two dimensions, mask of another shape or device, temperature not above 0, or NaN
            found by ``validate``.

    Example:
        >>> mutual_information(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
        tensor(0.6931)
        >>> mutual_information(torch.zeros(3, 2))
        tensor(0.)

    Reference:
        Houlsby et al. (2011), BALD, arXiv 1112.5745, eq. 2.
    """
    _checks.require_floating("logits", logits, min_dim=2)
    check_logits(logits, mask, temperature, validate)
    log_probs, probs, _, empty = masked_log_softmax(logits, mask, temperature)
    members = (~empty).sum(dim=-1, keepdim=True).clamp(min=1)  # no member at all: 0 over 1
    mean = probs.sum(dim=-2, keepdim=True) / members.unsqueeze(-1)
    # Where the mean is 0 every member is, and the term vanishes whatever stands for its logarithm.
    log_mean = torch.where(mean > 0, mean, 1.0).log()
    divergences = (probs * (log_probs - log_mean)).sum(dim=-1)
    return (divergences.sum(dim=-1) / members.squeeze(-1)).to(logits.dtype)
