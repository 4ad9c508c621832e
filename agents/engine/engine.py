"""The engine of an agent: its update, compiled once and called with the tensors that the networks hold."""

from __future__ import annotations

import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor

from entroreg.agents.engine.adam import CONSTANTS, AdamState
from entroreg.agents.engine.player import DUAL_METRICS, GivenAlpha, LearnedAlpha, Player
from entroreg.agents.random_streams import RandomStreams
from entroreg.controllers import Dual
from entroreg.controllers.dual import DualProblem

PureUpdate: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
# Where parameters stand in their modules: what stands there may be replaced.
Places: TypeAlias = list[tuple[dict[str, Any], str]]


class CannotCompileError(RuntimeError):
    """Torch cannot compile an update; nothing has been changed."""


class Graph(NamedTuple):
    """A compiled update and the tensors that each call fills anew."""

    update: PureUpdate
    target: Places
    noise: Tensor
    discounts: Tensor
    constants: Tensor
    dual_constants: Tensor


class Engine(ABC):
    """The compiled update of one agent.

    It owns no state of the training: parameters, moments and alpha are the agent's own tensors, so whatever loads,
    copies or edits them needs to tell nobody. What changes from update to update (learning rates, gamma, tau, the
    target entropy) is an input; what shapes the graph (batch, dtypes, controller, networks, options, threads) is
    its signature, and each signature is compiled once.

    Attributes:
        compile_seconds: time spent in compiling so far.
    """

    metrics: ClassVar[tuple[str, ...]]
    """Of an update, without those of a learned alpha."""
    options: ClassVar[tuple[str, ...]]
    """Attributes of an agent that shape its update."""

    def __init__(self) -> None:
        self.compile_seconds = 0.0
        self._graphs: dict[tuple[Any, ...], Graph] = {}
        self._states: dict[torch.optim.Optimizer, AdamState] = {}

    def __reduce__(self) -> tuple[type[Engine], tuple[()]]:
        return type(self), ()  # a copy of an agent compiles anew: graphs belong to the networks of one agent

    @staticmethod
    @abstractmethod
    def pure_update(agent: Any) -> tuple[PureUpdate, Places]:
        """Return an agent's update, not compiled, and where the target parameters stand, in its order."""

    @abstractmethod
    def _batch(self, graph: Graph, samples: Any, discounts: Tensor) -> Any:
        """Return the batch that the update takes, with noise drawn where it needs some."""

    @torch.no_grad()
    def update(self, agent: Any, samples: Any, *, tau: float) -> tuple[tuple[str, ...], Tensor]:
        """Update an agent once.

        Args:
            agent: one for which ``eligibility`` knows no reason.
            samples: of its replay buffer.
            tau: share of the new networks in the targets; 0 leaves them.

        Returns:
            Names of the metrics, and their values (n,).

        Raises:
            CannotCompileError: torch cannot trace or compile this policy.
        """
        signature = signature_of(agent, samples, self.options)
        graph = self._graphs.get(signature)
        if graph is not None:
            return self._call(graph, agent, samples, tau)
        graph = self._build(agent, samples)
        with self._compiling(agent.device):
            result = self._call(graph, agent, samples, tau)
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
                warnings.simplefilter("ignore", UserWarning)  # such as advice on TensorFloat32
                yield
        except COMPILE_ERRORS as error:
            before.restore()
            raise CannotCompileError(_first_sentence(error)) from error
        self.compile_seconds += time.perf_counter() - started

    def _build(self, agent: Any, samples: Any) -> Graph:
        from entroreg.agents.engine.compiling import compile_update  # takes seconds to import

        agent.policy.set_training_mode(True)  # the mode at the first call is the graph's for good
        update, target = self.pure_update(agent)
        dtype = standing(target)[0].dtype
        dual_dtype = agent.log_ent_coef.dtype if isinstance(agent.controller, Dual) else torch.float32
        return Graph(
            compile_update(update, agent.device),
            target,
            torch.empty(2, *samples.actions.shape, dtype=dtype, device=agent.device),
            torch.empty(len(samples.actions), 1, device=agent.device),
            torch.empty(2 * CONSTANTS + 1, dtype=dtype),
            torch.empty(CONSTANTS + 3, dtype=dual_dtype),
        )

    def _call(self, graph: Graph, agent: Any, samples: Any, tau: float) -> tuple[tuple[str, ...], Tensor]:
        actor, critic = self._state(agent.actor.optimizer), self._state(agent.critic.optimizer)
        # In the order of the update's arguments: critic, actor, tau.
        graph.constants.numpy()[:] = (*critic.constants(), *actor.constants(), tau)
        temperature, dual = self._temperature(graph, agent, samples)
        discounts = graph.discounts.fill_(agent.gamma) if samples.discounts is None else samples.discounts
        row, entropy = graph.update(
            player_of(actor),
            player_of(critic),
            standing(graph.target),
            temperature,
            self._batch(graph, samples, discounts),
            graph.constants.to(agent.device, non_blocking=True),
        )
        actor.count_step()
        critic.count_step()
        if dual is not None:
            dual.count_step()
            agent.controller.problem.step += 1
            return (*DUAL_METRICS, *self.metrics), row
        with torch.enable_grad():  # a per-state alpha is a network of its own
            metrics = agent._update_controller(entropy, samples.observations)
        own = torch.stack([value.to(row).mean() for value in metrics.values()])
        return (*metrics, *self.metrics), torch.cat([own, row])

    def _temperature(
        self, graph: Graph, agent: Any, samples: Any
    ) -> tuple[LearnedAlpha | GivenAlpha, AdamState | None]:
        controller = agent.controller
        if not isinstance(controller, Dual):
            alpha = agent._alpha_at(samples.observations)
            next_alpha = alpha if alpha.dim() == 0 else agent._alpha_at(samples.next_observations)
            return GivenAlpha(alpha, next_alpha), None
        state = self._state(controller.optimizer)
        graph.dual_constants.numpy()[:] = dual_numbers(state, controller.problem)
        constants = graph.dual_constants.to(agent.device, non_blocking=True)
        return LearnedAlpha(player_of(state), constants), state

    def _state(self, optimizer: torch.optim.Optimizer) -> AdamState:
        state = self._states.get(optimizer)
        if state is None or not state.is_live():
            state = self._states[optimizer] = AdamState(optimizer)
        return state


