"""Training under attacks on the actions, by descent on the agent's own critic, with a budget that grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from entroreg import _checks
from entroreg.agents.adversarial.players import DEFAULT, PlayerSettings, build_player
from entroreg.agents.sac import SAC
from entroreg.envs import make_task
from entroreg.envs.tasks import Env, Task
from entroreg.schedules import LinearSchedule


def attack_action(
    agent: SAC, observation: NDArray[Any], action: NDArray[Any], budget: float, steps: int = 25, rate: float = 3.0
) -> NDArray[Any]:
    r"""Return what projected gradient descent on the critic makes of an action: the myopic action space attack.

    $$a \leftarrow \Pi\left[a - \eta \nabla_a \min_i Q_i(s, a)\right], \quad
    \Pi \text{ onto } \{a : \|a - a_0\|_2 \le B\} \cap [-1, 1]^d$$

    Args:
        agent: whose critic is asked.
        observation: (D,).
        action: (A,) in the units of the environment.
        budget: B, at least 0, in halves of the action range.
        steps: of the descent; it ends before where a step changes nothing.
        rate: eta.

    Returns:
        (A,) in the units of the environment.

    Reference:
        Lee et al. (2020), "Spatiotemporally Constrained Action Space Attacks on Deep Reinforcement Learning
        Agents", arXiv 1909.02583.
    """
    seen = torch.as_tensor(observation, device=agent.device)[None]
    start = torch.as_tensor(agent.policy.scale_action(action), device=agent.device)[None]
    moved = start
    for _ in range(steps):
        before = moved.detach().requires_grad_()
        value = torch.cat(agent.critic(seen, before), dim=1).min()
        (gradient,) = torch.autograd.grad(value, before)
        away = (before.detach() - rate * gradient - start).renorm(2, 0, budget)
        moved = (start + away).clamp(-1.0, 1.0)
        if torch.equal(moved, before):
            break
    found: NDArray[Any] = agent.policy.unscale_action(moved[0].detach().cpu().numpy())
    return found


class AttackedActions(gymnasium.Wrapper[Any, Any, Any, Any], gymnasium.utils.RecordConstructorArgs):
    """A task in which an attacker replaces each action.

    Args:
        env: the task.
        attack: from the observation and the action to what is done in its place; None for no attack.
    """

    def __init__(
        self, env: Env, attack: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        gymnasium.utils.RecordConstructorArgs.__init__(self, _disable_deepcopy=True, attack=attack)
        gymnasium.Wrapper.__init__(self, env)
        self.attack = attack

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a control step with what the attacker makes of the action."""
        found = self.env.step(action if self.attack is None else self.attack(self._observation, action))
        self._observation = found[0]
        return found


class GrowingAttack:
    """An attack on an agent in training, whose budget grows from 0 over the middle of it.

    Args:
        agent: who is attacked.
        total_timesteps: of the training; the budget grows from 20 to 80 % of them.
        budget: at the end, in halves of the action range.
        steps: as for ``attack_action``.
        rate: as for ``attack_action``.
    """

    def __init__(self, agent: SAC, total_timesteps: int, budget: float, steps: int = 25, rate: float = 3.0) -> None:
        self._agent, self._steps, self._rate = agent, steps, rate
        self._begin = total_timesteps // 5
        self._budget = LinearSchedule(0.0, budget, max(1, 3 * total_timesteps // 5))

    def budget(self) -> float:
        """Return the present budget."""
        return self._budget(max(0, self._agent.num_timesteps - self._begin))

    def __call__(self, observation: NDArray[Any], action: NDArray[Any]) -> NDArray[Any]:
        """Return what is done in place of an action."""
        budget = self.budget()
        if budget == 0.0:
            return action
        return attack_action(self._agent, observation, action, budget, self._steps, self._rate)


def attacked_sac(
    task: Task,
    total_timesteps: int,
    settings: PlayerSettings = DEFAULT,
    *,
    budget: float = 0.5,
    episode_steps: int | None = 500,
    seed: int = 0,
) -> SAC:
    """Return SAC whose actions are attacked while it trains, harder and harder: CAT with the MAS attack.

    It remembers the actions that it chose, not those that were done. Differs from the papers: SAC in place of their
    agents; the last budget is ours to choose.

    Args:
        task: id of a task, or a function that returns a new environment.
        total_timesteps: that it will be trained for.
        settings: how it learns.
        budget: at the end, in halves of the action range (L2).
        episode_steps: control steps after which a training episode is cut; None for the task's own limit.
        seed: of everything that is drawn.

    Raises:
        ValueError: a budget that is not above 0.

    Example:
        >>> small = PlayerSettings(net=(8,), learning_starts=50, batch_size=16)
        >>> agent = attacked_sac("InvertedPendulum-v5", 100, small).learn(100)

    Reference:
        Sheng et al. (2022), "Curriculum Adversarial Training for Robust Reinforcement Learning"; Lee et al. (2020),
        arXiv 1909.02583; the settings are those of QARL's comparison, arXiv 2311.01642.
    """
    _checks.require_count("total_timesteps", total_timesteps)
    _checks.require_positive("budget", budget)
    base = make_task(task)
    env = AttackedActions(base if episode_steps is None else TimeLimit(base, episode_steps))
    agent = build_player(env, settings, seed)
    env.attack = GrowingAttack(agent, total_timesteps, budget)
    return agent
