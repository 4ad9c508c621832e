"""One method of the speed benchmark in a process of its own: ``python worker.py METHOD THREADS WARMUP``.

Any interpreter runs this file by its path: a peer's needs neither entroreg nor torch, so each method imports what
it needs when it is built. Protocol, one JSON value a line: once the method is warm, the names of its actions; then
for each ``[action, count]`` that arrives, its answer. The worker ends with its input; until then it waits idle.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

Action = Callable[[int], Any]

ENVIRONMENT = "HalfCheetah-v5"
BATCH = 256
HIDDEN = 256
LEARNING_STARTS = 256  # environment steps before the first update; RLtools asks for a batch at least
CAPACITY = 1_000_000  # transitions, the default of Stable-Baselines3
LEARNING_RATE = 3e-4
# What is like Stable-Baselines3's SAC: its module, and what its constructor is given besides.
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "entroreg": ("entroreg.agents", {"engine": "compiled"}),
    "entroreg-eager": ("entroreg.agents", {"engine": "eager"}),
    "sb3": ("stable_baselines3", {}),
    "sbx": ("sbx", {}),
}
STAGES = ("act", "environment", "store", "sample", "update", "rest")
_PACKAGES = (
    "entroreg",
    "torch",
    "stable-baselines3",
    "sbx-rl",
    "jax",
    "jaxlib",
    "rltools",
    "mkl",
    "gymnasium",
    "mujoco",
    "numpy",
)


def main(method: str, threads: int, warmup: int) -> None:
    """Build a method, warm it up, and answer until the input ends."""
    # Libraries print to stdout, also from C: they get stderr, and the protocol a descriptor of its own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # before any library counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    actions = BUILDERS[method](method, threads, warmup)
    answers.write(f"{json.dumps([*actions])}\n")
    for line in sys.stdin:
        action, count = json.loads(line)
        answers.write(f"{json.dumps(actions[action](count))}\n")


def _agent(method: str, threads: int, warmup: int) -> dict[str, Action]:
    import torch
    from stable_baselines3.common.logger import Logger

    torch.set_num_threads(threads)
    module, settings = AGENTS[method]
    agent = importlib.import_module(module).SAC(
        "MlpPolicy",
        ENVIRONMENT,
        learning_rate=LEARNING_RATE,
        buffer_size=CAPACITY,
        learning_starts=LEARNING_STARTS,
        batch_size=BATCH,
        policy_kwargs={"net_arch": [HIDDEN, HIDDEN]},
        seed=0,
        device="cpu",
        **settings,
    )
    agent.set_logger(Logger(folder=None, output_formats=[]))  # else each call of learn makes a folder for logs

    def steps(count: int) -> None:
        agent.learn(count, reset_num_timesteps=False)

    def updates(count: int) -> None:
        for _ in range(count):
            agent.train(gradient_steps=1, batch_size=BATCH)

    steps(LEARNING_STARTS + warmup)
    compile_seconds = getattr(agent, "engine_compile_seconds", None) or None  # 0.0 where nothing was compiled
    if settings.get("engine") == "compiled" and compile_seconds is None:
        raise RuntimeError(f"the engine must be compiled, got {agent.engine_status!r}: mend what it names")
    return {
        "steps": timed(steps),
        "updates": timed(updates),
        "stages": lambda count: stages(agent, steps, count),
        "report": lambda _: report(compile_seconds),
    }


def _rltools(method: str, threads: int, warmup: int) -> dict[str, Action]:
    import gymnasium

    def environment() -> Any:
        env: Any = gymnasium.make(ENVIRONMENT)  # its actions are in [-1, 1] already, as RLtools asks
        env.reset(seed=0)
        return env

    library = importlib.import_module(method).SAC(
        environment,
        enable_evaluation=False,
        interface_name="entroreg",
        ACTOR_BATCH_SIZE=BATCH,
        CRITIC_BATCH_SIZE=BATCH,
        ACTOR_HIDDEN_DIM=HIDDEN,
        CRITIC_HIDDEN_DIM=HIDDEN,
        ACTOR_NUM_LAYERS=3,  # input and output layer count: two hidden layers of units
        CRITIC_NUM_LAYERS=3,
        N_WARMUP_STEPS=LEARNING_STARTS,
        STEP_LIMIT=CAPACITY,  # step() does nothing from there on
        OPTIMIZER_ALPHA=LEARNING_RATE,
        ALPHA=1.0,
    )
    state = library.State(0)

    def steps(count: int) -> None:
        for _ in range(count):
            if state.step():
                raise RuntimeError(f"RLtools must have steps left, got {CAPACITY} taken: measure fewer rounds")

    steps(LEARNING_STARTS + warmup)
    return {"steps": timed(steps), "report": lambda _: report(None)}


def _products(method: str, threads: int, warmup: int) -> dict[str, Action]:
    import torch

    from entroreg.benchmarks.speed.products import products_of_an_update

    torch.set_num_threads(threads)
    updates = products_of_an_update()
    updates(warmup)
    return {"updates": timed(updates), "report": lambda _: report(None)}


BUILDERS: dict[str, Callable[[str, int, int], dict[str, Action]]] = {
    **dict.fromkeys(AGENTS, _agent),
    "rltools": _rltools,
    "gemms": _products,
}


def timed(run: Callable[[int], None]) -> Action:
    """Return an action that runs ``count`` times and answers the seconds, after a tenth of that untimed."""

    def action(count: int) -> float:
        run(max(count // 10, 1))  # the caches hold the data of the worker that ran before
        started = time.perf_counter()
        run(count)
        return time.perf_counter() - started

    return action


def stages(agent: Any, steps: Callable[[int], None], count: int) -> dict[str, float | None]:
    """Run steps with timers in the agent's methods.

    Args:
        agent: with the methods of Stable-Baselines3's off-policy agents.
        steps: runs that many of the agent's steps.
        count: of steps.

    Returns:
        Seconds of each stage without those of stages inside it, and of the rest; None for a method never called.
    """
    seconds: dict[str, float | None] = dict.fromkeys(STAGES)
    inner = [0.0]  # for each timer that runs, and for the whole: the seconds of timers inside it

    def with_timer(stage: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def timer(*args: Any, **kwargs: Any) -> Any:
            inner.append(0.0)
            started = time.perf_counter()
            result = run(*args, **kwargs)
            elapsed = time.perf_counter() - started
            seconds[stage] = (seconds[stage] or 0.0) + elapsed - inner.pop()
            inner[-1] += elapsed
            return result

        return timer

    with ExitStack() as stack:
        for stage, owner, method in (
            ("act", agent, "_sample_action"),
            ("environment", agent.env, "step"),
            ("store", agent, "_store_transition"),
            ("sample", agent.replay_buffer, "sample"),
            ("update", agent, "train"),
        ):
            stack.enter_context(patch.object(owner, method, with_timer(stage, getattr(owner, method))))
        started = time.perf_counter()
        steps(count)
        seconds["rest"] = time.perf_counter() - started - inner[0]
    return seconds


def report(compile_seconds: float | None) -> dict[str, Any]:
    """Return what a worker says of itself: its compile seconds, the most memory it held, and its versions."""
    return {
        "compile_seconds": compile_seconds,
        "peak_memory_mb": round(_peak_memory_mb(), 1),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _peak_memory_mb() -> float:
    try:  # ru_maxrss begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except OSError:
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