def problem_of(agent: Any) -> DualProblem | None:
    """Return the problem of a learned alpha."""
    return agent.controller.problem if isinstance(agent.controller, Dual) else None


def place_of(network: torch.nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Return where a parameter stands in its module."""
    module, _, own_name = name.rpartition(".")
    return network.get_submodule(module)._parameters, own_name


def standing(places: Places) -> list[Tensor]:
    """Return the parameters that stand in these places now."""
    return [parameters[name] for parameters, name in places]


def dual_numbers(state: AdamState, problem: DualProblem) -> tuple[float, ...]:
    """Return the numbers (9,) of a step of log alpha: Adam's, the target, the clamps."""
    return (*state.constants(), problem.current_target(), problem.log_minimum, problem.log_maximum)


def player_of(state: AdamState) -> Player:
    """Return the tensors that an update changes."""
    return Player(state.parameters, state.exp_avgs, state.exp_avg_sqs)


def signature_of(agent: Any, samples: Any, options: Sequence[str]) -> tuple[Any, ...]:
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
        *(getattr(agent, name) for name in options),
        torch.get_num_threads(),
    )


def names_of(network: Any) -> tuple[str, ...]:
    """Return the names of a network's parameters in the order of its optimiser."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return tuple(names[id(parameter)] for parameter in network.optimizer.param_groups[0]["params"])


def _first_sentence(error: Exception) -> str:
    """Return what an error of torch says, without the trace that follows it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
