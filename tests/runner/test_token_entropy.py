"""Suite token-entropy: its methods agree, its memory is real, its summary says it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from entroreg.benchmarks.bench import as_text
from entroreg.benchmarks.token_entropy import methods
from entroreg.benchmarks.token_entropy.measuring import Task, largest_errors, peak_megabytes, rounds_of


@pytest.mark.slow
def test_a_whole_run(smoke: Callable[[str], dict[str, Any]]) -> None:
    summary = smoke("token-entropy")
    assert [cell["task"] for cell in summary["cells"]] == ["64x1k-float32", "fused-64x1kx32-float32"]
    assert summary["failed"] == []
    for cell in summary["cells"]:
        assert {"entroreg", "eager"} <= cell["methods"].keys()
        assert len(cell["rounds"]["entroreg"]) == 3
        turns = zip(cell["rounds"]["eager"], cell["rounds"]["entroreg"], strict=True)
        ratios = sorted(eager["both"] / ours["both"] for eager, ours in turns)
        assert cell["methods"]["eager"]["time_over_entroreg"]["median"] == pytest.approx(ratios[1], abs=1e-3)
    text = as_text(summary)
    assert "64x1k-float32, 2 threads, 3 rounds" in text
    assert all(f"not installed: {remedy}" in text for remedy in methods.missing_peers().values())


@pytest.mark.parametrize("hidden", [None, 8])
def test_methods_agree(hidden: int | None) -> None:
    task = Task(40, 300, "float32", hidden)
    *leaves, tokens = task.inputs()
    found = {name: method(*leaves, tokens) for name, method in task.methods().items()}
    for outputs in found.values():
        for one, other in zip(outputs, found["eager"], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert max(largest_errors(task).values()) < 1e-5
    assert all(turn["both"] > turn["forward"] > 0.0 for turn in rounds_of(task, 2)["entroreg"])


def test_memory_is_that_of_the_method() -> None:
    task = Task(512, 20_000, "float32")  # 39 MiB of logits
    eager, ours = (peak_megabytes(task, name, threads=1) for name in ("eager", "entroreg"))
    assert eager > 2 * 39  # log-probabilities and probabilities at once
    assert ours < eager / 4
