"""Group-relative policy optimisation of a transformer on a verifiable task. P prompts, S samples, T tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from entroreg import EntropyRegularizer, _checks, selectors
from entroreg.agents.rlvr.addition import END, Addition
from entroreg.agents.rlvr.controls import Control
from entroreg.agents.rlvr.policy_watch import PolicyWatch
from entroreg.agents.rlvr.sampling import answer_logits, answer_mask, sample
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.guards import require_finite
from entroreg.measures import token_logprob_entropy
from entroreg.policy_gradient import ClipCov, ControlledClipCov, PolicyMetrics

_MAX_GRADIENT_NORM = 1.0
_SPREAD_FLOOR = 1e-4  # of a group whose samples all have one reward; TRL's


def group_advantages(rewards: Tensor) -> Tensor:
    r"""Return how much better each sample did than the others of its prompt, in standard deviations.

    $$A_{ps} = \frac{r_{ps} - \bar r_p}{\sigma_p + 10^{-4}}$$

    Args:
        rewards: (P, S) floating.

    Returns:
        (P, S); 0 for a prompt whose samples all have one reward.

    Reference:
        Shao et al. (2024), DeepSeekMath, arXiv 2402.03300, section 4.1.2.
    """
    spread = rewards.std(dim=1, keepdim=True) if rewards.shape[1] > 1 else torch.zeros_like(rewards)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (spread + _SPREAD_FLOOR)


class _Batch(NamedTuple):
    """A part of a rollout as one update sees it: (P, prompt length) prompts, the rest for each of P * S answers."""

    prompts: Tensor
    answers: Tensor
    mask: Tensor
    advantages: Tensor
    old_log_probs: Tensor
    entropy: Tensor


@dataclass(frozen=True)
class GRPOSettings:
    """What a step of GRPO is made of."""

    prompts: int = 64
    """Problems of a rollout, a multiple of updates."""
    samples: int = 8
    """Answers to each problem."""
    updates: int = 4
    """Updates for each rollout, each on its own part of it."""
    learning_rate: float = 3e-4
    """Of AdamW, without weight decay."""
    temperature: float = 1.0
    """Of the policy, in sampling and in the loss alike."""

    def __post_init__(self) -> None:
        for name in ("prompts", "samples", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prompts % self.updates:
            raise ValueError(f"prompts must be a multiple of updates={self.updates}, got {self.prompts}")
        if self.samples < 2:
            raise ValueError(f"samples must be at least 2, got {self.samples}: one has nothing to be compared with")
        for name in ("learning_rate", "temperature"):
            _checks.require_positive(name, getattr(self, name))


class GRPO:
    """A policy that learns from the rewards of its own answers.

    Args:
        model: the policy, trained in place.
        task: that draws problems and verifies answers.
        control: of the policy's entropy.
        settings: of a step.
        seed: of all problems and answers.
    """

    def __init__(
        self, model: CharTransformer, task: Addition, control: Control, settings: GRPOSettings, *, seed: int
    ) -> None:
        self.model = model
        self.task = task
        self.control = control
        self.settings = settings
        self.steps = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=0.0)
        draws = isinstance(control.loss, ClipCov | ControlledClipCov)
        self._random = {"generator": self.generator} if draws else {}
        self._watch = PolicyWatch(control)
        self._bonus = None if control.bonus is None else EntropyRegularizer(control.bonus, sign="maximize")

    def step(self) -> dict[str, float]:
        """Take one rollout and all of its updates.

        Returns:
            reward and entropy (nats, over the rollout's tokens), both of the policy before the updates; covariance
            of log-probability and advantage; the means over the updates of the loss's metrics; weight of a bonus.

        Raises:
            FloatingPointError: logits, log-probabilities, rewards, a loss or a gradient are NaN or infinite; the
                weights are those before it.

        Warns:
            EntropyCollapseWarning: entropy has stayed below a tenth of the first step's for ten steps.
            TemperatureRunawayWarning: the weight of a learned bonus grows, and entropy does not answer.
        """
        batches, reward = self._rollout()
        covariance, entropy = _rollout_statistics(batches)
        found = [self._update(batch) for batch in batches]
        self.steps += 1
        self._watch.update(self.steps, entropy)
        metrics = {"step": self.steps, "reward": reward, "entropy": entropy, "covariance": covariance}
        for name in ("share_selected", "share_clipped", "share_inert", "kl"):
            metrics[name] = sum(float(getattr(one, name)) for one in found) / len(found)
        if self.control.bonus is not None:
            metrics["alpha"] = float(self.control.bonus.value)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "control": self.control.state_dict(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
            "watch": self._watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it: the steps that follow are those that would have followed."""
        _checks.require_keys("state of GRPO", state, self.state_dict())
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.control.load_state_dict(state["control"])
        self.generator.set_state(state["generator"])
        self.steps = int(state["steps"])
        self._watch.load_state_dict(state["watch"])

    def _rollout(self) -> tuple[list[_Batch], float]:
        settings = self.settings
        problems = self.task.draw(settings.prompts, self.generator)
        try:
            answers = sample(
                self.model,
                problems.prompts,
                length=self.task.answer_length,
                end=END,
                samples=settings.samples,
                generator=self.generator,
                temperature=settings.temperature,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"step {self.steps + 1}: {error}") from error
        rewards = self.task.verify(answers, problems.answers.repeat_interleave(settings.samples, 0))
        self._require_finite("reward", rewards)
        advantages = group_advantages(rewards.view(-1, settings.samples)).reshape(-1)
        mask = answer_mask(answers, END)
        batches = []
        for prompts, *parts in zip(
            *(whole.chunk(settings.updates) for whole in (problems.prompts, answers, mask, advantages)), strict=True
        ):
            # Computed as the update computes it, on the same batch, so that an unmoved policy has ratio 1 exactly.
            with torch.no_grad():
                log_probs, entropy = self._log_probs_and_entropy(prompts, parts[0])
            self._require_finite("log-probability", log_probs[parts[1]])
            batches.append(_Batch(prompts, parts[0], parts[1], parts[2], log_probs, entropy))
        return batches, float(rewards.mean())

    def _log_probs_and_entropy(self, prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        logits = answer_logits(self.model, prompts, answers)
        return token_logprob_entropy(logits, answers, temperature=self.settings.temperature)

    def _update(self, batch: _Batch) -> PolicyMetrics:
        log_probs, entropy = self._log_probs_and_entropy(batch.prompts, batch.answers)
        self._require_finite("log-probability", log_probs.detach()[batch.mask])
        metrics: PolicyMetrics
        inputs = (log_probs, batch.old_log_probs, batch.advantages, batch.mask)
        loss, metrics = self.control.loss(*inputs, entropy=entropy.detach(), **self._random)
        if self._bonus is not None:
            loss = loss + self._bonus(entropy, batch.mask).loss
        self._require_finite("loss", loss.detach())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_GRADIENT_NORM)
        self._require_finite("gradient norm", norm)
        self.optimizer.step()
        if self.control.bonus is not None:
            self.control.bonus.update(metrics.entropy)
        return metrics

    def _require_finite(self, name: str, values: Tensor) -> None:
        require_finite(name, values, at=f"step {self.steps + 1}", advice="lower the learning rate")


def _rollout_statistics(batches: list[_Batch]) -> tuple[float, float]:
    """Return the covariance of log-probability and advantage, and the mean entropy, over the rollout's tokens."""
    mask = torch.cat([batch.mask for batch in batches])
    log_probs = torch.cat([batch.old_log_probs for batch in batches])
    entropy = torch.cat([batch.entropy for batch in batches])
    advantages = torch.cat([batch.advantages for batch in batches])[:, None].expand_as(log_probs)
    covariance = selectors.token_covariance(log_probs, advantages, mask)
    return float(covariance[mask].mean()), float(entropy[mask].mean())
