"""One update of several SAC agents: ``sac_update`` over a leading axis. Shapes: P agents, B batch, A actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from entroreg.agents.engine.engine import signature_of
from entroreg.agents.engine.player import DUAL_METRICS, GivenAlpha, LearnedAlpha
from entroreg.agents.engine.population_stack import Stack
from entroreg.agents.engine.sac_engine import SACEngine
from entroreg.agents.engine.sac_update import METRICS, Batch


class Draw(NamedTuple):
    """What an agent draws for one update: transitions of its replay buffer, and noise (2, B, A)."""

    samples: Any
    noise: Tensor


def draw(agent: Any) -> Draw:
    """Return an agent's next draw, in the order in which it draws alone."""
    samples = agent.replay_buffer.sample(agent.batch_size, env=agent._vec_normalize_env)
    dtype = next(agent.actor.parameters()).dtype
    noise = torch.empty(2, *samples.actions.shape, dtype=dtype, device=agent.device)
    for half in noise:
        half.normal_()
    return Draw(samples, noise)


class PopulationEngine:
    """The update of P agents as one call.

    Parameters, moments, targets and log alphas of the agents become rows of stacked tensors, which the update
    changes in place. Whatever replaces an agent's tensors (a load, ``.double()``) breaks that; it is seen at the
    next update, which stacks anew.

    Args:
        agents: SAC, alike in shapes and kind of controller, with ``Dual`` or ``Fixed`` controllers.
        compiled: whether the update is compiled.
    """

    def __init__(self, agents: Sequence[Any], *, compiled: bool) -> None:
        self._agents = agents
        self._compiled = compiled
        self._updates: dict[tuple[Any, ...], Callable[..., tuple[Tensor, Tensor]]] = {}
        self._stack: Stack | None = None

    @torch.no_grad()
    def update(self, draws: Sequence[Draw], *, move_targets: bool) -> tuple[tuple[str, ...], Tensor]:
        """Update every agent once.

        Args:
            draws: of each agent.
            move_targets: whether the target critics move.

        Returns:
            Names of the metrics, and their values (P, n).

        Raises:
            ValueError: torch cannot compile this policy.
        """
        agents, stack = self._agents, self._stack
        if stack is None or not stack.is_live():
            stack = self._stack = Stack(agents)
        temperature = _temperature(agents, stack)
        constants = stack.constants(move_targets=move_targets)
        inputs = (stack.actor, stack.critic, stack.target, temperature, _batch(agents, draws), constants)
        signature = signature_of(agents[0], draws[0].samples, SACEngine.options)
        update = self._updates.get(signature)
        row, entropy = self._first_call(signature, inputs) if update is None else update(*inputs)
        stack.count_step()
        if isinstance(temperature, LearnedAlpha):
            return (*DUAL_METRICS, *METRICS), row
        own = torch.stack([temperature.alpha.to(row), entropy.mean(dim=(1, 2)).to(row)], dim=1)
        return ("alpha", "entropy", *METRICS), torch.cat([own, row], dim=1)

    def _first_call(self, signature: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        update = _vmapped(self._agents[0])
        result = _compile(update, inputs, self._agents[0].device) if self._compiled else (update, update(*inputs))
        self._updates[signature] = result[0]
        return result[1]


def _temperature(agents: Sequence[Any], stack: Stack) -> LearnedAlpha | GivenAlpha:
    if stack.dual is not None:
        return LearnedAlpha(stack.dual, stack.dual_constants())
    alpha = torch.stack([agent.controller.value for agent in agents])
    return GivenAlpha(alpha, alpha)


def _batch(agents: Sequence[Any], draws: Sequence[Draw]) -> Batch:
    samples = [one.samples for one in draws]
    noise, next_noise = torch.stack([one.noise for one in draws], dim=1)
    discounts = [
        torch.full_like(sample.rewards, agent.gamma) if sample.discounts is None else sample.discounts
        for agent, sample in zip(agents, samples, strict=True)
    ]
    return Batch(
        _stack_any([sample.observations for sample in samples]),
        torch.stack([sample.actions for sample in samples]),
        _stack_any([sample.next_observations for sample in samples]),
        torch.stack([sample.rewards for sample in samples]),
        torch.stack([sample.dones for sample in samples]),
        torch.stack(discounts),
        noise,
        next_noise,
    )


def _stack_any(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: torch.stack([value[name] for value in values]) for name in values[0]}
    return torch.stack(list(values))


def _vmapped(agent: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the update of agents like this one; their own parameters take the place of its modules'."""
    single, _ = SACEngine.pure_update(agent)

    def update(*inputs: Any) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = torch.vmap(single)(*inputs)
        return result

    return update


def _compile(
    update: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Any, ...], device: torch.device
) -> tuple[Callable[..., tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Return an update compiled for some inputs, and its results on them."""
    import torch._inductor.config  # takes seconds

    from entroreg.agents.engine.compiling import COMPILE_ERRORS, compile_update

    compiled = compile_update(update, device)
    # On a CPU torch up to 2.13 gives vectorised loops over agents one buffer for all of them (pytorch 185702).
    with torch._inductor.config.patch({"cpp.simdlen": 1}):
        try:
            return compiled, compiled(*inputs)
        except COMPILE_ERRORS as error:
            reason = " ".join(str(error).split("\n")[:2])
            raise ValueError(f"torch cannot compile this policy ({reason}): use engine='eager'") from error
