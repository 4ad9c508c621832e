"""A language model of two layers with thirteen characters, on disk as from a hub, and trainers of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

CHARACTERS = "0123456789+=."


def sevens(completions: list[str], **_: Any) -> list[float]:
    """The reward: what share of a completion is sevens."""
    return [completion.count("7") / max(1, len(completion)) for completion in completions]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def make_trainer(model_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that makes a trainer: of entroreg with ``entropy_control=``, else of TRL."""
    import trl
    from datasets import Dataset

    from entroreg.integrations.trl import GRPOTrainer

    def make(trainer_class: type | None = None, output: str = "out", **settings: Any) -> Any:
        control = {"entropy_control": settings.pop("entropy_control")} if "entropy_control" in settings else {}
        defaults = {
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 8,
            "max_steps": 20,
            "learning_rate": 2e-2,
            "lr_scheduler_type": "constant",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
        }
        return (trainer_class or (GRPOTrainer if control else trl.GRPOTrainer))(
            model=str(model_folder),
            reward_funcs=sevens,
            args=trl.GRPOConfig(output_dir=str(tmp_path / output), **(defaults | settings)),
            train_dataset=Dataset.from_dict({"prompt": ["1+2=", "3+4=", "55+1=", "2+62="] * 4}),
            eval_dataset=Dataset.from_dict({"prompt": ["7+7="]}),
            **control,
        )

    return make
