"""Two processes train as one: covariances, ranks and the controller are those of the whole batch."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from entroreg import Dual
from entroreg.policy_gradient import ControlledClipCov, KLCov, Quantiles

pytest.importorskip("trl", reason="needs entroreg[llm]")

ROWS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "old_per_token_logps")


def _trainer(control: Any, model_folder: str, output: str, **settings: Any) -> Any:
    import trl
    from datasets import Dataset

    from entroreg.integrations.trl import GRPOTrainer

    def sevens(completions: list[str], **_: Any) -> list[float]:
        return [completion.count("7") / max(1, len(completion)) for completion in completions]

    args = trl.GRPOConfig(
        output_dir=output,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        learning_rate=2e-2,
        max_steps=3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        **settings,
    )
    data = Dataset.from_dict({"prompt": ["1+2=", "3+4=", "55+1=", "2+62="] * 4})
    return GRPOTrainer(
        model=model_folder, reward_funcs=sevens, args=args, train_dataset=data, entropy_control=control
    )


def _batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor([6, 2, 5, 4, 3, 6])[:, None]
    return {
        "prompt_ids": torch.randint(2, 15, (6, 4), generator=generator),
        "prompt_mask": torch.ones(6, 4, dtype=torch.long),
        "completion_ids": torch.randint(2, 15, (6, 6), generator=generator),
        "completion_mask": mask.long(),
        "advantages": torch.randn(6, generator=generator) * torch.tensor([1.0, 1.0, 1.0, 9.0, 1.0, 1.0]),
        "old_per_token_logps": -2.6 + 0.2 * torch.randn(6, 6, generator=generator),
        "num_items_in_batch": mask.sum(),
    }


def _gradients_and_metrics(
    model_folder: str, output: str, loss_type: str, rows: slice
) -> tuple[torch.Tensor, dict[str, float]]:
    trainer = _trainer(KLCov(fraction=0.3, beta=2.0), model_folder, output, loss_type=loss_type, num_iterations=2)
    whole = _batch()
    batch = {name: value[rows] if name in ROWS else value for name, value in whole.items()}
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    trainer._compute_loss(trainer.model, batch).backward()
    logged = {name: values[0] for name, values in trainer._metrics["train"].items()}
    return torch.cat([parameter.grad.reshape(-1) for parameter in trainer.model.parameters()]), logged


def _worker(rank: int, port: int, model_folder: str, output: str) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    rows = slice(0, 3) if rank == 0 else slice(3, 6)
    found = {kind: _gradients_and_metrics(model_folder, output, kind, rows) for kind in ("dapo", "dr_grpo")}
    dual = Dual(target=2.69, initial=0.01, maximum=1.0, learning_rate=0.7)
    trainer = _trainer(ControlledClipCov(dual, band=Quantiles(0.4, 1.0)), model_folder, output)
    assert trainer.accelerator.num_processes == 2
    trainer.train()
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in trainer.model.parameters()])
    torch.save((found, dual.value, dual.problem.step, weights), f"{output}.{rank}")


@pytest.fixture(scope="module")
def processes(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    output = str(tmp_path_factory.mktemp("processes") / "out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_worker, (port, str(model_folder), output), nprocs=2)
    return [torch.load(f"{output}.{rank}", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo"])
def test_two_processes_are_one(processes: list[Any], model_folder: Path, tmp_path: Path, loss_type: str) -> None:
    expected, logged = _gradients_and_metrics(str(model_folder), str(tmp_path), loss_type, slice(0, 6))
    (first, first_logged), (second, second_logged) = (found[0][loss_type] for found in processes)
    torch.testing.assert_close((first + second) / 2, expected, atol=1e-6, rtol=1e-4)
    assert float((first - second).abs().max()) > 1e-2
    assert logged["entroreg/share_selected"] == pytest.approx(7 / 26)
    for name, value in logged.items():
        assert first_logged[name] == pytest.approx(value, abs=1e-5), name
        assert second_logged[name] == pytest.approx(value, abs=1e-5), name


def test_the_controller_and_the_weights_stay_the_same_everywhere(processes: list[Any]) -> None:
    (_, value, step, weights), (_, other_value, other_step, other_weights) = processes
    assert step == other_step == 3
    assert value == other_value
    torch.testing.assert_close(weights, other_weights, atol=0.0, rtol=0.0)
