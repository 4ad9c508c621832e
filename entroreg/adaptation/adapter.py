"""One loop for adaptation at test time: measure uncertainty on the inputs at hand, step it down, predict."""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from entroreg import _checks

__all__ = ["AdaptationReport", "AdaptationWarning", "Adapter", "Selection"]

Objective = Callable[[Any], Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
_KEPT_AVERAGE = 0.9  # SAR's share of the old average of the objective


class AdaptationWarning(UserWarning):
    """A step made a parameter NaN or infinite and was taken back."""


class Selection(Protocol):
    """Weights of samples, such as `ReliableAndDiverse`, with a state that resets and resumes."""

    def __call__(self, output: Any, entropy: Tensor) -> Tensor:
        """Return detached weights (B,), 0 for a sample that is left out."""

    def reset(self) -> None:
        """Forget all samples."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""


@dataclass(frozen=True)
class AdaptationReport:
    """What one call of `Adapter.adapt` did."""

    output: Any
    """The model's output for the inputs: before the step, or after it where the adapter predicts after."""
    objective: Tensor
    """The objective of each sample in the first step, (B,), detached, before it."""
    kept: int
    """How many samples the last step was taken on; 0 where none was taken."""
    was_reset: bool
    """Whether the average objective fell below ``collapse`` and the model went back to its source."""
    rolled_back: bool
    """Whether a step made something NaN or infinite and was taken back."""


class Adapter:
    r"""A model that adapts chosen parameters to each input by gradient steps on an objective without labels.

    $$\theta \leftarrow \theta - \eta\, \nabla_\theta \Big[ \frac{1}{|kept|} \sum_{b \in kept} w_b\, h_b(\theta) +
      R(\theta) \Big]$$

    Nothing else of the model changes, nor does ``requires_grad`` of other parameters. The model stays in the mode
    that it is in; in evaluation mode the same inputs give the same steps.

    Args:
        model: in the state to which resets return.
        objective: from the model's output to a value for each sample, (B,), which is minimised; any measure.
        parameters: what is adapted, by name: `module_parameters` or `normalisation_parameters`.
        optimizer: makes an optimiser of parameters, such as ``partial(torch.optim.SGD, lr=1e-3)``.
        steps: gradient steps for each input, from 1.
        buffer: how many of the last inputs the objective is averaged over, from 1; they are joined along dim 0.
        restart: whether each input begins from the source again.
        predict_after: whether the output is computed again after the step.
        views: from inputs to what is adapted on, such as augmentations; the output is always that of the inputs.
        select: weights of samples; all weigh 1 if None.
        anchor: a penalty added to the objective, such as `FisherAnchor`.
        sharpness: rho of a sharpness-aware step; 0 takes a plain one.
        collapse: the model is reset where the objective's running average falls below it; never if None.

    Raises:
        TypeError: a number of another kind.
        ValueError: no parameter, one that is not the model's, or a number out of its range.

    Example:
        >>> from entroreg.adaptation import module_parameters
        >>> from entroreg.measures import categorical_entropy
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> sgd = partial(torch.optim.SGD, lr=1.0)
        >>> adapter = Adapter(model, categorical_entropy, module_parameters(model, ["0"]), optimizer=sgd, steps=5)
        >>> inputs = torch.tensor([[1.0, -1.0]])
        >>> before = adapter.adapt(inputs).objective
        >>> bool(categorical_entropy(model(inputs)) < before)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: Mapping[str, nn.Parameter],
        *,
        optimizer: MakeOptimizer,
        steps: int = 1,
        buffer: int = 1,
        restart: bool = False,
        predict_after: bool = False,
        views: Callable[[Any], Any] | None = None,
        select: Selection | None = None,
        anchor: Callable[[], Tensor] | None = None,
        sharpness: float = 0.0,
        collapse: float | None = None,
    ) -> None:
        _require_own(model, parameters)
        self.model, self.objective = model, objective
        self.names, self._parameters = list(parameters), list(parameters.values())
        self.steps = int(_checks.require_number("steps", steps, low=1))
        self.restart, self.predict_after = restart, predict_after
        self._views, self._select, self._anchor = views, select, anchor
        self.sharpness = _checks.require_number("sharpness", sharpness, low=0.0)
        self.collapse = None if collapse is None else _checks.require_number("collapse", collapse)
        self._inputs: deque[Any] = deque(maxlen=int(_checks.require_number("buffer", buffer, low=1)))
        self._average: float | None = None
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        self.optimizer = optimizer(self._parameters)
        self._source = self._snapshot()

    def adapt(self, inputs: Any) -> AdaptationReport:
        """Take the steps on new inputs and return the model's output with what was done.

        Args:
            inputs: what the model takes.

        Raises:
            ValueError: the objective has no gradient, or is not one value for each sample.
        """
        if self.restart:
            self._restore(self._source)
        self._inputs.append(inputs if self._views is None else self._views(inputs))
        batch = self._inputs[0] if len(self._inputs) == 1 else torch.cat(list(self._inputs))
        before: tuple[Any, Tensor] | None = None
        kept, rolled_back = 0, False
        for _ in range(self.steps):
            held = self._snapshot()
            output, objective, kept = self._step(batch)
            before = before or (output, objective)
            if not self._is_finite():
                self._restore(held)
                warnings.warn(
                    f"a step on an objective of {float(objective.mean()):.4g} made a parameter NaN or infinite "
                    "and was taken back: lower the learning rate, or look at the inputs",
                    AdaptationWarning,
                    stacklevel=2,
                )
                kept, rolled_back = 0, True
                break
        assert before is not None  # there is at least one step
        # The first output is of the views, or of past inputs too.
        again = self.predict_after or self._views is not None or len(self._inputs) > 1
        return AdaptationReport(
            output=self._predict(inputs) if again else before[0],
            objective=before[1],
            kept=kept,
            was_reset=self._reset_if_collapsed(),
            rolled_back=rolled_back,
        )

    def reset(self) -> None:
        """Go back to the source: parameters, optimiser, past inputs, selection and average."""
        self._restore(self._source)
        self._inputs.clear()
        self._average = None
        if self._select is not None:
            self._select.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return all that later steps depend on; the source is the model at construction and is not part of it."""
        parameters, optimizer = self._snapshot()
        return {
            "parameters": dict(zip(self.names, parameters, strict=True)),
            "optimizer": optimizer,
            "inputs": list(self._inputs),
            "average": self._average,
            "select": None if self._select is None else self._select.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: a key is missing or unknown, or the parameters are others.
        """
        _checks.require_keys("state of Adapter", state, ("parameters", "optimizer", "inputs", "average", "select"))
        _checks.require_keys("parameters of Adapter", state["parameters"], self.names)
        self._restore(([state["parameters"][name] for name in self.names], state["optimizer"]))
        self._inputs.clear()
        self._inputs.extend(state["inputs"])
        self._average = state["average"]
        if self._select is not None:
            self._select.load_state_dict(state["select"])

    def _step(self, batch: Any) -> tuple[Any, Tensor, int]:
        """Take one step; return the output and the objective before it, and how many samples it was taken on."""
        with torch.enable_grad():
            output, objective, weights = self._measure(batch)
            before = _detached(output), objective.detach()
            if not bool((weights > 0).any()):
                return *before, 0
            grads = self._grads(objective, weights)
            if self.sharpness:
                with self._climbed(grads):
                    _, objective, again = self._measure(batch)
                    weights = weights * again  # a sample counts if it is selected at both places
                    if not bool((weights > 0).any()):
                        return *before, 0
                    grads = self._grads(objective, weights)
        self._follow(objective.detach(), weights)
        for parameter, grad in zip(self._parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizer.step()
        self.optimizer.zero_grad()
        return *before, int((weights > 0).sum())

    def _measure(self, batch: Any) -> tuple[Any, Tensor, Tensor]:
        output = self.model(batch)
        objective = self.objective(output)
        _require_objective(objective)
        weights = torch.ones_like(objective) if self._select is None else self._select(output, objective)
        return output, objective, weights.detach()

    def _grads(self, objective: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        kept = weights > 0
        # where, not a product alone: a sample left out because it is infinite must not make 0 x inf.
        loss = torch.where(kept, weights * objective, 0.0).sum() / kept.sum()
        if self._anchor is not None:
            loss = loss + self._anchor()
        grads: tuple[Tensor, ...] = torch.autograd.grad(loss, self._parameters)
        return grads

    @contextmanager
    def _climbed(self, grads: Sequence[Tensor]) -> Iterator[None]:
        """Move to where the objective is highest within ``sharpness``, to first order, and back."""
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        scale = self.sharpness / torch.where(norm > 0, norm, 1.0)
        here = [parameter.detach().clone() for parameter in self._parameters]
        with torch.no_grad():
            for parameter, grad in zip(self._parameters, grads, strict=True):
                parameter.add_(scale * grad)
        try:
            yield
        finally:
            _write(self._parameters, here)

    def _follow(self, objective: Tensor, weights: Tensor) -> None:
        value = float(objective[weights > 0].mean())
        old = self._average
        self._average = value if old is None else _KEPT_AVERAGE * old + (1.0 - _KEPT_AVERAGE) * value

    def _reset_if_collapsed(self) -> bool:
        if self.collapse is None or self._average is None or self._average >= self.collapse:
            return False
        self.reset()
        return True

    def _predict(self, inputs: Any) -> Any:
        with torch.no_grad():
            return self.model(inputs)

    def _snapshot(self) -> tuple[list[Tensor], dict[str, Any]]:
        parameters = [parameter.detach().clone() for parameter in self._parameters]
        return parameters, copy.deepcopy(self.optimizer.state_dict())

    def _restore(self, snapshot: tuple[list[Tensor], dict[str, Any]]) -> None:
        parameters, optimizer = snapshot
        _write(self._parameters, parameters)
        self.optimizer.load_state_dict(copy.deepcopy(optimizer))  # torch keeps the given moments

    def _is_finite(self) -> bool:
        moments = [v for state in self.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        return all(bool(tensor.isfinite().all()) for tensor in (*self._parameters, *moments))


def _write(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def _detached(output: Any) -> Any:
    """Return the output without its graph: a tensor, or a tuple or dict of them."""
    return tree_map_only(Tensor, Tensor.detach, output)


def _require_own(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
    if not parameters:
        raise ValueError("parameters must name at least one, got none: use module_parameters")
    own = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if own.get(name) is not parameter:
            raise ValueError(f"parameter {name!r} must be the model's: use module_parameters of this model")


def _require_objective(objective: object) -> None:
    if not isinstance(objective, Tensor) or objective.dim() != 1:
        got = tuple(objective.shape) if isinstance(objective, Tensor) else type(objective).__name__
        raise ValueError(f"the objective must return a value for each sample, (B,), got {got}")
    if not objective.requires_grad:
        raise ValueError(
            "the objective must have a gradient with respect to the adapted parameters, got none: group_entropy "
            'with agg="count" has none, nor has a model that runs under torch.no_grad'
        )
