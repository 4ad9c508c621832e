"""What a run of ``entroreg train rlvr`` is asked to do; also the command's flags."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from entroreg.benchmarks.ranges import (
    LARGEST_RATE,
    MOST_DRAWN,
    MOST_KEPT,
    require_positive,
    require_seed,
    require_threads,
    require_whole,
)

ControlName = Literal[
    "none", "entropy-bonus", "clip-higher", "adaptive", "clip-cov", "kl-cov", "dual", "dual-bonus"
]


@dataclass(frozen=True)
class TrainRLVR:
    """Train a character transformer by GRPO on sums that a program verifies.

    Example: entroreg train rlvr --control clip-cov --steps 400
    """

    control: ControlName = "none"
    """Control of the policy's entropy; docs/language_models.md says what each does."""
    steps: int = 400
    """Rollouts, each followed by --updates updates."""
    seed: int = 0
    """Seed of everything that is drawn."""
    digits: int = 2
    """Digits of the numbers that are added."""
    warm_up: float = 0.3
    """Share of held-out sums that supervised training reaches before reinforcement begins."""
    target: float = 0.5
    """Entropy to hold, as a share of the warmed-up policy's; for adaptive, dual and dual-bonus."""
    prompts: int = 64
    """Sums of a rollout."""
    samples: int = 8
    """Answers to each sum."""
    updates: int = 4
    """Updates after each rollout, each on its own part of it."""
    learning_rate: float = 1e-4
    """Of the policy."""
    evaluate_every: int = 20
    """Rollouts between evaluations on held-out sums."""
    checkpoint_every: int = 20
    """Rollouts between checkpoints; the warm-up has one every 100 batches."""
    keep: int = 1
    """Older checkpoints that are kept."""
    out: Path = Path("runs")
    """Folder of all runs; this one goes to OUT/train/rlvr-CONTROL/addition-DIGITS/seed-SEED."""
    threads: int | None = None
    """CPU threads of torch; this small model is fastest with 1. Torch decides if left out."""
    overwrite: bool = False
    """Replace a run in the same folder."""
    resume: bool = False
    """Go on with a stopped run in the same folder, as if it had not been stopped; begin where there is none."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        for name in ("steps", "updates", "evaluate_every", "checkpoint_every"):
            require_whole(name, getattr(self, name), 1)
        require_whole("prompts", self.prompts, 1, MOST_DRAWN)
        require_whole("keep", self.keep, 1, MOST_KEPT)
        require_seed(self.seed)
        require_whole("samples", self.samples, 2, MOST_DRAWN)  # one has nothing to be compared with
        require_threads(self.threads)
        if not 1 <= self.digits <= 9:
            raise ValueError(f"digits must be in [1, 9], got {self.digits}")
        if self.prompts % self.updates:
            raise ValueError(f"prompts must be a multiple of updates={self.updates}, got {self.prompts}")
        if not 0.0 < self.warm_up < 1.0:
            raise ValueError(f"warm_up must be in (0, 1), got {self.warm_up}")
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: replace the run or go on with it")
        require_positive("target", self.target)
        require_positive("learning_rate", self.learning_rate, LARGEST_RATE)


def to_json(options: TrainRLVR) -> dict[str, Any]:
    """Return options as JSON data."""
    return {"kind": "rlvr", **asdict(options), "out": str(options.out)}


def from_json(data: dict[str, Any]) -> TrainRLVR:
    """Return the options that ``to_json`` wrote.

    Args:
        data: from a run's config.json.

    Raises:
        KeyError: the data lacks a part.
        TypeError: the data has a field that is not known.
    """
    settings = {name: value for name, value in data.items() if name != "kind"}
    return TrainRLVR(**{**settings, "out": Path(data["out"])})
