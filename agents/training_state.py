"""All that the training of an agent goes on from, between two rollouts, but for the rows of its replay buffer."""

from __future__ import annotations

from typing import Any

from entroreg.agents.agent_checkpoint import learned_state, load_learned_state
from entroreg.agents.discrete_sac import DiscreteSAC
from entroreg.agents.random_streams import RandomStreams
from entroreg.agents.replay_tables import ReplayTables
from entroreg.agents.sac import SAC
from entroreg.envs.saving import environment_state, load_environment_state

# Those of Stable-Baselines3 and ours that change while it trains, and which a later step reads.
_COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_last_obs",
    "_last_original_obs",
    "ep_info_buffer",
    "ep_success_buffer",
    "engine_starts",
)
_LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
_NOISE = ("exploration_mat", "exploration_matrices")  # of gSDE, drawn before a rollout


def training_state(agent: SAC | DiscreteSAC, replay: ReplayTables) -> dict[str, Any]:
    """Return the state of a training as a tree of plain data and tensors, for ``split_state``.

    Args:
        agent: between two rollouts.
        replay: of its buffer, whose rows are not in the tree.

    Raises:
        CannotSaveError: the environment is not one whose state can be seen, or not where it can be saved.
        FloatingPointError: what was learned became NaN or infinite.
    """
    agent.require_finite_state()
    distribution = getattr(agent.actor, "action_dist", None)
    return {
        "learned": learned_state(agent),
        "entropy_watch": agent.entropy_watch.state_dict(),
        "counters": {name: getattr(agent, name) for name in _COUNTERS},
        "environment": environment_state(_surroundings(agent, replay)),
        "exploration": {name: getattr(distribution, name) for name in _NOISE if hasattr(distribution, name)},
        "logged": {name: dict(getattr(agent.logger, name)) for name in _LOGGED},
        "random": RandomStreams(agent.device).state_dict(),
    }


def load_training_state(agent: SAC | DiscreteSAC, replay: ReplayTables, state: dict[str, Any]) -> None:
    """Put a state into an agent of the same settings, which trains on exactly from there.

    Args:
        agent: set up with an environment like the saved one, at the same place in ``learn`` as the saved one.
        replay: of its buffer, with the rows already loaded.
        state: from ``training_state``.

    Raises:
        ValueError: the agent or the environment is another one.
    """
    load_learned_state(agent, state["learned"])
    agent.entropy_watch.load_state_dict(state["entropy_watch"])
    for name, value in state["counters"].items():
        setattr(agent, name, value)
    surroundings = _surroundings(agent, replay)
    load_environment_state(surroundings, state["environment"])
    replay.load_attributes(vars(surroundings.replay))
    for name, value in state["exploration"].items():
        setattr(agent.actor.action_dist, name, value.to(agent.device))
    for name, value in state["logged"].items():
        getattr(agent.logger, name).clear()
        getattr(agent.logger, name).update(value)
    agent.refresh_actor()
    streams = RandomStreams(agent.device)
    streams.load_state_dict(state["random"])
    streams.restore()  # last: whatever was drawn above does not count


class _Parts:
    """Objects by name."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


def _surroundings(agent: SAC | DiscreteSAC, replay: ReplayTables) -> Any:
    """Return what an agent steps in, draws from and fills, as one, since they share objects."""
    filled = _Parts(**replay.attributes())
    return _Parts(env=agent.env, action_space=agent.action_space, action_noise=agent.action_noise, replay=filled)
