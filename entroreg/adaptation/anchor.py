"""Holding parameters where they mattered: a quadratic anchor weighted by Fisher information."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from entroreg import _checks

__all__ = ["FisherAnchor"]


class FisherAnchor:
    r"""A penalty on leaving the trained parameters, weighted by their Fisher information.

    $$R = \beta \sum_i F_i (\theta_i - \theta_i^0)^2, \qquad
      F_i = \mathrm{mean}_b \Big(\frac{\partial}{\partial\theta_i}
      \mathrm{CE}\big(f(x_b), \arg\max f(x_b)\big)\Big)^2$$

    Args:
        model: as it was trained.
        parameters: what is adapted, by name.
        batches: inputs of the training distribution, without labels: the model's own predictions stand for them.
        beta: weight, at least 0; 2,000 for ImageNet and 1 for CIFAR-10 in the authors' runs.

    Raises:
        ValueError: beta negative, or no batch.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> anchor = FisherAnchor(model, dict(model.named_parameters()), [torch.ones(4, 2)])
        >>> anchor().detach()
        tensor(0.)

    Reference:
        Niu et al. (2022), EATA, arXiv 2204.02610, eqs. 7 to 9.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        batches: Iterable[Tensor],
        beta: float = 2000.0,
    ) -> None:
        self.beta = _checks.require_number("beta", beta, low=0.0)
        self._parameters = list(parameters.values())
        self._source = [parameter.detach().clone() for parameter in self._parameters]
        self.fisher = [torch.zeros_like(parameter) for parameter in self._source]
        count = 0
        for batch in batches:
            logits = model(batch)
            loss = nn.functional.cross_entropy(logits, logits.detach().argmax(dim=-1))
            for total, grad in zip(self.fisher, torch.autograd.grad(loss, self._parameters), strict=True):
                total += grad**2
            count += 1
        if not count:
            raise ValueError("batches must hold at least one batch of the training distribution, got none")
        for total in self.fisher:
            total /= count

    def __call__(self) -> Tensor:
        """Return the penalty, scalar, with its gradient."""
        terms = zip(self.fisher, self._parameters, self._source, strict=True)
        return self.beta * torch.stack([(f * (p - p0) ** 2).sum() for f, p, p0 in terms]).sum()
