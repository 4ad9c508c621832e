"""The engine of an agent: its update, compiled once and called with the tensors that the networks hold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from entroreg.agents.engine.adam import CONSTANTS, AdamState
from entroreg.agents.engine.captured import CapturedUpdates, DeviceTable
from entroreg.agents.engine.sac_update import (
    DUAL_METRICS,
    METRICS,
    Batch,
    GivenAlpha,
    LearnedAlpha,
    Networks,
    Player,
    sac_update,
)
from entroreg.agents.packed_replay import PackedReplayBuffer
from entroreg.agents.random_streams import RandomStreams
from entroreg.controllers import Dual, Fixed
from entroreg.controllers.dual import DualProblem


class CannotCompileError(RuntimeError):
    """Torch cannot compile an update; nothing has been changed."""


# Where parameters stand in their modules: what stands there may be replaced.
_Places: TypeAlias = list[tuple[dict[str, Any], str]]


class _Graph(NamedTuple):
    """A compiled update and the tensors that each call fills anew."""

    update: Callable[..., tuple[Tensor, Tensor]]
    target: _Places
    noise: Tensor
    discounts: Tensor
    constants: Tensor
    dual_constants: Tensor


class Engine:
    """The compiled update of one SAC agent.

    It owns no state of the training: parameters, moments and alpha are the agent's own tensors, so whatever loads,
    copies or edits them needs to tell nobody. What changes from update to update (learning rates, gamma, tau, the
    target entropy) is an input; what shapes the graph (batch, dtypes, controller, networks, threads) is its
    signature, and each signature is compiled once.

    Attributes:
        compile_seconds: time spent in compiling so far.
    """

    def __init__(self) -> None:
        self.compile_seconds = 0.0
        self._graphs: dict[tuple[Any, ...], _Graph] = {}
        self._states: dict[torch.optim.Optimizer, AdamState] = {}
        self._captured: dict[tuple[Any, ...], CapturedUpdates] = {}
        self._tables: dict[Any, DeviceTable] = {}

    def __reduce__(self) -> tuple[type[Engine], tuple[()]]:
        return Engine, ()  # a copy of an agent compiles anew: graphs belong to the networks of one agent

    @torch.no_grad()
    def update(self, agent: Any, samples: Any, *, tau: float) -> tuple[tuple[str, ...], Tensor]:
        """Update an agent once.

        Args:
            agent: SAC, for which ``why_not_sac`` knows no reason.
            samples: of its replay buffer.
            tau: share of the new critics in the targets; 0 leaves them.

        Returns:
            Names of the metrics, and their values (n,).

        Raises:
            CannotCompileError: torch cannot trace or compile this policy.
        """
        signature = _signature(agent, samples)
        graph = self._graphs.get(signature)
        if graph is not None:
            return self._call(graph, agent, samples, tau)
        return self._first_call(signature, agent, samples, tau)

    def _first_call(self, signature: tuple[Any, ...], *arguments: Any) -> tuple[tuple[str, ...], Tensor]:
        from entroreg.agents.engine.compiling import compile_update  # takes seconds to import

        agent, samples, _ = arguments
        graph = _build(agent, samples, compile_update)
        with self._compiling(agent.device):
            result = self._call(graph, *arguments)
        self._graphs[signature] = graph
        return result

    @contextmanager
    def _compiling(self, device: torch.device) -> Iterator[None]:
        """Count the time; where torch cannot compile, put the random numbers back and say so."""
        from entroreg.agents.engine.compiling import COMPILE_ERRORS  # takes seconds to import

        started, before = time.perf_counter(), RandomStreams(device)
        try:
            with warnings.catch_warnings():
                # Of torch about its own code: where warnings are errors they would end the attempt.
                warnings.simplefilter("ignore", DeprecationWarning)
                yield
        except COMPILE_ERRORS as error:
            before.restore()
            raise CannotCompileError(_first_sentence(error)) from error
        self.compile_seconds += time.perf_counter() - started

    def _call(self, graph: _Graph, agent: Any, samples: Any, tau: float) -> tuple[tuple[str, ...], Tensor]:
        actor, critic = self._state(agent.actor.optimizer), self._state(agent.critic.optimizer)
        # In the order of the update's arguments: critic, actor, tau.
        graph.constants.numpy()[:] = (*critic.constants(), *actor.constants(), tau)
        temperature, dual = self._temperature(graph, agent, samples)
        noise, next_noise = graph.noise
        noise.normal_()  # the two draws of Stable-Baselines3, in its order
        next_noise.normal_()
        row, entropy = graph.update(
            _player(actor),
            _player(critic),
            _standing(graph.target),
            temperature,
            Batch(
                samples.observations,
                samples.actions,
                samples.next_observations,
                samples.rewards,
                samples.dones,
                graph.discounts.fill_(agent.gamma) if samples.discounts is None else samples.discounts,
                noise,
                next_noise,
            ),
            graph.constants.to(agent.device, non_blocking=True),
        )
        actor.count_step()
        critic.count_step()
        if dual is not None:
            dual.count_step()
            agent.controller.problem.step += 1
            return (*DUAL_METRICS, *METRICS), row
        with torch.enable_grad():  # a per-state alpha is a network of its own
            metrics = agent._update_controller(entropy, samples.observations)
        own = torch.stack([value.to(row).mean() for value in metrics.values()])
        return (*metrics, *METRICS), torch.cat([own, row])

    @torch.no_grad()
    def launch(self, agent: Any, batch_size: int, taus: Sequence[float]) -> tuple[tuple[str, ...], Tensor]:
        """Take several updates as one captured graph, with batches that the device samples itself.

        Args:
            agent: SAC for which ``can_launch`` holds.
            batch_size: transitions per update.
            taus: for each update the share of the new critics in the targets.

        Returns:
            Names of the metrics, and their values (updates, n) on the device, which has not been waited for.
        """
        dual = isinstance(agent.controller, Dual)
        optimizers = [agent.actor.optimizer, agent.critic.optimizer, *([agent.ent_coef_optimizer] if dual else [])]
        players = [self._state(optimizer) for optimizer in optimizers]
        key = (batch_size, len(taus), agent.replay_buffer, agent.controller, agent.actor, agent.critic_target)
        captured = self._captured.get(key)
        if captured is None or not captured.fits():
            captured = self._captured[key] = self._capture(agent, players, batch_size, len(taus))
        constants = []
        for tau in taus:
            constants.append(_numbers(agent, players, tau))
            for player in players:
                player.count_step()
            if dual:
                agent.controller.problem.step += 1
        rows = captured.launch(constants, agent.gamma)
        return ((*DUAL_METRICS, *METRICS) if dual else METRICS), rows

    def _capture(self, agent: Any, players: list[AdamState], batch_size: int, updates: int) -> CapturedUpdates:
        from entroreg.agents.engine.compiling import compile_update  # takes seconds to import

        buffer = agent.replay_buffer
        table = self._tables.setdefault(buffer, DeviceTable(buffer, agent.device))
        update, target = _pure_update(agent)
        alpha = None if isinstance(agent.controller, Dual) else agent.controller.value
        compiled = compile_update(update, agent.device)
        captured = CapturedUpdates(compiled, players, _standing(target), alpha, table, batch_size, updates)
        with self._compiling(agent.device):
            captured.capture()
        return captured

    def _temperature(
        self, graph: _Graph, agent: Any, samples: Any
    ) -> tuple[LearnedAlpha | GivenAlpha, AdamState | None]:
        controller = agent.controller
        if not isinstance(controller, Dual):
            alpha = agent._alpha_at(samples.observations)
            next_alpha = alpha if alpha.dim() == 0 else agent._alpha_at(samples.next_observations)
            return GivenAlpha(alpha, next_alpha), None
        state = self._state(controller.optimizer)
        graph.dual_constants.numpy()[:] = _dual_numbers(state, controller.problem)
        constants = graph.dual_constants.to(agent.device, non_blocking=True)
        return LearnedAlpha(_player(state), constants), state

    def _state(self, optimizer: torch.optim.Optimizer) -> AdamState:
        state = self._states.get(optimizer)
        if state is None or not state.is_live():
            state = self._states[optimizer] = AdamState(optimizer)
        return state


def can_launch(agent: Any) -> bool:
    """Whether ``Engine.launch`` can take an agent's updates: on a GPU, with plain samples and a simple alpha."""
    return (
        agent.device.type == "cuda"
        and isinstance(agent.replay_buffer, PackedReplayBuffer)
        and agent._vec_normalize_env is None
        and isinstance(agent.controller, Dual | Fixed)
    )


