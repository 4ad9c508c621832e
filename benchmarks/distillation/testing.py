"""The attacks at the end of a run, which take hours: stopped at any time, and gone on with test by test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from entroreg.benchmarks.distillation.options import AttackOptions
from entroreg.vision.distillation import accuracies, accuracy, weighted_robust_accuracy
from entroreg.vision.images.data import ImageSet


class Attacks:
    """The tests of a student: its accuracy, and that on attacked images by each attack.

    Args:
        network: on the device to work on.
        test: images.
        eps: radius of the attacks.
        options: which attacks, and how many images each has.
        seed: of the attacks.
    """

    def __init__(self, network: nn.Module, test: ImageSet, eps: float, options: AttackOptions, seed: int) -> None:
        device = next(network.parameters()).device
        self._network, self._eps, self._options, self._seed = network, eps, options, seed
        self._test = ImageSet(test.images.to(device), test.labels.to(device), test.classes)

    def run(
        self,
        found: Mapping[str, Any] | None = None,
        *,
        stop: Callable[[], bool] = lambda: False,
        after: Callable[[dict[str, Any]], None] = lambda _found: None,
    ) -> dict[str, Any] | None:
        """Return the accuracies, clean, on attacked images, and the means of both; None if stopped.

        Args:
            found: by tests that were done before, as ``after`` was told; these are not done again.
            stop: asked before each pass through the network.
            after: called after each test with all that is found by then.
        """
        network = _Stoppable(self._network, stop)
        try:
            so_far = dict(found) if found else self._clean(network)
            for name in self._options.tests:
                if name not in so_far:
                    so_far = self._attacked(network, name, so_far)
                    after(so_far)
        except _Stopped:
            return None
        return so_far

    def _clean(self, network: nn.Module) -> dict[str, Any]:
        clean, images = accuracy(network, self._test), len(self._attackable().labels)
        found: dict[str, Any] = {"clean": clean, "images": images, "test_seconds": {}}
        if "autoattack" in self._options.tests:
            found["autoattack_images"] = min(self._options.autoattack_images, found["images"])
        return found

    def _attacked(self, network: nn.Module, name: Any, found: dict[str, Any]) -> dict[str, Any]:
        part = self._attackable()
        part = part.first(self._options.autoattack_images) if name == "autoattack" else part
        begun = time.perf_counter()
        more = accuracies(network, part, self._eps, attacks=(name,), seed=self._seed)
        seconds = {**found["test_seconds"], name: round(time.perf_counter() - begun, 1)}
        weighted = weighted_robust_accuracy(found["clean"], more[name])
        return {**found, **more, f"weighted_{name}": weighted, "test_seconds": seconds}

    def _attackable(self) -> ImageSet:
        images = self._options.test_images
        return self._test if images is None else self._test.first(images)


class _Stopped(Exception):
    """A stop was asked for in the middle of an attack, which has no other way out."""


class _Stoppable(nn.Module):
    """A network that asks before each pass whether to stop."""

    def __init__(self, network: nn.Module, stop: Callable[[], bool]) -> None:
        super().__init__()
        self._network, self._stop = network, stop

    def forward(self, images: Tensor) -> Tensor:
        if self._stop():
            raise _Stopped
        logits: Tensor = self._network(images)
        return logits
