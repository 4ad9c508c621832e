"""Time of a step of the adversarial views beside the plain task, and of QARL's iterations, stage by stage."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from gymnasium.spaces import Space
from stable_baselines3.common.logger import KVWriter, Logger

from entroreg.agents import QARL
from entroreg.agents.adversarial import PlayerSettings
from entroreg.agents.adversarial.players import Frozen, build_player
from entroreg.envs import AdversaryView, ProtagonistView, PushedTask, find_forces, make_task
from entroreg.envs.tasks import Env

_UNREACHED = 1e9  # a floor: the curriculum's search is timed in the suite curriculum
_STAGES = (
    "adversary_seconds",
    "adversary_update_seconds",
    "protagonist_seconds",
    "protagonist_update_seconds",
    "curriculum_seconds",
)


def view_rounds(task: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return microseconds of a step, methods in turn: the plain task, both views with a given opponent.

    Args:
        task: id.
        rounds: turns of each.
        steps: of each turn.

    Returns:
        For each method, a number for each round; ``opponent`` is an opponent's forward pass alone, 2 x 256.
    """
    forces = find_forces(task)
    plain = make_task(task)
    pushed = ProtagonistView(PushedTask(make_task(task), forces))
    pushed.opponent = _given(pushed.get_wrapper_attr("force_space"))
    # The same actions as in the plain task, which the time of its physics depends on.
    pushing = AdversaryView(PushedTask(make_task(task), forces), _given(plain.action_space))
    opponent = Frozen(build_player(make_task(task), PlayerSettings(net=(256, 256), device="cpu", buffer_size=1), 0))
    observation = plain.observation_space.sample()
    methods: dict[str, Callable[[int], float]] = {
        "plain": lambda n: _step_seconds(plain, n),
        "protagonist": lambda n: _step_seconds(pushed, n),
        "adversary": lambda n: _step_seconds(pushing, n),
        "opponent": lambda n: _call_seconds(lambda: opponent(observation), n),
    }
    for method in methods.values():
        method(steps // 4)  # warm-up
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            found[name].append(1e6 * method(steps) / steps)
    return found


def stage_rows(
    task: str, net: tuple[int, ...], engine: str, iterations: int, episode_steps: int
) -> list[dict[str, float]]:
    """Return the seconds of each stage of QARL's iterations, once both players update, and the steps of each.

    Args:
        task: id, with episodes of full length whatever is done, so that iterations are alike.
        net: of both players.
        engine: of both players.
        iterations: to be timed, after one that is not.
        episode_steps: of each of the five episodes of a phase.
    """
    settings = PlayerSettings(net=net, learning_starts=100, engine=engine, device="cpu", buffer_size=100_000)
    agent = QARL(task, _UNREACHED, settings, episode_steps=episode_steps, seed=0)
    keeper = _Keeper()
    agent.set_logger(Logger(None, [keeper]))
    for _ in range(iterations + 1):
        agent.iterate()
    return [
        {name: row[f"time/{name}"] for name in (*_STAGES, "adversary_steps", "protagonist_steps")}
        for row in keeper.rows[1:]
    ]


class _Keeper(KVWriter):
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        """Nothing is open."""


def _step_seconds(env: Env, steps: int) -> float:
    env.reset(seed=0)
    act = _given(env.action_space)
    started = time.perf_counter()
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(act(None))
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - started


def _given(space: Space[Any]) -> Callable[[Any], Any]:
    """Return a player whose actions are drawn beforehand, over and over."""
    space.seed(0)
    actions = itertools.cycle([space.sample() for _ in range(64)])
    return lambda _observation: next(actions)


def _call_seconds(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - started
