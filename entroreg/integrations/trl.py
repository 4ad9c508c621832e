"""TRL's GRPOTrainer with entropy control: the policy loss is entroreg's, the rest TRL's. B batch, T tokens."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from entroreg.checkpoint import load_checkpoint, save_checkpoint
from entroreg.controllers import Dual
from entroreg.integrations.logged import as_numbers
from entroreg.integrations.trl_reductions import Weighted, reduction_of
from entroreg.integrations.trl_settings import check_settings, remembers_old_policy
from entroreg.integrations.versions import require
from entroreg.policy_gradient import ControlledClipCov, KLCov, PolicyLoss, clip_cov_loss
from entroreg.state_tree import join_state, split_state

require("transformers")
require("trl")
import trl  # noqa: E402  what is missing or untested is named first

__all__ = ["GRPOTrainer"]

_STATE = "entroreg"  # the folder in a checkpoint
_OWN_CLIP = ("low_mean", "low_min", "high_mean", "high_max")


class GRPOTrainer(trl.GRPOTrainer):
    """TRL's GRPOTrainer whose policy loss is one of ``entroreg.policy_gradient``.

    What is not the policy loss stays TRL's own: generation, rewards and advantages, the KL to the reference model,
    an entropy bonus, the router's loss, and how ``loss_type`` weighs tokens ("grpo", "bnpo", "dr_grpo" or "dapo").
    Weights that TRL puts on tokens (vLLM's importance correction, ``off_policy_mask_threshold``,
    ``top_entropy_quantile``) are put on the tokens of this loss. With several processes the covariances, thresholds
    and choices are those of the whole batch.

    TRL's metrics are logged as ever, but for the four of the low and the high side of its own clip;
    ``clip_ratio/region_mean`` is the share of tokens that the clip of ``entropy_control`` holds. Beside them stand
    the metrics of the control, as ``entroreg/<name>``.

    To combine it with a trainer of your own, name it first: ``class Mine(entroreg's GRPOTrainer, YourTrainer)``.

    A ``ControlledClipCov`` takes its controller's step once for each optimiser step, with the mean entropy of its
    micro-batches, and never in evaluation. The controller's state is saved in TRL's checkpoints and comes back with
    ``train(resume_from_checkpoint=...)``.

    Args:
        *args: TRL's, by position.
        entropy_control: ``ClipCov()``, ``KLCov()``, ``PPOClip()``, ``ControlledClipCov(dual)``, or any callable
            with their arguments.
        **kwargs: TRL's, by name.

    Raises:
        TypeError: entropy_control is not callable.
        ValueError: a setting of TRL that says what ``entropy_control`` says, or cannot be had with it.

    Warns:
        UserWarning: KL-Cov where it does nothing, since every batch is trained on once by the policy that wrote it.

    Example:
        >>> from entroreg.policy_gradient import ClipCov
        >>> trainer = GRPOTrainer(
        ...     "Qwen/Qwen2.5-0.5B", reward_funcs=reward, train_dataset=prompts, entropy_control=ClipCov()
        ... )  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP

    Reference:
        Cui et al. (2025), arXiv 2505.22617 (Clip-Cov and KL-Cov); Shao et al. (2024), arXiv 2402.03300 (GRPO).
    """

    def __init__(self, *args: Any, entropy_control: PolicyLoss, **kwargs: Any) -> None:
        if not callable(entropy_control):
            raise TypeError(
                "entropy_control must be callable, such as ClipCov() or KLCov() of entroreg.policy_gradient, "
                f"got {type(entropy_control).__name__}"
            )
        super().__init__(*args, **kwargs)
        check_settings(self, entropy_control)
        if isinstance(entropy_control, KLCov) and not remembers_old_policy(self):
            warnings.warn(
                "KL-Cov does nothing with these settings: every batch is trained on once, by the policy that wrote "
                "it, so the penalty on its change is 0. Raise num_iterations, or make steps_per_generation larger "
                "than gradient_accumulation_steps",
                UserWarning,
                stacklevel=2,
            )
        self.entropy_control = entropy_control
        self._dual: Dual | None = None
        self._loss = entropy_control
        if isinstance(entropy_control, ControlledClipCov):  # it would take a step for each micro-batch
            self._dual = entropy_control.dual
            self._loss = partial(clip_cov_loss, band=entropy_control.band, clip=entropy_control.clip)
        self._entropies: list[float] = []  # of the micro-batches since the controller's last step
        self._scored: tuple[Tensor, Tensor] | None = None

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Any, Any]:
        log_probs, entropies, router_loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._scored = log_probs, entropies
        return log_probs, entropies, router_loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        rest: Tensor = super()._compute_loss(model, self._without_policy_loss(inputs))
        log_probs, entropies = self._take_scored()
        mask = inputs["completion_mask"]
        mask = (mask if "tool_mask" not in inputs else mask * inputs["tool_mask"]).bool()
        old = inputs.get("old_per_token_logps")
        old = log_probs.detach() if old is None else old
        reduction, divisor = reduction_of(self, inputs)
        settings = {} if self._dual is None else {"fraction": self._dual.value}
        loss, metrics = self._loss(
            log_probs,
            old,
            inputs["advantages"],
            mask,
            reduction=Weighted(reduction, self._weights(inputs, log_probs.detach(), old, entropies, mask)),
            group=dist.group.WORLD if self.accelerator.num_processes > 1 else None,
            entropy=entropies,
            **settings,
        )
        self._report(loss.detach(), as_numbers(metrics))
        return rest + loss / divisor

    def _without_policy_loss(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return inputs for which TRL's loss is all but its policy loss: with advantages of 0 that is 0."""
        without = {**inputs, "advantages": torch.zeros_like(inputs["advantages"])}
        if self.beta == 0.0 or not self.args.use_bias_correction_kl:
            without.pop("old_per_token_logps", None)  # a ratio of 1 and no overflow: infinity times 0 is NaN
        return without

    def _take_scored(self) -> tuple[Tensor, Tensor]:
        """Return what TRL's loss just computed of the completions, and keep no reference to its graph."""
        scored, self._scored = self._scored, None
        if scored is None:
            raise RuntimeError("TRL's _compute_loss must score the completions, but did not: use a tested TRL")
        return scored

    def _weights(
        self, inputs: Mapping[str, Any], log_probs: Tensor, old: Tensor, entropies: Tensor, mask: Tensor
    ) -> list[Tensor]:
        """Return TRL's weights of tokens, each (B, T) or (B, 1)."""
        weights = []
        if self.off_policy_mask_threshold is not None:
            advantages = inputs["advantages"]
            weights.append(
                self.get_off_policy_mask(
                    advantages=advantages.unsqueeze(1) if advantages.dim() == 1 else advantages,
                    per_token_logps=log_probs,
                    sampling_per_token_logps=inputs.get("sampling_per_token_logps", old),
                    mask=mask,
                    off_policy_threshold=self.off_policy_mask_threshold,
                )
            )
        if self.top_entropy_quantile < 1.0:
            weights.append(self.get_high_entropy_mask(entropies.detach(), mask, 1 - self.top_entropy_quantile))
        if self.use_vllm and self.vllm_importance_sampling_correction:
            weights.append(inputs["importance_sampling_ratio"])
        return weights

    def _report(self, loss: Tensor, numbers: dict[str, float]) -> None:
        """Log the metrics, put right what TRL logged of a policy loss of 0, and take the controller's step."""
        mode = "train" if self.model.training else "eval"
        logged = self._metrics[mode]
        for name in _OWN_CLIP:
            logged.pop(f"clip_ratio/{name}", None)
        logged["clip_ratio/region_mean"][-1] = numbers["share_clipped"]
        if self._entropy_bonus_enabled:
            logged["policy_loss"][-1] += self.accelerator.gather(loss).nanmean().item()
        entropy = numbers.pop("entropy")  # TRL logs it
        if self._dual is not None:
            numbers["fraction"] = float(self._dual.value.clamp(max=1.0))
        for name, value in numbers.items():
            logged[f"entroreg/{name}"].append(value)
        if self._dual is not None and mode == "train":
            self._entropies.append(entropy)
            if self.accelerator.sync_gradients:
                self._dual.update(torch.tensor(self._entropies).mean())
                self._entropies.clear()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self._dual is not None and self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial), f"checkpoint-{self.state.global_step}", _STATE)
            tensors, data = split_state(self._dual.state_dict())
            save_checkpoint(folder, tensors, {"dual": data})

    def _load_optimizer_and_scheduler(self, checkpoint: str | os.PathLike[str] | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self._dual is None or checkpoint is None:
            return
        folder = Path(checkpoint, _STATE)
        if not folder.exists():
            raise FileNotFoundError(
                f"{folder} must hold the state of ControlledClipCov's dual, and is not there: resume from a "
                "checkpoint that was written with ControlledClipCov, or start without resume_from_checkpoint"
            )
        tensors, metadata = load_checkpoint(folder)
        self._dual.load_state_dict(join_state(tensors, metadata["dual"]))
