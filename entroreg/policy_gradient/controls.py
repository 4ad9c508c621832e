"""The losses with their settings fixed and checked: what a trainer is given to control entropy with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from entroreg import _checks
from entroreg.policy_gradient.covariance import Quantiles, check_band, clip_cov_loss, kl_cov_loss
from entroreg.policy_gradient.losses import check_clip, ppo_clip_loss
from entroreg.policy_gradient.metrics import PolicyMetrics

PolicyLoss: TypeAlias = Callable[..., tuple[Tensor, PolicyMetrics]]


@dataclass(frozen=True, kw_only=True)
class PPOClip:
    """PPO's clipped loss with fixed settings, ``ppo_clip_loss``.

    Args:
        clip: eps low in [0, 1] and eps high, at least 0; (0.2, 0.28) is DAPO's clip-higher.

    Raises:
        TypeError: a setting that is no number.
        ValueError: a clip out of range.

    Example:
        >>> import torch
        >>> new, old = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
        >>> PPOClip(clip=(0.2, 0.28))(new, old, torch.tensor([[1.0, 1.0]]))[0]
        tensor(-1.1400)
    """

    clip: tuple[float, float] = (0.2, 0.2)

    def __post_init__(self) -> None:
        check_clip(self.clip)

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, PolicyMetrics]:
        """Return loss and metrics of ``ppo_clip_loss``; ``rest`` are its other arguments."""
        return ppo_clip_loss(log_probs, old_log_probs, advantages, mask, clip=self.clip, **rest)


@dataclass(frozen=True, kw_only=True)
class ClipCov:
    """Clip-Cov with fixed settings, ``clip_cov_loss``: the authors' by default.

    Args:
        fraction: of the kept tokens, in (0, 1].
        band: exclusive thresholds of the covariance, low below high, or ``Quantiles``.
        clip: PPO's eps low in [0, 1] and eps high, at least 0.

    Raises:
        TypeError: a setting that is no number.
        ValueError: thresholds out of order, a fraction or a clip out of range.

    Example:
        >>> import torch
        >>> log_probs = torch.tensor([[-0.1, -0.1, -0.1, -4.0]])
        >>> loss, metrics = ClipCov()(log_probs, log_probs, torch.tensor([[1.0, 1.0, 1.0, -1.0]]))
        >>> float(metrics.share_selected)
        0.25
    """

    fraction: float = 2e-4
    band: tuple[float, float] | Quantiles = (1.0, 5.0)
    clip: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        _checks.require_fraction("fraction", self.fraction)
        check_band(self.band)
        check_clip(self.clip)

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, PolicyMetrics]:
        """Return loss and metrics of ``clip_cov_loss``; ``rest`` are its other arguments."""
        settings = {"fraction": self.fraction, "band": self.band, "clip": self.clip}
        return clip_cov_loss(log_probs, old_log_probs, advantages, mask, **settings, **rest)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class KLCov:
    """KL-Cov with fixed settings, ``kl_cov_loss``: the authors' for 7B models by default.

    Args:
        fraction: of the kept tokens, in (0, 1].
        beta: weight of the penalty, at least 0.

    Raises:
        TypeError: a setting that is no number.
        ValueError: a fraction or beta out of range.

    Example:
        >>> import torch
        >>> new, old = torch.tensor([[-0.1, -0.1, -6.0]]), torch.tensor([[-0.1, -0.1, -5.0]])
        >>> round(float(KLCov(beta=1.0)(new, old, torch.tensor([[0.0, 0.0, -1.0]]))[0]), 4)
        0.456
    """

    fraction: float = 2e-3
    beta: float = 1.0

    def __post_init__(self) -> None:
        _checks.require_fraction("fraction", self.fraction)
        _checks.require_number("beta", self.beta, low=0.0)

    def __call__(
        self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor | None = None, **rest: Any
    ) -> tuple[Tensor, PolicyMetrics]:
        """Return loss and metrics of ``kl_cov_loss``; ``rest`` are its other arguments."""
        return kl_cov_loss(
            log_probs, old_log_probs, advantages, mask, fraction=self.fraction, beta=self.beta, **rest
        )
