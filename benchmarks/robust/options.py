"""What ``entroreg train qarl`` and ``train rarl`` are asked to do; also the command's flags."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from entroreg.benchmarks.options import require_net
from entroreg.benchmarks.ranges import (
    LARGEST_RATE,
    MOST_DRAWN,
    MOST_KEPT,
    require_positive,
    require_seed,
    require_size,
    require_threads,
    require_whole,
)

LARGEST_RETURN = 1e9


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    env: str
    """MuJoCo task of gymnasium or dm_control, such as InvertedPendulum-v5 or dm_control/cartpole-swingup-v0."""
    steps: int = 300_000
    """Environment steps of both players together; rounded up to whole iterations."""
    seed: int = 0
    """Seed of everything that is drawn."""
    out: Path = Path("runs")
    """Folder of all runs; this one goes to OUT/train/METHOD/ENV/seed-SEED."""
    eval_episodes: int = 20
    """Episodes of each final evaluation."""
    checkpoint_every: int = 10
    """Iterations between checkpoints."""
    keep: int = 1
    """Older checkpoints that are kept."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    threads: int = 1
    """CPU threads of torch; the default networks gain little from a second, and lose much if it is taken."""
    engine: Literal["auto", "compiled", "eager"] = "auto"
    """When a player's update is compiled: after 5,000 updates, at once, or never."""
    overwrite: bool = False
    """Replace a finished run in the same folder."""
    resume: bool = False
    """Go on from the checkpoint in the folder, exactly; begin where there is none."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        if self.env in {"", ".", ".."}:
            raise ValueError(f"env must be the id of an environment, got {self.env!r}")
        for name in ("steps", "checkpoint_every"):
            require_whole(name, getattr(self, name), 1)
        require_whole("eval_episodes", self.eval_episodes, 1, MOST_DRAWN)
        require_seed(self.seed)
        require_threads(self.threads)
        require_whole("keep", self.keep, 1, MOST_KEPT)
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: leave one out")


@dataclass(frozen=True)
class PlayerOptions:
    """Both players."""

    learning_rate: float = 1e-3
    """Of actor, critics and alpha; the paper has 1e-4 for the actor and 3e-4 for the rest."""
    batch_size: int = 128
    """Transitions per update; the paper has 256."""
    buffer_size: int = 1_000_000
    """Transitions kept by each."""
    learning_starts: int = 1_000
    """Environment steps with random actions before the first update; the paper has 3,000."""
    train_freq: int = 3
    """Environment steps between updates."""
    gamma: float = 0.99
    """Discount."""
    net: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers; the paper has 256 256 256."""
    episodes: int = 5
    """Of each phase."""
    episode_steps: int | None = 500
    """Control steps after which a training episode is cut."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "buffer_size", "train_freq"):
            require_whole(name, getattr(self, name), 1)
        require_whole("episodes", self.episodes, 1, MOST_DRAWN)
        require_whole("learning_starts", self.learning_starts, 0)
        require_positive("learning_rate", self.learning_rate, LARGEST_RATE)
        if not 0.0 < self.gamma < 1.0:
            raise ValueError(f"gamma must be in (0, 1), got {self.gamma}")
        if not self.net:
            raise ValueError("net must hold widths of at least 1, got none")
        require_net(self.net)
        if self.episode_steps is not None:
            require_whole("episode_steps", self.episode_steps, 1)


@dataclass(frozen=True)
class AdversaryOptions:
    """The adversary."""

    force: float | None = None
    """Force limit, N; that of the published table if left out."""

    def __post_init__(self) -> None:
        if self.force is not None:
            require_positive("force", self.force)


@dataclass(frozen=True)
class CurriculumOptions:
    """Where the adversary's temperatures come from."""

    curriculum: Literal["gamma", "point", "linear", "homogeneous", "force"] = "gamma"
    """QARL's Gamma, or an ablation: one temperature, a straight line, both players' temperature, the force."""
    return_floor: float | None = None
    """Discounted return above which the curriculum moves; half of a trained SAC's if left out."""
    reference_steps: int = 60_000
    """Environment steps of that SAC."""

    def __post_init__(self) -> None:
        require_whole("reference_steps", self.reference_steps, 1)
        if self.return_floor is not None:
            require_size("return_floor", self.return_floor, LARGEST_RETURN)


@dataclass(frozen=True)
class TrainQARL:
    """Train against an adversary whose rationality grows as fast as the returns allow.

    Example: entroreg train qarl --env InvertedPendulum-v5
    """

    run: RunOptions
    players: PlayerOptions = field(default_factory=PlayerOptions)
    adversary: AdversaryOptions = field(default_factory=AdversaryOptions)
    curriculum: CurriculumOptions = field(default_factory=CurriculumOptions)


@dataclass(frozen=True)
class TrainRARL:
    """Train against an adversary that is as rational as it learns to be.

    Example: entroreg train rarl --env InvertedPendulum-v5
    """

    run: RunOptions
    players: PlayerOptions = field(default_factory=PlayerOptions)
    adversary: AdversaryOptions = field(default_factory=AdversaryOptions)


TrainAdversarial = TrainQARL | TrainRARL
KINDS: dict[str, type[TrainQARL] | type[TrainRARL]] = {"qarl": TrainQARL, "rarl": TrainRARL}


def name_of(options: TrainAdversarial) -> str:
    """Return the name of what is trained: qarl, qarl-CURRICULUM or rarl."""
    if isinstance(options, TrainRARL):
        return "rarl"
    own = options.curriculum.curriculum
    return "qarl" if own == "gamma" else f"qarl-{own}"


def to_json(options: TrainAdversarial) -> dict[str, Any]:
    """Return options as JSON data."""
    kind = next(kind for kind, cls in KINDS.items() if isinstance(options, cls))
    data = {"kind": kind, **asdict(options)}
    data["run"]["out"] = str(options.run.out)
    data["players"]["net"] = list(options.players.net)
    return data


def from_json(data: dict[str, Any]) -> TrainAdversarial:
    """Return the options that ``to_json`` wrote.

    Raises:
        KeyError: the data lacks a part.
        TypeError: the data has a field that is not known.
    """
    run = RunOptions(**{**data["run"], "out": Path(data["run"]["out"])})
    players = PlayerOptions(**{**data["players"], "net": tuple(data["players"]["net"])})
    adversary = AdversaryOptions(**data["adversary"])
    if data["kind"] == "rarl":
        return TrainRARL(run, players, adversary)
    return TrainQARL(run, players, adversary, CurriculumOptions(**data["curriculum"]))
