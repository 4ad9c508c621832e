"""A trained planner in a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from entroreg import checkpoint
from entroreg.agents.planner.scorer import PlanScorer
from entroreg.agents.planner.training import Training, train_planner
from entroreg.agents.planner.vocabulary import Vocabulary
from entroreg.benchmarks.made_once import made_once

_STATE = "planner"


def trained_planner(folder: Path, env: Any, training: Training, seed: int, maps: Sequence[int]) -> PlanScorer:
    """Return the planner of a folder, trained first if it is not there.

    Args:
        folder: of the planner; its settings are kept with it.
        env: to train in.
        training: how.
        seed: of everything that is drawn.
        maps: seeds of the training maps.

    Raises:
        ValueError: the folder holds a planner of other settings.
    """
    settings = {**training._asdict(), "seed": seed, "maps": [maps[0], maps[-1]]}
    with made_once(folder) as fresh:
        if fresh is not None:
            started = time.perf_counter()
            generator = torch.Generator().manual_seed(seed)
            scorer = train_planner(env, training, maps, generator, say=lambda text: print(text, flush=True))
            metadata = {"settings": settings, "seconds": time.perf_counter() - started}
            checkpoint.save_checkpoint(fresh / _STATE, scorer.state_dict(), metadata)
    tensors, metadata = checkpoint.load_checkpoint(folder / _STATE)
    if metadata["settings"] != settings:
        raise ValueError(f"{folder} must hold the planner of {settings}, got {metadata['settings']}: remove it")
    scorer = PlanScorer(Vocabulary(tensors["actions"], tensors["positions"]))
    scorer.load_state_dict(tensors)
    return scorer.eval()
