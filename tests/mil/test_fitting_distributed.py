"""Two processes that share every batch fit as one does, and stop together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from entroreg.vision.mil.fitting import Processes, joined_processes

# 23 bags in batches of 4 leave a batch of 3, and one bag a batch leaves the second process without any.
# No validation bags: torchmetrics takes seconds to import.
NAMES = ("alone-0", "both-0", "both-1")
SCRIPT = """
import json, os, sys
import torch
from safetensors.torch import save_file
from entroreg import Dual, EntropyRegularizer
from entroreg.vision.mil import ABMIL, AttentionEntropy, BagsInMemory
from entroreg.vision.mil.fitting import Fitter, FitSettings, joined_processes, predict

torch.set_num_threads(1)
rank = int(os.environ.get("RANK", "0"))
generator = torch.Generator().manual_seed(0)
bags = [torch.randn(2 + index % 5, 4, generator=generator) + index % 2 for index in range(35)]
data = BagsInMemory(bags, [index % 2 for index in range(35)])
found = {}
with joined_processes("cpu") as processes:
    for bags_per_step, balance in ((4, "weights"), (1, "none")):
        torch.manual_seed(rank)  # the first process's weights count
        model = ABMIL(4, 2, hidden=8).double()
        aem = AttentionEntropy(EntropyRegularizer(Dual(0.9, learning_rate=0.1), sign="maximize"), normalize="log_n")
        settings = FitSettings(
            epochs=3, bags_per_step=bags_per_step, learning_rate=0.01, instance_share=0.8, balance=balance
        )
        fitter = Fitter(model, data, range(23), [], settings, aem, processes=processes)
        rows = [fitter.run_epoch() for _ in range(2)]
        asked = []
        stopped = fitter.run_epoch(lambda: asked.append(0) or (rank == processes.count - 1 and len(asked) == 3))
        assert stopped is None and len(asked) == 3, (stopped, asked)
        rows.append(fitter.run_epoch())
        found[f"{bags_per_step}"] = rows
        probs = predict(model, data, [5, 6, 7], processes=processes).logits
        state = {**fitter.best_state, "predicted": probs, "lambda": aem.regularizer.controller.value}
        tensors = {name: value.contiguous() for name, value in state.items()}
        save_file(tensors, f"{sys.argv[1]}-{rank}.{bags_per_step}.safetensors")
    with open(f"{sys.argv[1]}-{rank}.json", "w") as file:
        json.dump(found, file)
"""


def _two_processes(folder: Path) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder / "both")],
            env={**os.environ, **shared, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = _two_processes(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit", str(tmp_path / "alone")])
    exec(SCRIPT, {})  # one process, meanwhile
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    alone, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in NAMES)
    assert first == second
    for bags_per_step in ("4", "1"):
        for own, expected in zip(first[bags_per_step], alone[bags_per_step], strict=True):
            assert own == pytest.approx(expected, rel=1e-5, abs=1e-6)  # logged in float32
        of_name = {name: load_file(tmp_path / f"{name}.{bags_per_step}.safetensors") for name in NAMES}
        for name in NAMES[1:]:
            assert of_name[name].keys() == of_name["alone-0"].keys()
            for key, value in of_name["alone-0"].items():
                # The controller and its entropies are float32, and lambda moves all weights.
                assert torch.allclose(value, of_name[name][key], rtol=0, atol=2e-6), (name, key)


def test_one_process_is_the_default_and_joins_nobody() -> None:
    with joined_processes("cpu") as processes:
        assert processes == Processes(rank=0, count=1)
    assert processes.any(True)
    assert not processes.any(False)
    tensor = torch.ones(2)
    assert processes.sum(tensor) is tensor
    assert Processes(rank=1, count=3).own(torch.arange(8).numpy()).tolist() == [1, 4, 7]
