"""Time and memory of the methods: forward and backward of both outputs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from entroreg.benchmarks import memory
from entroreg.benchmarks.token_entropy.methods import Method, fused_methods, plain_methods


class Task(NamedTuple):
    """What is computed: N tokens of V words, from logits or from D hidden numbers."""

    tokens: int
    vocabulary: int
    dtype: str
    hidden: int | None = None

    def methods(self) -> dict[str, Method]:
        """Return the methods that can do it."""
        return plain_methods() if self.hidden is None else fused_methods()

    def inputs(self) -> tuple[Tensor, ...]:
        """Return new inputs: the ones that need gradients, then the tokens."""
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.vocabulary, (self.tokens,), generator=generator)
        shapes = [(self.tokens, self.vocabulary)]
        if self.hidden is not None:
            shapes = [(self.tokens, self.hidden), (self.vocabulary, self.hidden)]
        leaves = [torch.randn(shape, generator=generator) for shape in shapes]
        if self.hidden is not None:
            leaves[1] /= self.hidden**0.5  # logits of a size near 1
        dtype: torch.dtype = getattr(torch, self.dtype)
        return (*(leaf.to(dtype).requires_grad_(True) for leaf in leaves), tokens)


def rounds_of(task: Task, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Return the seconds of each method in each round, in turn, after one round that is not counted."""
    inputs, methods = task.inputs(), task.methods()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    for turn in range(rounds + 1):
        for name, method in methods.items():
            seconds = _seconds(method, inputs)
            if turn:
                found[name].append(seconds)
    return found


def largest_errors(task: Task) -> dict[str, float]:
    """Return each method's largest difference from float64 in either output, on the first 32 tokens."""
    small = task._replace(tokens=min(task.tokens, 32))
    *leaves, tokens = small.inputs()
    exact = small.methods()["entroreg"](*(leaf.detach().double() for leaf in leaves), tokens)
    errors = {}
    for name, method in small.methods().items():
        outputs = method(*leaves, tokens)
        pairs = zip(outputs, exact, strict=True)
        errors[name] = max(float((one.detach().double() - other).abs().max()) for one, other in pairs)
    return errors


def peak_megabytes(task: Task, method: str, threads: int) -> float:
    """Return the peak of forward and backward beyond inputs and gradients, in MiB, in a process of its own."""
    asked = json.dumps([*task, method, threads])
    done = subprocess.run(
        [sys.executable, "-m", __name__, asked], capture_output=True, text=True, check=True, timeout=600
    )
    return float(done.stdout.split()[-1])


def _seconds(method: Method, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    for leaf in inputs[:-1]:
        leaf.grad = None
    started = time.perf_counter()
    log_probs, entropy = method(*inputs)
    between = time.perf_counter()
    (log_probs.float().sum() + 0.1 * entropy.float().sum()).backward()  # type: ignore[no-untyped-call]
    return {"forward": between - started, "both": time.perf_counter() - started}


def _measure_peak(arguments: list[Any]) -> float:
    *fields, name, threads = arguments
    torch.set_num_threads(threads)
    task = Task(*fields)
    method = task.methods()[name]
    warm = task._replace(tokens=2, vocabulary=16).inputs()
    _seconds(method, warm)
    inputs = task.inputs()
    for leaf in inputs[:-1]:
        leaf.grad = torch.zeros_like(leaf).add_(1.0)  # its memory belongs to every method: it is not counted
    before = memory.resident_megabytes()
    memory.reset_peak()
    kept = [leaf.grad for leaf in inputs[:-1]]
    _seconds(method, inputs)
    gradients = sum(grad.numel() * grad.element_size() for grad in kept if grad is not None) / 2**20
    return memory.peak_megabytes() - before - gradients


if __name__ == "__main__":
    print(_measure_peak(json.loads(sys.argv[1])))
