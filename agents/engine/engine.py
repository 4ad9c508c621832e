"""The engine of an agent: its update, compiled once and called with the tensors that the networks hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from entroreg.agents.engine.adam import CONSTANTS, AdamState
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
from entroreg.controllers import Dual


class CannotCompileError(RuntimeError):
    """Torch cannot compile an update; nothing has been changed."""


class _Graph(NamedTuple):
    """A compiled update and the tensors that each call fills anew."""

    update: Callable[..., tuple[Tensor, Tensor]]
    target: list[Tensor]
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
        from entroreg.agents.engine.compiling import COMPILE_ERRORS, compile_update  # takes seconds to import

        started = time.perf_counter()
        agent, samples, _ = arguments
        graph = _build(agent, samples, compile_update)
        try:
            result = self._call(graph, *arguments)
        except COMPILE_ERRORS as error:
            raise CannotCompileError(str(error).strip().partition("\n")[0]) from error
        self._graphs[signature] = graph
        self.compile_seconds += time.perf_counter() - started
        return result

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
            graph.target,
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
        metrics = agent._update_controller(entropy, samples.observations)
        own = torch.stack([value.to(row).mean() for value in metrics.values()])
        return (*metrics, *METRICS), torch.cat([own, row])

    def _temperature(
        self, graph: _Graph, agent: Any, samples: Any
    ) -> tuple[LearnedAlpha | GivenAlpha, AdamState | None]:
        controller = agent.controller
        if not isinstance(controller, Dual):
            alpha = agent._alpha_at(samples.observations)
            next_alpha = alpha if alpha.dim() == 0 else agent._alpha_at(samples.next_observations)
            return GivenAlpha(alpha, next_alpha), None
        state, problem = self._state(controller.optimizer), controller.problem
        bounds = (problem.current_target(), problem.log_minimum, problem.log_maximum)
        graph.dual_constants.numpy()[:] = (*state.constants(), *bounds)
        constants = graph.dual_constants.to(agent.device, non_blocking=True)
        return LearnedAlpha(_player(state), constants), state

    def _state(self, optimizer: torch.optim.Optimizer) -> AdamState:
        state = self._states.get(optimizer)
        if state is None or not state.is_live():
            state = self._states[optimizer] = AdamState(optimizer)
        return state


def _build(agent: Any, samples: Any, compile_update: Callable[..., Any]) -> _Graph:
    problem = agent.controller.problem if isinstance(agent.controller, Dual) else None
    networks = Networks(
        agent.actor,
        _names(agent.actor),
        agent.critic,
        _names(agent.critic),
        agent.actor.action_dist.epsilon,
    )
    update = sac_update(networks, problem, agent.entropy_backup)
    named = dict(agent.critic_target.named_parameters())
    target = [named[name] for name in networks.critic_names]
    batch_size, dimensions = samples.actions.shape
    return _Graph(
        compile_update(update, agent.device),
        target,
        torch.empty(2, batch_size, dimensions, dtype=target[0].dtype, device=agent.device),
        torch.empty(batch_size, 1, device=agent.device),
        torch.empty(2 * CONSTANTS + 1, dtype=target[0].dtype),
        torch.empty(CONSTANTS + 3, dtype=torch.float32 if problem is None else agent.log_ent_coef.dtype),
    )


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
