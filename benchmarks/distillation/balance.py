"""How many updates the two modes of MatchTemperature need until two teachers are equally uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from entroreg.benchmarks.distillation.building import images_of, read_network, settings_of, teachers_of
from entroreg.benchmarks.distillation.options import TrainDistill
from entroreg.measures.categorical import categorical_entropy
from entroreg.temperature_matching import MatchTemperature
from entroreg.vision.distillation import attacked
from entroreg.vision.images.data import as_float

__all__ = ["balance_of", "teachers_balance"]

_TOLERANCE = 1e-2  # nats
_MOST = 20_000
_CHATTER = 200
_BATCH = 128


def balance_of(logits: Sequence[Tensor], seed: int = 0) -> dict[str, Any]:
    """Return how ``solve`` and ``sign`` balance teachers, on their logits of the same images.

    Args:
        logits: one (N, K) floating for each teacher, as each sees the images in a training.
        seed: of the batches.

    Returns:
        ``entropies`` at temperature 1; for each mode ``updates`` until the entropies of all images, which every
        update has, differ by at most 0.01 nats (None if 20,000 do not suffice), the ``temperatures`` then, and of
        the next 200 updates by batches of 128 the standard deviation of the temperatures (``chatter``) and the mean
        difference of the batch's entropies (``gap``).
    """
    entropies = [float(categorical_entropy(teacher).mean()) for teacher in logits]
    return {"entropies": entropies, **{mode: _balanced(logits, mode, seed) for mode in ("solve", "sign")}}


def _balanced(logits: Sequence[Tensor], mode: str, seed: int) -> dict[str, Any]:
    match = MatchTemperature(len(logits), mode)
    updates = next((n for n in range(1, _MOST + 1) if _gap(match.update(logits)) <= _TOLERANCE), None)
    reached = match.temperatures.tolist()
    generator = torch.Generator().manual_seed(seed)
    batches = torch.randint(len(logits[0]), (_CHATTER, _BATCH), generator=generator)
    gaps, temperatures = [], []
    for picked in batches:
        gaps.append(_gap(match.update([teacher[picked] for teacher in logits])))
        temperatures.append(match.temperatures.clone())
    return {
        "updates": updates,
        "temperatures": reached,
        "chatter": torch.stack(temperatures).std(dim=0).tolist(),
        "gap": sum(gaps) / len(gaps),
    }


def _gap(metrics: dict[str, Tensor]) -> float:
    entropies = torch.stack([value for name, value in metrics.items() if name.startswith("entropy_")])
    return float(entropies.max() - entropies.min())


def teachers_balance(options: TrainDistill, folder: Path, images: int = 2_000) -> dict[str, Any]:
    """Return `balance_of` for the teachers of a finished run.

    The clean one sees images of the training, the robust one what the training's attack makes of them against the
    run's student, as in the last step of the training.

    Args:
        options: of the run, which has two teachers.
        folder: of the run.
        images: how many of the first training images.
    """
    train = images_of(options.model, "train").first(images)
    teachers = teachers_of(options, train)
    student = read_network(folder, train)
    pixels = as_float(train.images)
    adversarial = attacked(
        student,
        pixels,
        lambda logits: torch.nn.functional.cross_entropy(logits, train.labels, reduction="none"),
        settings_of(options).attack,
        torch.Generator().manual_seed(options.run.seed),
    )
    views = {"clean": pixels, "adversarial": adversarial}
    return balance_of([teacher.logits(views[teacher.view]) for teacher in teachers], options.run.seed)
