"""The losses of robust training and distillation as pure functions of logits.

Letters: B batch, K classes. A teacher's logits are detached in every one. The losses of RSLAD, ARD and MTARD are
means over batch *and classes*, as in the authors' code, so that the papers' learning rates keep their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from entroreg import _checks

__all__ = ["ard_loss", "divergence", "mtard_losses", "rslad_loss", "trades_loss"]


def divergence(logits: Tensor, target_logits: Tensor) -> Tensor:
    r"""Return how far a prediction is from its target, KL(target || prediction), at least 0.

    $$\mathrm{KL}(p \| q) = \sum_k p_k (\log p_k - \log q_k), \qquad
      p = \mathrm{softmax}(z_{target}),\; q = \mathrm{softmax}(z)$$

    Args:
        logits: (..., K) floating, of the prediction q.
        target_logits: (..., K) floating, of p; gradients flow to both. A class at -inf has probability 0.

    Returns:
        (...), in nats.

    Raises:
        TypeError: logits that are not floating.
        ValueError: logits of other shapes or devices.

    Example:
        >>> divergence(torch.zeros(2), torch.tensor([1000.0, 0.0]))
        tensor(0.6931)
    """
    _require_pair("logits", logits, "target_logits", target_logits)
    log_q, log_p = log_softmax(logits, dim=-1), log_softmax(target_logits, dim=-1)
    # 0 log 0 = 0: the log of a probability of 0 is replaced before it is multiplied, in value and gradient.
    possible = log_p > float("-inf")
    log_p = torch.where(possible, log_p, 0.0)
    terms = torch.where(possible, log_p.exp() * (log_p - torch.where(possible, log_q, 0.0)), 0.0)
    return terms.sum(dim=-1)


def trades_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, *, beta: float = 6.0) -> Tensor:
    r"""Return the loss of TRADES, to be minimised.

    $$\mathrm{CE}(y, S(x)) + \beta\,\mathrm{KL}(S(x) \| S(x_{adv}))$$

    Args:
        clean: (B, K) floating, the student's logits of the images; gradients flow through both terms.
        adversarial: (B, K) floating, of the adversarial images.
        labels: (B,) int64.
        beta: at least 0.

    Returns:
        A scalar, the mean over the batch.

    Raises:
        TypeError: logits that are not floating.
        ValueError: logits of other shapes, or beta below 0.

    Example:
        >>> trades_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)

    Reference:
        Zhang et al. (2019), arXiv 1901.08573.
    """
    _checks.require_number("beta", beta, low=0.0)
    return cross_entropy(clean, labels) + beta * divergence(adversarial, clean).mean()


def ard_loss(
    clean: Tensor,
    adversarial: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    temperature: float = 30.0,
) -> Tensor:
    r"""Return the loss of adversarially robust distillation (ARD), to be minimised.

    $$\alpha \tau^2\,\mathrm{KL}(T(x)/\tau \| S(x_{adv})/\tau) + (1 - \alpha)\,\mathrm{CE}(y, S(x))$$

    Args:
        clean: (B, K) floating, the student's logits of the images.
        adversarial: (B, K) floating, of the adversarial images.
        teacher: (B, K) floating, the teacher's logits of the images.
        labels: (B,) int64.
        alpha: share of the teacher in [0, 1].
        temperature: tau, above 0, of both.

    Returns:
        A scalar; the divergence is a mean over batch and classes.

    Raises:
        TypeError: logits that are not floating.
        ValueError: logits of other shapes, or a number out of range.

    Example:
        >>> ard_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.)

    Reference:
        Goldblum et al. (2020), arXiv 1905.09747; alpha and tau are the defaults of the authors' code.
    """
    _checks.require_number("alpha", alpha, low=0.0, high=1.0)
    _checks.require_positive("temperature", temperature)
    _require_pair("clean", clean, "adversarial", adversarial)
    taught = _over_classes(adversarial / temperature, teacher.detach() / temperature)
    return alpha * temperature**2 * taught + (1.0 - alpha) * cross_entropy(clean, labels)


def rslad_loss(clean: Tensor, adversarial: Tensor, teacher: Tensor, *, share: float = 5 / 6) -> Tensor:
    r"""Return the loss of robust soft-label distillation (RSLAD), to be minimised.

    $$\tfrac{5}{6}\,\mathrm{KL}(T(x) \| S(x_{adv})) + \tfrac{1}{6}\,\mathrm{KL}(T(x) \| S(x))$$

    Args:
        clean: (B, K) floating, the student's logits of the images.
        adversarial: (B, K) floating, of the adversarial images.
        teacher: (B, K) floating, the robust teacher's logits of the images.
        share: of the adversarial term, in [0, 1].

    Returns:
        A scalar, a mean over batch and classes.

    Raises:
        TypeError: logits that are not floating.
        ValueError: logits of other shapes, or a share out of range.

    Example:
        >>> rslad_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2))
        tensor(0.)

    Reference:
        Zi et al. (2021), arXiv 2108.07969; the authors' code has no cross-entropy either.
    """
    _checks.require_number("share", share, low=0.0, high=1.0)
    return share * _over_classes(adversarial, teacher.detach()) + (1.0 - share) * _over_classes(
        clean, teacher.detach()
    )


def mtard_losses(students: Sequence[Tensor], teachers: Sequence[Tensor], temperatures: Tensor) -> list[Tensor]:
    r"""Return one loss for each teacher of a multi-teacher distillation (MTARD), to be weighted and minimised.

    $$L_i = \frac{1}{K}\,\mathrm{KL}(T_i(x_i)/\tau_i \| S(x_i))$$

    The student has temperature 1; there is no tau^2 and no cross-entropy.

    Args:
        students: one (B, K) floating for each teacher, the student's logits of the images that teacher saw.
        teachers: one (B, K) floating for each, of adversarial images for a robust teacher.
        temperatures: (teachers,) floating, above 0.

    Returns:
        A scalar for each, a mean over batch and classes.

    Raises:
        TypeError: logits that are not floating.
        ValueError: numbers of students, teachers and temperatures that differ, or logits of other shapes.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> mtard_losses([logits / 2], [logits], torch.tensor([2.0]))
        [tensor(0.)]

    Reference:
        Zhao et al. (2022), MTARD, ECCV; Zhao et al. (2023), B-MTARD, arXiv 2306.16170.
    """
    if not len(students) == len(teachers) == len(temperatures):
        raise ValueError(
            "students, teachers and temperatures must be as many, got "
            f"{len(students)}, {len(teachers)} and {len(temperatures)}"
        )
    return [
        _over_classes(student, teacher.detach() / temperature)
        for student, teacher, temperature in zip(students, teachers, temperatures.unbind(), strict=True)
    ]


def _over_classes(logits: Tensor, target_logits: Tensor) -> Tensor:
    return divergence(logits, target_logits).mean() / logits.shape[-1]


def _require_pair(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    _checks.require_floating(name, tensor)
    _checks.require_floating(other_name, other)
    _checks.require_same_shape(name, tensor, other_name, other)
