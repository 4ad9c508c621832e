"""Clip-Cov whose share of cut tokens is a dual variable: policy entropy holds a target."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from entroreg.controllers import Dual
from entroreg.policy_gradient.covariance import Quantiles, check_band, clip_cov_loss
from entroreg.policy_gradient.losses import check_clip
from entroreg.policy_gradient.metrics import PolicyMetrics


class ControlledClipCov:
    r"""Clip-Cov with the fraction of its tokens as the coefficient of a dual controller.

    $$\text{fraction} = \min(\alpha, 1), \qquad \log\alpha \text{ rises while } H < \bar H$$

    Ours: no paper has it. Below the target more tokens of high covariance lose their gradient, so entropy falls
    more slowly; nothing here can raise it. In force in an update is the fraction before the controller's step.

    Args:
        dual: its target is the entropy to hold, nats; its initial value the first fraction; ``maximum=1.0`` keeps
            the dual variable where it acts.
        band: exclusive thresholds of the covariance, low below high, or ``Quantiles``.
        clip: PPO's eps low in [0, 1] and eps high, at least 0.

    Raises:
        TypeError: dual is no ``Dual``.
        ValueError: it holds entropy below its target; thresholds out of order, or a clip out of range.

    Example:
        >>> import torch
        >>> loss_fn = ControlledClipCov(Dual(target=0.5, initial=2e-4, maximum=1.0, learning_rate=0.05))
        >>> log_probs = torch.tensor([[-0.1, -0.2]])
        >>> loss, metrics = loss_fn(log_probs, log_probs, torch.tensor([[1.0, -1.0]]))
        >>> float(loss_fn.dual.value) > 2e-4
        True
    """

    def __init__(
        self,
        dual: Dual,
        *,
        band: tuple[float, float] | Quantiles = (1.0, 5.0),
        clip: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        if not isinstance(dual, Dual):
            raise TypeError(f"dual must be an entroreg.Dual, got {type(dual).__name__}")
        if dual.problem.bound != "lower":
            raise ValueError("dual must have bound='lower', got 'upper': cutting gradients cannot lower entropy")
        check_band(band)
        check_clip(clip)
        self.dual = dual
        self.band = band
        self.clip = clip

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, PolicyMetrics]:
        """Return loss and metrics of ``clip_cov_loss``, and take the controller's step; ``rest`` as there."""
        settings = {"fraction": self.dual.value, "band": self.band, "clip": self.clip}
        loss, metrics = clip_cov_loss(log_probs, old_log_probs, advantages, mask, **settings, **rest)  # type: ignore[arg-type]
        self.dual.update(metrics.entropy)
        return loss, metrics
