"""Attention logits out of any model, without changing it: a hook on the layer that gives them."""

from __future__ import annotations

import difflib
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from entroreg import _checks
from entroreg.vision.mil.adapters.rows import LAYOUTS, attention_rows


class AttentionTap:
    """Captures what one submodule returns in the model's latest forward pass: attention logits.

    The logits keep their graph, so an entropy term on them trains the model. Every forward pass of the model
    forgets the one before; if the submodule runs several times in a pass, the last one counts.

    Args:
        model: any module.
        module_name: of the submodule as ``model.named_modules()`` gives it, such as "attention.2"; the layer
            before the softmax.

    Raises:
        ValueError: the model has no submodule of that name.

    Example:
        >>> from entroreg import EntropyRegularizer, Fixed
        >>> from entroreg.measures import categorical_entropy
        >>> class Pooling(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scores, self.head = torch.nn.Linear(8, 1), torch.nn.Linear(8, 2)
        ...     def forward(self, bag):
        ...         return self.head((self.scores(bag).softmax(0) * bag).sum(0))
        >>> model, bag = Pooling(), torch.zeros(5, 8)
        >>> aem = EntropyRegularizer(Fixed(0.1), sign="maximize")
        >>> with AttentionTap(model, "scores") as tap:
        ...     logits = model(bag)
        ...     term = aem(categorical_entropy(tap.logits(layout="instances_first")))
        >>> (torch.nn.functional.cross_entropy(logits, torch.tensor(1)) + term.loss).backward()
        >>> term.entropy
        tensor(1.6094)
    """

    def __init__(self, model: nn.Module, module_name: str) -> None:
        modules = {name: module for name, module in model.named_modules() if name}
        if module_name not in modules:
            close = difflib.get_close_matches(module_name, modules, n=3, cutoff=0.0)
            raise ValueError(
                f"module_name must be a submodule of {type(model).__name__}, got {module_name!r}: "
                f"the nearest are {close}"
            )
        self.module_name = module_name
        self._model = model
        self._module = modules[module_name]
        self._handles: list[RemovableHandle] = []
        self._captured: Any = None

    def __enter__(self) -> AttentionTap:
        """Put the hooks in place."""
        if self._handles:
            raise RuntimeError("AttentionTap is in use already: leave its with block before entering it again")
        self._handles = [
            self._model.register_forward_pre_hook(self._forget),
            self._module.register_forward_hook(self._capture),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the hooks; what was captured last can still be read."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def logits(self, *, layout: str, validate: bool = False) -> Tensor:
        """Return (K, N), the attention logits of the latest forward pass, a row for each head, class or branch.

        Args:
            layout: how the submodule lays them out, as in `attention_rows`.
            validate: read the values and refuse NaN, and rows that are probabilities already; costs a device sync.

        Returns:
            (K, N) with its graph; with "bags_first" (B, N).

        Raises:
            RuntimeError: no forward pass has run the submodule.
            TypeError: the submodule returned no floating tensor.
            ValueError: another layout or shape, several bags at once, or what ``validate`` refuses.
        """
        _checks.require_choice("layout", layout, LAYOUTS)
        captured = self._captured
        if captured is None:
            raise RuntimeError(
                f"nothing was captured from {self.module_name!r}: call the model inside the with block, "
                "and name a submodule that its forward pass calls"
            )
        if not isinstance(captured, Tensor):
            inside = [f"{self.module_name}.{name}" for name, _ in self._module.named_children()]
            raise TypeError(
                f"{self.module_name!r} must return a tensor, got {type(captured).__name__}: "
                f"name the layer that gives the logits, inside it: {inside}"
            )
        return attention_rows(
            captured, layout=layout, validate=validate, name=f"the output of {self.module_name!r}"
        )

    def _forget(self, _module: nn.Module, _inputs: Any) -> None:
        self._captured = None

    def _capture(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._captured = output
