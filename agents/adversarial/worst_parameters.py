"""SAC against the worst parameters of an uncertainty set: its critic sees them, its actor does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from torch import Tensor

from entroreg import measures
from entroreg.agents import losses
from entroreg.agents.adversarial.exporting import without_last_components
from entroreg.agents.adversarial.players import DEFAULT, TEMPERATURE, PlayerSettings, build_player, sac_arguments
from entroreg.agents.blind_actor_policy import BlindActorPolicy
from entroreg.agents.gradient_step import optimizer_step
from entroreg.agents.sac import SAC
from entroreg.envs import UncertaintySet, make_task
from entroreg.envs.perturbations import ObservedParameters
from entroreg.envs.tasks import Task


class WorstParameterSAC(SAC):
    r"""SAC on ``ObservedParameters`` whose actor is improved where the critic finds it worst, as in M2TD3.

    $$\max_\pi \min_\omega \mathbb{E}\left[\min_i Q_i(s, a, \omega) - \alpha \log\pi(a|s)\right]$$

    Several candidates for the worst parameters are kept. Each update moves the actor against the worst of them,
    and that one down the critic's gradient; each episode has one of them, with noise, after uniform ones in the
    warm-up.
    Differs from the paper: SAC in place of TD3, and no restarts of candidates that meet.

    Args:
        policy: ``BlindActorPolicy``, with ``policy_kwargs={"hidden": parameters}``.
        env: ``ObservedParameters``, possibly wrapped.
        args: further arguments of ``SAC``, by position.
        parameters: their number, p.
        candidates: kept.
        candidate_rate: length of their steps, in halves of the ranges.
        noise: standard deviation of an episode's parameters around the candidate, in halves of the ranges.
        kwargs: further arguments of ``SAC``, by name.

    Reference:
        Tanabe et al. (2022), "Max-Min Off-Policy Actor-Critic Method Focusing on Worst-Case Robustness to Model
        Misspecification", arXiv 2211.03413.
    """

    def __init__(
        self,
        policy: Any,
        env: Any,
        *args: Any,
        parameters: int = 1,
        candidates: int = 5,
        candidate_rate: float = 1e-3,
        noise: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, *args, **kwargs)
        self.candidate_rate, self.candidate_noise = candidate_rate, noise
        drawn = np.random.default_rng(kwargs.get("seed")).uniform(-1.0, 1.0, (candidates, parameters))
        self.candidates = drawn.astype(np.float32)

    def choose_parameters(self, rng: np.random.Generator) -> NDArray[Any]:
        """Return the parameters (p,) of the next episode, in [-1, 1]."""
        count, size = self.candidates.shape
        if self.num_timesteps < self.learning_starts:
            return rng.uniform(-1.0, 1.0, (size,))
        noise = self.candidate_noise * rng.standard_normal((size,))
        chosen: NDArray[Any] = np.clip(self.candidates[rng.integers(count)] + noise, -1.0, 1.0)
        return chosen

    def _update(self, batch: Any) -> dict[str, Tensor]:
        """Update alpha and critics as SAC does, then the actor and the worst candidate."""
        actions_pi, log_probs = self.actor.action_log_prob(batch.observations)
        log_probs = log_probs.reshape(-1, 1)
        alpha = self._alpha_at(batch.observations)
        metrics = self._update_controller(measures.pathwise_entropy(log_probs.detach()), batch.observations)

        target = self._critic_target(batch, alpha)
        q_loss = losses.critic_loss(self.critic(batch.observations, batch.actions), target)
        q_gradient = optimizer_step(self.critic.optimizer, q_loss)

        candidates = torch.tensor(self.candidates, device=self.device, requires_grad=True)
        values = self._values_at(candidates, batch.observations, actions_pi)
        worst = int(values.mean(dim=(1, 2)).argmin())
        pi_loss = losses.actor_loss(log_probs, values[worst], alpha)
        (slope,) = torch.autograd.grad(values[worst].mean(), candidates, retain_graph=True)
        pi_gradient = optimizer_step(self.actor.optimizer, pi_loss)
        self._move(worst, slope[worst].cpu().numpy())
        return {
            **metrics,
            "critic_loss": q_loss.detach(),
            "critic_gradient": q_gradient,
            "actor_loss": pi_loss.detach(),
            "actor_gradient": pi_gradient,
            "worst_value": values[worst].detach().mean(),
        }

    def _values_at(self, candidates: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the lesser critic's values (candidates, B, 1) with each candidate in the observations."""
        (count, size), batch = candidates.shape, len(observations)
        seen = observations[:, :-size].expand(count, -1, -1)
        placed = torch.cat([seen, candidates[:, None].expand(-1, batch, -1)], dim=-1)
        values = self.critic(placed.flatten(0, 1), actions.expand(count, -1, -1).flatten(0, 1))
        return torch.cat(values, dim=1).min(dim=1).values.reshape(count, batch, 1)

    def _move(self, candidate: int, slope: NDArray[Any]) -> None:
        length = float(np.linalg.norm(slope))
        if length > 0.0:
            step = self.candidate_rate / length * slope
            self.candidates[candidate] = (self.candidates[candidate] - step).clip(-1.0, 1.0)


def worst_parameter_sac(
    task: Task,
    uncertainty_set: UncertaintySet,
    settings: PlayerSettings = DEFAULT,
    *,
    episode_steps: int | None = 500,
    seed: int = 0,
) -> WorstParameterSAC:
    """Return an untrained ``WorstParameterSAC`` for a task and an uncertainty set.

    Args:
        task: id of a MuJoCo task, or a function that returns a new environment.
        uncertainty_set: ranges of the parameters.
        settings: how it learns.
        episode_steps: control steps after which a training episode is cut; None for the task's own limit.
        seed: of everything that is drawn.

    Raises:
        ValueError: an entropy coefficient that is a temperature: no observation ends with one here.

    Example:
        >>> from entroreg.envs import find_set
        >>> small = PlayerSettings(net=(8,), learning_starts=50, batch_size=16)
        >>> pendulum = "InvertedPendulum-v5"
        >>> agent = worst_parameter_sac(pendulum, find_set(pendulum, "rrls-2"), small).learn(100)
        >>> agent.candidates.shape
        (5, 2)
    """
    if settings.ent_coef == TEMPERATURE:
        raise ValueError(f"ent_coef must not be {TEMPERATURE!r}: no observation ends with one here")
    observed = ObservedParameters(make_task(task), uncertainty_set)
    env = observed if episode_steps is None else TimeLimit(observed, episode_steps)
    size = len(uncertainty_set.ranges)
    arguments = sac_arguments(settings)
    arguments["policy_kwargs"]["hidden"] = size
    agent = WorstParameterSAC(BlindActorPolicy, env, seed=seed, parameters=size, **arguments)
    observed.choose = agent.choose_parameters
    return agent


def plain_sac(agent: WorstParameterSAC, task: Task, settings: PlayerSettings = DEFAULT, seed: int = 0) -> SAC:
    """Return the agent as an ordinary SAC on the task's own observation, to be saved as a zip.

    It acts as the agent does; its critic is that at the middle of the uncertainty set.

    Args:
        agent: trained.
        task: that it was trained on.
        settings: that it was built with.
        seed: of what is trained further.
    """
    return without_last_components(agent, build_player(make_task(task), settings, seed))
