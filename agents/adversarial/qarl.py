"""QARL, and what differs from it in the curriculum or in the adversary alone."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

from entroreg.agents.adversarial.curricula import ConstantTemperature, Curriculum
from entroreg.agents.adversarial.players import DEFAULT, TEMPERATURE, PlayerSettings
from entroreg.agents.adversarial.two_players import TwoPlayers
from entroreg.curriculum import GammaCurriculum
from entroreg.envs import ActionShare
from entroreg.envs.tasks import Task


class QARL(TwoPlayers):
    r"""Robust RL by an adversary whose rationality grows: its temperature is drawn, and the draw cools down.

    $$\max_\pi \min_\mu \mathbb{E} \sum_t \gamma^t \left[r_t + \beta H(\pi) - \alpha H(\mu)\right], \qquad
    \alpha \sim \Gamma(k, 1000)$$

    Differs from the paper: mean and standard deviation of a policy share a trunk, as in Stable-Baselines3;
    actor and critics have one learning rate, and both begin after ``learning_starts``.

    Args:
        task: id of a MuJoCo task, or a function that returns a new environment.
        return_floor: xi; the curriculum moves while the discounted return is above it. A number, or a curriculum.
        settings: how both players learn.
        kwargs: all other arguments of ``TwoPlayers``.

    Example:
        >>> small = PlayerSettings(net=(8,), learning_starts=50, batch_size=16)
        >>> agent = QARL("InvertedPendulum-v5", return_floor=50.0, settings=small).learn(200)
        >>> agent.predict(agent.protagonist.observation_space.sample()[:-1])[0].shape
        (1,)

    Reference:
        Reddi et al. (2024), "Robust Adversarial Reinforcement Learning via Bounded Rationality Curricula",
        arXiv 2311.01642.
    """

    def __init__(
        self,
        task: Task,
        return_floor: float | Curriculum,
        settings: PlayerSettings = DEFAULT,
        **kwargs: Any,
    ) -> None:
        if isinstance(return_floor, int | float | Real):  # the last for NumPy's
            return_floor = GammaCurriculum(float(return_floor))
        adversary = replace(settings, ent_coef=TEMPERATURE)
        super().__init__(task, return_floor, **{"protagonist": settings, "adversary": adversary, **kwargs})


class RARL(TwoPlayers):
    """Robust RL by an adversary that is an ordinary SAC agent, as rational as it learns to be.

    Differs from the paper: both players are SAC, not TRPO, as in QARL's comparison.

    Args:
        task: id of a MuJoCo task, or a function that returns a new environment.
        settings: how both players learn.
        kwargs: all other arguments of ``TwoPlayers``.

    Reference:
        Pinto et al. (2017), "Robust Adversarial Reinforcement Learning", arXiv 1703.02702.
    """

    def __init__(self, task: Task, settings: PlayerSettings = DEFAULT, **kwargs: Any) -> None:
        super().__init__(
            task, ConstantTemperature(0.0), **{"protagonist": settings, "adversary": settings, **kwargs}
        )


def mixed_nash(
    task: Task,
    settings: PlayerSettings = DEFAULT,
    *,
    share: float = 0.1,
    langevin_noise: float = 1e-3,
    **kwargs: Any,
) -> TwoPlayers:
    """Return MixedNE-LD: the adversary has a share of each action, and both actors follow Langevin dynamics.

    Differs from the paper: both players are SAC, not DDPG, and iterates are not averaged over an inner loop.

    Args:
        task: id of a task, or a function that returns a new environment.
        settings: how both players learn.
        share: delta of the mixture of actions, in (0, 1].
        langevin_noise: sigma, of ``LangevinRMSprop``.
        kwargs: all other arguments of ``TwoPlayers``.

    Reference:
        Kamalaruban et al. (2020), "Robust Reinforcement Learning via Adversarial training with Langevin Dynamics",
        arXiv 2002.06063.
    """
    both = replace(settings, langevin_noise=langevin_noise)
    players = {"protagonist": both, "adversary": both, "forces": ActionShare(share)}
    return TwoPlayers(task, ConstantTemperature(0.0), **{**players, **kwargs})


def homogeneous(task: Task, return_floor: float, settings: PlayerSettings = DEFAULT, **kwargs: Any) -> QARL:
    """Return QARL whose protagonist has the temperature of the episode too, in place of a learned one."""
    both = replace(settings, ent_coef=TEMPERATURE)
    return QARL(task, return_floor, settings, protagonist=both, **kwargs)


def force_curriculum(
    task: Task, return_floor: float, settings: PlayerSettings = DEFAULT, **kwargs: Any
) -> TwoPlayers:
    """Return RARL whose force limit grows: the same curriculum, from a Gamma of mean .02 to one of mean 1.

    Shares of the limit above 1 occur towards the end, as large temperatures do in QARL.
    """
    curriculum = GammaCurriculum(return_floor, shape=1.0, target_shape=50.0, rate=50.0)
    players = {"protagonist": settings, "adversary": settings}
    return TwoPlayers(task, curriculum, scales_force=True, **{**players, **kwargs})
