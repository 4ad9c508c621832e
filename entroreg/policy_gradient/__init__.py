"""Policy-gradient losses for language models, and control of their entropy by covariance. B batch, T tokens."""

from entroreg.policy_gradient.controlled import ControlledClipCov
from entroreg.policy_gradient.controls import ClipCov, KLCov, PolicyLoss, PPOClip
from entroreg.policy_gradient.covariance import Quantiles, clip_cov_loss, kl_cov_loss
from entroreg.policy_gradient.entropy_law import EntropyLaw, fit_entropy_law
from entroreg.policy_gradient.entropy_monitor import EntropyMonitor, EntropyReport
from entroreg.policy_gradient.logit_step import logit_step_entropy_change
from entroreg.policy_gradient.losses import ppo_clip_loss, reinforce_loss
from entroreg.policy_gradient.metrics import PolicyMetrics
from entroreg.policy_gradient.reductions import ConstantLength, sequence_mean, token_mean

__all__ = [
    "ClipCov",
    "ConstantLength",
    "ControlledClipCov",
    "EntropyLaw",
    "EntropyMonitor",
    "EntropyReport",
    "KLCov",
    "PPOClip",
    "PolicyLoss",
    "PolicyMetrics",
    "Quantiles",
    "clip_cov_loss",
    "fit_entropy_law",
    "kl_cov_loss",
    "logit_step_entropy_change",
    "ppo_clip_loss",
    "reinforce_loss",
    "sequence_mean",
    "token_mean",
]
