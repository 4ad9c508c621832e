"""Which settings of TRL's GRPOTrainer go together with entropy control."""

from __future__ import annotations

from typing import Any

from entroreg.policy_gradient import PolicyLoss


def remembers_old_policy(trainer: Any) -> bool:
    """Return whether TRL computes old log-probabilities; where not, the old policy is the present one."""
    args = trainer.args
    every = args.steps_per_generation * args.num_iterations  # micro-batches from one generation to the next
    corrected: bool = trainer.use_vllm and trainer.vllm_importance_sampling_correction
    return args.gradient_accumulation_steps % every != 0 or corrected


def check_settings(trainer: Any, entropy_control: PolicyLoss) -> None:
    """Refuse settings of TRL that say what ``entropy_control`` says, or that cannot be had with it."""
    args = trainer.args
    if trainer.loss_type not in ("grpo", "bnpo", "dr_grpo", "dapo"):
        raise ValueError(
            "loss_type must be 'grpo', 'bnpo', 'dr_grpo' or 'dapo', which say how tokens are weighed, "
            f"got {trainer.loss_type!r}: its own policy loss would be replaced by entropy_control"
        )
    if trainer.importance_sampling_level != "token":
        raise ValueError(
            f"importance_sampling_level must be 'token', got {trainer.importance_sampling_level!r}: "
            "entropy_control works on the ratios of tokens"
        )
    if args.delta is not None:
        raise ValueError(f"delta must be None, got {args.delta}: entropy_control has no second clip")
    clip = (trainer.epsilon_low, trainer.epsilon_high)
    default = (0.2, 0.2)  # TRL's, which nobody asked for
    if clip not in (default, getattr(entropy_control, "clip", None)):
        raise ValueError(
            f"epsilon and epsilon_high must be left alone, got {clip}: the clip is entropy_control's, as in "
            f"PPOClip(clip={clip})"
        )
    parallelism = trainer.accelerator.parallelism_config
    if parallelism is not None and parallelism.tp_size > 1:
        raise ValueError(
            f"tp_size must be 1, got {parallelism.tp_size}: processes that share a batch would choose other tokens"
        )
