"""Returns of a policy while an adversary pushes: one that is given, or one trained against it alone."""

from __future__ import annotations

from collections.abc import Callable

from entroreg.agents.adversarial.players import Frozen, PlayerSettings, build_player
from entroreg.benchmarks.evaluation import Act, episode_returns
from entroreg.envs import ActionShare, AdversaryView, Forces, ProtagonistView, make_task
from entroreg.envs.adversarial import Opponent
from entroreg.envs.tasks import Task


def returns_against(
    act: Act,
    adversary: Opponent,
    task: Task,
    forces: Forces | ActionShare,
    episodes: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Return the undiscounted returns of a policy against an adversary.

    Args:
        act: from the task's own observation to an action.
        adversary: from the task's own observation to what it does.
        task: as for ``make_task``.
        forces: of the adversary, or the share of each action that it has.
        episodes: how many.
        seed: of the starts.
        stop: asked before each step; True ends at once.
    """
    env = ProtagonistView(forces.applied_to(make_task(task)), adversary)
    returns = episode_returns(act, env, episodes, seed, stop=stop)
    env.close()
    return returns


def worst_adversary(
    act: Opponent,
    task: Task,
    forces: Forces | ActionShare,
    settings: PlayerSettings,
    steps: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Opponent:
    """Train an adversary against a policy that does not learn any more, and return it, deterministic.

    Args:
        act: the policy.
        task: as for ``make_task``.
        forces: of the adversary, or the share of each action that it has.
        settings: how it learns.
        steps: of the environment.
        seed: of everything that is drawn.
        stop: asked after each step; True ends the training at once.
    """
    player = build_player(AdversaryView(forces.applied_to(make_task(task)), act), settings, seed)
    player.learn(steps, lambda _locals, _globals: not stop(), log_interval=None)
    return Frozen(player, stochastic=False)
