"""Soft actor-critic for discrete actions, with the interface of Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import (
    DictReplayBufferSamples,
    GymEnv,
    MaybeCallback,
    ReplayBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update
from torch import Tensor

from entroreg import _checks, measures, penalties
from entroreg.agents import losses
from entroreg.agents.controller_state import AnyController
from entroreg.agents.discrete_policy import (
    CategoricalActor,
    CnnPolicy,
    DiscreteCritic,
    DiscreteSACPolicy,
    MlpPolicy,
    MultiInputPolicy,
)
from entroreg.agents.engine.discrete_engine import DiscreteSACEngine
from entroreg.agents.engine.eligibility import why_not_discrete_sac, why_not_own
from entroreg.agents.gradient_step import optimizer_step
from entroreg.agents.on_engine import OnEngine
from entroreg.controllers import Target
from entroreg.guards import categorical_floor

# 0.98 log|A| diverges for few actions and -|A| collapses alpha: see docs in README, "Discrete actions".
TARGET_SHARE = 0.7


class DiscreteSAC(OnEngine):
    r"""SAC for ``Discrete`` actions: expectations over all actions in place of samples.

    $$V(s) = \sum_a \pi(a|s) [Q(s, a) - \alpha \log \pi(a|s)]$$

    The default target is 0.7 log|A|; the entropy is the policy's own, not an estimate. SD-SAC's remedies are
    options: ``double_average_q`` and ``q_clip`` against underestimation, ``entropy_penalty`` against jumps.
    Differs from the paper: the penalty's reference entropy is that of the actor's Polyak average in place of the
    one stored when the action was taken, so that every replay buffer can be used.

    Args:
        policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a DiscreteSACPolicy class.
        env: environment with Discrete actions, vector of environments, or registered name.
        learning_rate: of actor, critics and, with "auto", alpha; a number or a schedule of the remaining progress.
        buffer_size: transitions kept.
        learning_starts: environment steps with uniform actions before the first update.
        batch_size: transitions per update.
        tau: share of the new parameters in the Polyak average.
        gamma: discount.
        train_freq: environment steps between updates, or (number, "episode").
        gradient_steps: updates each time; -1 for as many as steps.
        replay_buffer_class: of Stable-Baselines3's kind.
        replay_buffer_kwargs: its arguments.
        optimize_memory_usage: keep next observations only once.
        n_steps: length of the returns.
        ent_coef: "auto", "auto_<initial>", a number, or a controller.
        target_update_interval: updates between two steps of the Polyak average.
        target_entropy: for "auto": "auto" (0.7 log|A|), a number, or a function of the update count, in nats.
        stats_window_size: episodes averaged in the log.
        tensorboard_log: folder, or None.
        policy_kwargs: arguments of the policy.
        verbose: 0, 1 or 2.
        seed: of everything that is drawn.
        device: torch device.
        entropy_backup: whether the Bellman target contains the entropy of the next state.
        double_average_q: mean of the critics in place of their minimum.
        q_clip: half-width c of the Q-clip loss, or None; the paper uses 0.5.
        entropy_penalty: weight of (H_reference - H)^2 in the policy's loss; the paper uses 0.5.
        engine: "auto" compiles the update after ``engine_starts`` updates (5,000), "compiled" at once, "eager"
            never.

    Raises:
        TypeError: ent_coef of a wrong kind.
        ValueError: a target that no policy can reach (log|A| and above), a negative coefficient, an unknown word.

    Example:
        >>> agent = DiscreteSAC("MlpPolicy", "CartPole-v1")
        >>> round(agent.target_entropy, 4)
        0.4852

    Reference:
        Christodoulou (2019), arXiv 1910.07207; Zhou et al. (2022), SD-SAC, arXiv 2209.10081.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: DiscreteSACPolicy
    actor: CategoricalActor
    critic: DiscreteCritic
    critic_target: DiscreteCritic
    action_space: spaces.Discrete

    def __init__(
        self,
        policy: str | type[DiscreteSACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | AnyController = "auto",
        target_update_interval: int = 1,
        target_entropy: str | Target = "auto",
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        entropy_backup: bool = True,
        double_average_q: bool = False,
        q_clip: float | None = None,
        entropy_penalty: float = 0.0,
        engine: str = "auto",
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Discrete,),
            support_multi_env=True,
        )
        self.target_update_interval = target_update_interval
        self.entropy_backup = entropy_backup
        self.double_average_q = double_average_q
        self.q_clip = None if q_clip is None else _checks.require_positive("q_clip", q_clip)
        self.entropy_penalty = _checks.require_number("entropy_penalty", entropy_penalty, low=0.0)
        self._request_engine(engine, DiscreteSACEngine())
        self._request_ent_coef(ent_coef, target_entropy)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if self.action_space.start != 0:
            raise ValueError(
                f"actions must be numbered from 0, got Discrete(start={self.action_space.start}): wrap the "
                "environment, because Stable-Baselines3 passes on indices"
            )
        self._setup_engine()
        super()._setup_model()
        self.actor, self.critic = self.policy.actor, self.policy.critic
        self.critic_target = self.policy.critic_target
        networks = (self.critic, self.actor), (self.critic_target, self.policy.actor_target)
        self.batch_norm_stats, self.batch_norm_stats_target = (
            [stats for network in pair for stats in get_parameters_by_name(network, ["running_"])]
            for pair in networks
        )
        highest = measures.max_categorical_entropy(int(self.action_space.n))
        self._bind_ent_coef(self.ent_coef, self.target_entropy, TARGET_SHARE * highest, (0.0, highest))

    def _update_targets(self) -> None:
        super()._update_targets()
        if self.entropy_penalty:
            polyak_update(self.actor.parameters(), self.policy.actor_target.parameters(), self.tau)

    def _update(self, batch: ReplayBufferSamples | DictReplayBufferSamples) -> dict[str, Tensor]:
        """Update critics, actor and alpha once."""
        alpha = self._alpha_at(batch.observations)  # read before its own step: critic and actor use the same one
        q_values = self.critic(batch.observations)
        q_loss = self._critic_loss(batch, q_values, alpha)
        q_gradient = optimizer_step(self.critic.optimizer, q_loss)

        log_probs = self.actor.log_probs(batch.observations)
        entropy = measures.categorical_entropy(log_probs)
        pi_loss = -losses.discrete_value(log_probs, self._pool([q.detach() for q in q_values]), alpha).mean()
        if self.entropy_penalty:
            with torch.no_grad():
                reference = measures.categorical_entropy(self.policy.actor_target.log_probs(batch.observations))
            pi_loss = pi_loss + self.entropy_penalty * penalties.squared(entropy, reference).mean()
        pi_gradient = optimizer_step(self.actor.optimizer, pi_loss)

        metrics = self._update_controller(entropy.detach(), batch.observations)
        # In the order of their causes: the first that is not finite is named.
        return {
            **metrics,
            "critic_loss": q_loss.detach(),
            "critic_gradient": q_gradient,
            "actor_loss": pi_loss.detach(),
            "actor_gradient": pi_gradient,
        }

    def _critic_loss(
        self, batch: ReplayBufferSamples | DictReplayBufferSamples, q_values: tuple[Tensor, ...], alpha: Tensor
    ) -> Tensor:
        with torch.no_grad():
            next_log_probs = self.actor.log_probs(batch.next_observations)
            next_q = self._pool(self.critic_target(batch.next_observations))
            next_alpha = alpha if alpha.dim() == 0 else self._alpha_at(batch.next_observations)
            next_alpha = next_alpha if self.entropy_backup else torch.zeros_like(next_alpha)
            next_values = losses.discrete_value(next_log_probs, next_q, next_alpha)
            discounts = self.gamma if batch.discounts is None else batch.discounts
            target = losses.soft_target(batch.rewards, batch.dones, discounts, next_values)
        actions = batch.actions.long()
        taken = [q.gather(1, actions) for q in q_values]
        if self.q_clip is None:
            return losses.critic_loss(taken, target)
        with torch.no_grad():
            old = [q.gather(1, actions) for q in self.critic_target(batch.observations)]
        return losses.clipped_critic_loss(taken, old, target, self.q_clip)

    def _pool(self, q_values: Sequence[Tensor]) -> Tensor:
        return losses.pool(q_values, average=self.double_average_q)

    def _collapse_floor(self, target: float | None) -> float:
        return categorical_floor(measures.max_categorical_entropy(int(self.action_space.n)), target)

    def policy_outputs(self, observations: Any) -> dict[str, Tensor]:
        """Return the log-probabilities (B, A) of the actions."""
        return {"log-probability": self.actor.log_probs(observations)}

    def _why_not_engine(self) -> str | None:
        return why_not_own(self, DiscreteSAC, _IN_THE_ENGINE) or why_not_discrete_sac(self)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "DiscreteSAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train for a number of environment steps; the arguments are Stable-Baselines3's."""
        return super().learn(
            total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
        )


_IN_THE_ENGINE = ("_update", "_critic_loss", "_pool", "_update_targets")