def _pure_update(agent: Any) -> tuple[Callable[..., tuple[Tensor, Tensor]], _Places]:
    """Return the update of an agent, not compiled, and the target parameters in the order that it expects."""
    agent.policy.set_training_mode(True)  # the mode at the first call is the graph's for good
    networks = Networks(
        agent.actor,
        _names(agent.actor),
        agent.critic,
        _names(agent.critic),
        agent.actor.action_dist.epsilon,
    )
    problem = agent.controller.problem if isinstance(agent.controller, Dual) else None
    places = [_place(agent.critic_target, name) for name in networks.critic_names]
    return sac_update(networks, problem, agent.entropy_backup), places


def _place(network: torch.nn.Module, name: str) -> tuple[dict[str, Any], str]:
    module, _, own_name = name.rpartition(".")
    return network.get_submodule(module)._parameters, own_name


def _standing(places: _Places) -> list[Tensor]:
    return [parameters[name] for parameters, name in places]


def _first_sentence(error: Exception) -> str:
    """Return what an error of torch says, without the trace that follows it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _build(agent: Any, samples: Any, compile_update: Callable[..., Any]) -> _Graph:
    update, target = _pure_update(agent)
    dtype = _standing(target)[0].dtype
    dual_dtype = agent.log_ent_coef.dtype if isinstance(agent.controller, Dual) else torch.float32
    batch_size, dimensions = samples.actions.shape
    return _Graph(
        compile_update(update, agent.device),
        target,
        torch.empty(2, batch_size, dimensions, dtype=dtype, device=agent.device),
        torch.empty(batch_size, 1, device=agent.device),
        torch.empty(2 * CONSTANTS + 1, dtype=dtype),
        torch.empty(CONSTANTS + 3, dtype=dual_dtype),
    )


def _numbers(agent: Any, players: Sequence[AdamState], tau: float) -> tuple[float, ...]:
    """Return the numbers of one captured update: Adam's of critics and actor, tau, and the dual's or zeros."""
    actor, critic, *dual = players
    if not dual:
        return (*critic.constants(), *actor.constants(), tau, *([0.0] * (CONSTANTS + 3)))
    return (*critic.constants(), *actor.constants(), tau, *_dual_numbers(dual[0], agent.controller.problem))


def _dual_numbers(state: AdamState, problem: DualProblem) -> tuple[float, ...]:
    return (*state.constants(), problem.current_target(), problem.log_minimum, problem.log_maximum)


def _signature(agent: Any, samples: Any) -> tuple[Any, ...]:
    """Return all that a graph is compiled for. Nothing else checks it, so a forgotten entry is a wrong result."""
    controller = agent.controller
    dual = (controller.problem.loss, controller.problem.bound) if isinstance(controller, Dual) else None
    tensors = []
    for value in samples:
        for tensor in value.values() if isinstance(value, dict) else (value,):
            tensors.append(None if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype))
    return (
        *tensors,
        agent.actor,
        agent.critic,
        agent.critic_target,
        agent.actor.optimizer,
        agent.critic.optimizer,
        agent.actor.optimizer.param_groups[0]["params"][0].dtype,
        type(controller),
        agent.log_ent_coef.dtype if dual else None,
        dual,
        agent.entropy_backup,
        torch.get_num_threads(),
    )


def _names(network: Any) -> tuple[str, ...]:
    """Return the names of a network's parameters in the order of its optimiser."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return tuple(names[id(parameter)] for parameter in network.optimizer.param_groups[0]["params"])


def _player(state: AdamState) -> Player:
    return Player(state.parameters, state.exp_avgs, state.exp_avg_sqs)
