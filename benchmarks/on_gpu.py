"""Figures that need a GPU: ``python -m entroreg.benchmarks.on_gpu token-entropy|sac --out FILE``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entroreg.atomic import write_json
from entroreg.benchmarks.provenance import collect
from entroreg.benchmarks.token_entropy.methods import Method, plain_methods

TOKENS = ((8192, 151_936), (2048, 50_304))  # rows and vocabulary; the first is METHODS' floor
ROUNDS = 15


def token_entropy() -> dict[str, Any]:
    """Time forward, and forward with backward, of both outputs for bfloat16 and float32 logits, methods in turn."""
    methods = {**plain_methods(), "eager-compiled": torch.compile(plain_methods()["eager"])}
    return {
        f"{rows}x{vocabulary}-{str(dtype).removeprefix('torch.')}": _token_task(methods, rows, vocabulary, dtype)
        for rows, vocabulary in TOKENS
        for dtype in (torch.bfloat16, torch.float32)
    }


def _token_task(methods: dict[str, Method], rows: int, vocabulary: int, dtype: torch.dtype) -> dict[str, Any]:
    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn(rows, vocabulary, generator=generator, device="cuda", dtype=dtype).requires_grad_()
    tokens = torch.randint(vocabulary, (rows,), generator=generator, device="cuda")
    found: dict[str, dict[str, list[float]]] = {name: {"forward_ms": [], "both_ms": []} for name in methods}
    errors, peaks = {}, {}
    exact = methods["entroreg"](logits.detach()[:64].double().cpu(), tokens[:64].cpu())
    for turn in range(ROUNDS + 1):
        for name, method in methods.items():
            logits.grad = None
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            forward, outputs = _timed(partial(method, logits, tokens))
            backward, _ = _timed(partial(_backward, outputs))
            if turn == 0:  # not timed: compilation and first allocations
                near = (one[:64].detach().double().cpu() for one in outputs)
                errors[name] = max(float((a - b).abs().max()) for a, b in zip(near, exact, strict=True))
                continue
            found[name]["forward_ms"].append(forward)
            found[name]["both_ms"].append(forward + backward)
            gradient = logits.numel() * logits.element_size()
            peaks[name] = (torch.cuda.max_memory_allocated() - before - gradient) / 2**20
            del outputs
    ours = np.array(found["entroreg"]["both_ms"])
    return {
        name: {
            **{key: _spread(values) for key, values in times.items()},
            "time_over_entroreg": _spread(np.array(times["both_ms"]) / ours),
            "extra_mb": round(peaks[name], 1),
            "largest_error": errors[name],
        }
        for name, times in found.items()
    }


def sac() -> dict[str, Any]:
    """Time SAC's updates on a filled buffer and whole steps on Pendulum-v1, 2 x 256, batch 256, agents in turn."""
    import stable_baselines3

    from entroreg.agents import SAC

    common: dict[str, Any] = {"learning_starts": 300, "buffer_size": 100_000, "device": "cuda", "seed": 0}
    agents: dict[str, Any] = {
        "entroreg": SAC("MlpPolicy", "Pendulum-v1", engine="compiled", **common),
        "entroreg-eager": SAC("MlpPolicy", "Pendulum-v1", engine="eager", **common),
        "sb3": stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", **common),
    }
    found: dict[str, dict[str, list[float]]] = {name: {"updates_ms": [], "steps_ms": []} for name in agents}
    for agent in agents.values():
        agent.learn(500)
    for _ in range(5):
        for name, agent in agents.items():
            found[name]["updates_ms"].append(_seconds(partial(_take_updates, agent, 100)) * 1e3 / 100)
            learn = partial(agent.learn, 100, reset_num_timesteps=False)
            found[name]["steps_ms"].append(_seconds(learn) * 1e3 / 100)
    status = {name: getattr(agent, "engine_status", None) for name, agent in agents.items()}
    times = {name: {key: _spread(values) for key, values in row.items()} for name, row in found.items()}
    return {"engine_status": status, "times": times}


def _take_updates(agent: Any, count: int) -> None:
    for _ in range(count):
        agent.train(gradient_steps=1, batch_size=256)


def _backward(outputs: tuple[Tensor, Tensor]) -> None:
    (outputs[0].float().sum() + outputs[1].float().sum()).backward()  # type: ignore[no-untyped-call]


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the milliseconds that the device took, and what the call returned."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    result = call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end), result


def _seconds(call: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _spread(values: Any) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": float(np.min(values)), "max": float(np.max(values))}


_FIGURES = {"sac": sac, "token-entropy": token_entropy}


def main() -> None:
    """Measure and write a result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=sorted(_FIGURES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("these figures need a CUDA device, found none")
    provenance = collect(["on_gpu.py", options.figure, "--out", options.out.name])
    result = _FIGURES[options.figure]()
    write_json(options.out, {"figure": options.figure, "provenance": provenance, "result": result})


if __name__ == "__main__":
    main()
