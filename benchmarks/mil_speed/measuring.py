"""Steps timed in turn, and the peak memory of one bag's step in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from entroreg import EntropyRegularizer, Fixed
from entroreg.benchmarks import memory
from entroreg.benchmarks.mil_speed.methods import WEIGHT, gemms, steps
from entroreg.vision.mil import ABMIL, AttentionEntropy, pack

FLOOR = "gemms"


class Bags(NamedTuple):
    """What is trained on: bags of about ``size`` instances with ``features`` numbers each.

    ``spread`` is the standard deviation of the logarithm of a bag's size, and sizes stay within a factor of seven.
    """

    bags: int
    size: int
    spread: float
    features: int
    hidden: int

    def draw(self) -> tuple[list[Tensor], Tensor]:
        """Return the bags and their labels."""
        rng = np.random.default_rng(0)
        factors = np.exp(rng.normal(0.0, self.spread, self.bags)).clip(1 / 7, 7)
        sizes = np.maximum(1, np.round(self.size * factors / factors.mean())).astype(int)
        generator = torch.Generator().manual_seed(0)
        bags = [torch.randn(size, self.features, generator=generator) for size in sizes.tolist()]
        return bags, torch.randint(2, (self.bags,), generator=generator)


def rounds_of(task: Bags, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return each method's seconds in each round, in turn, and its gradient's largest difference from the loop's.

    Args:
        task: what is trained on.
        rounds: that count; one before them does not.
    """
    bags, labels = task.draw()
    methods = steps(bags, labels, task.hidden)
    turns = {name: step for name, (_, step) in methods.items()} | {FLOOR: gemms(bags, task.hidden)}
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        for name, step in turns.items():
            started = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    reference = _gradient(methods["loop"][0])
    same = {name: model for name, (model, _) in methods.items() if isinstance(model, ABMIL)}
    return seconds, {name: float((_gradient(model) - reference).abs().max()) for name, model in same.items()}


def _gradient(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def bag_step(instances: int, features: int, hidden: int, chunk_size: int | None, threads: int) -> dict[str, float]:
    """Return seconds and peak memory of training steps on one bag, measured in a process of its own.

    Args:
        instances: of the bag.
        features: of an instance.
        hidden: width of the trunk.
        chunk_size: of a streaming model; None does not stream.
        threads: of torch.

    Returns:
        ``extra_mb``, the peak above the features; ``features_mb``; ``seconds`` of the faster of two steps.
    """
    asked = json.dumps([instances, features, hidden, chunk_size, threads])
    done = subprocess.run(
        [sys.executable, "-m", __name__, asked], capture_output=True, text=True, check=True, timeout=3600
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(arguments: list[Any]) -> dict[str, float]:
    instances, features, hidden, chunk_size, threads = arguments
    torch.set_num_threads(threads)
    model = ABMIL(features, 2, hidden=hidden, chunk_size=chunk_size)
    aem = AttentionEntropy(EntropyRegularizer(Fixed(WEIGHT), sign="maximize"))
    optimizer = torch.optim.AdamW(model.parameters())

    def step(bag: Tensor) -> None:
        packed = pack([bag])
        output = model(packed)
        loss = model.bag_losses(output, torch.tensor([1])).mean() + aem(output, packed).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step(torch.randn(min(instances, 64), features))
    bag = torch.randn(instances, features)
    before = memory.resident_megabytes()
    memory.reset_peak()
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        step(bag)
        seconds.append(time.perf_counter() - started)
    size = bag.numel() * bag.element_size() / 2**20
    return {"extra_mb": memory.peak_megabytes() - before, "features_mb": size, "seconds": min(seconds)}


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
