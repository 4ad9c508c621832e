"""What a run of ``entroreg train distill`` is asked to do; also the command's flags."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from entroreg.benchmarks.ranges import (
    LARGEST_RATE,
    MOST_DRAWN,
    MOST_KEPT,
    require_at_least_zero,
    require_positive,
    require_seed,
    require_threads,
    require_whole,
)

MethodName = Literal["plain", "adversarial", "trades", "ard", "rslad", "mtard"]
NetworkName = Literal["strided-conv", "small-conv", "resnet18"]
DataName = Literal["mnist", "fashion-mnist", "cifar10", "bars"]
BalanceName = Literal["none", "solve", "sign"]
ViewName = Literal["clean", "adversarial"]
TestName = Literal["fgsm", "pgd", "pgd-trades", "cw", "autoattack"]
TEACHERS = {
    "plain": "none",
    "adversarial": "none",
    "trades": "none",
    "ard": "one",
    "rslad": "one",
    "mtard": "several",
}
EPS = {"mnist": 0.3, "fashion-mnist": 0.1, "cifar10": 8 / 255, "bars": 0.1}


@dataclass(frozen=True)
class StudentOptions:
    """The student."""

    method: MethodName = "mtard"
    """How it is trained; plain and adversarial make teachers. docs/distillation.md says what each does."""
    student: NetworkName = "resnet18"
    """Its network."""
    width: int | None = None
    """Channels of the first layer of strided-conv and small-conv; 16 if left out."""
    data: DataName = "cifar10"
    """Images; bars are drawn and need no download."""

    def __post_init__(self) -> None:
        if self.width is not None:
            require_whole("width", self.width, 1, MOST_DRAWN)
            if self.student == "resnet18":
                raise ValueError(f"width is for strided-conv and small-conv, got {self.width}: leave it out")


@dataclass(frozen=True)
class TeacherOptions:
    """The teachers."""

    teachers: tuple[Path, ...] = ()
    """Run folders, .safetensors or .pt state dicts; for mtard first the clean teacher, then the robust one."""
    views: tuple[ViewName, ...] = ()
    """Images that each teacher of mtard teaches on; for two of them clean adversarial if left out."""
    entropy_balance: BalanceName = "solve"
    """Temperatures that make mtard's teachers equally uncertain: at once (solve) or by small steps (sign)."""
    entropy_rate: float = 1e-3
    """Step of sign; a tenth after each milestone."""
    loss_balance: bool = True
    """Weights that let mtard's losses fall at one pace."""
    loss_rate: float = 0.025
    """Step of these weights; a tenth after each milestone."""

    def __post_init__(self) -> None:
        require_positive("entropy_rate", self.entropy_rate, LARGEST_RATE)
        if not 0.0 < self.loss_rate <= 1.0:
            raise ValueError(f"loss_rate must be in (0, 1], got {self.loss_rate}")
        if self.views and len(self.views) != len(self.teachers):
            raise ValueError(f"views must be as many as teachers, {len(self.teachers)}, got {len(self.views)}")

    @property
    def all_views(self) -> tuple[ViewName, ...]:
        """A view for each teacher."""
        if self.views:
            return self.views
        last: tuple[ViewName, ...] = ("clean", "adversarial")
        return last[-len(self.teachers) :] if self.teachers else ()


@dataclass(frozen=True)
class AttackOptions:
    """The attack in the training, and those of the tests after it."""

    eps: float | None = None
    """Radius in [0, 1]; if left out mnist 0.3, fashion-mnist and bars 0.1, cifar10 8/255."""
    attack_step: float | None = None
    """Length of a step of the attack in the training; eps / 4 if left out."""
    attack_steps: int = 10
    """Steps of it."""
    noise: Literal["normal", "uniform", "none"] = "normal"
    """Its start: 1e-3 N(0, 1) beside the image, uniform in the ball, or the image."""
    warm_up: float = 0.0
    """Share of the training over which eps grows to its full size; mnist needs 0.4."""
    tests: tuple[TestName, ...] = ("fgsm", "pgd", "pgd-trades", "cw")
    """Attacks after the training; autoattack needs the extra attacks and takes hours on a CPU."""
    test_images: int | None = None
    """First test images that are attacked; all if left out."""
    autoattack_images: int = 1000
    """First test images that autoattack has."""

    def __post_init__(self) -> None:
        if self.eps is not None and not 0.0 < self.eps <= 1.0:
            raise ValueError(f"eps must be in (0, 1], got {self.eps}: pixels are in [0, 1]")
        if self.attack_step is not None:
            require_positive("attack_step", self.attack_step, 1.0)
        for name in ("attack_steps", "autoattack_images"):
            require_whole(name, getattr(self, name), 1)
        if self.test_images is not None:
            require_whole("test_images", self.test_images, 1)
        if not 0.0 <= self.warm_up < 1.0:
            raise ValueError(f"warm_up must be in [0, 1), got {self.warm_up}")


@dataclass(frozen=True)
class FitOptions:
    """The fit; the fields of entroreg.vision.distillation.DistillationSettings, whose import would cost torch."""

    epochs: int = 300
    """Passes over the images."""
    batch: int = 128
    """Images of a step."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum 0.9, or Adam, which a few epochs on small networks need."""
    learning_rate: float = 0.1
    """At the first step."""
    weight_decay: float = 2e-4
    """L2."""
    schedule: Literal["milestones", "cosine", "constant"] = "milestones"
    """Of the learning rate: a tenth after each milestone, half a cosine to 0, or neither."""
    milestones: tuple[int, ...] = ()
    """Epochs after which it falls; if left out 215, 260 and 285 of 300, in proportion."""
    amp: bool = False
    """Run the networks in bfloat16."""
    channels_last: bool = False
    """Keep channels last in memory: twice as fast on many CPUs, and on GPUs with --amp."""
    log_every: int | None = None
    """Steps between rows of metrics; only at the epochs' ends if left out."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            require_whole(name, getattr(self, name), 1)
        if self.log_every is not None:
            require_whole("log_every", self.log_every, 1)
        for milestone in self.milestones:
            require_whole("milestones", milestone, 1)
        require_positive("learning_rate", self.learning_rate, LARGEST_RATE)
        require_at_least_zero("weight_decay", self.weight_decay)


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    seed: int = 0
    """Seed of everything that is drawn."""
    out: Path = Path("runs")
    """Folder of all runs; this one goes to OUT/train/distill-METHOD-STUDENT/DATA/seed-SEED."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, and one after the last; every minute if left out."""
    keep: int = 1
    """Older checkpoints that are kept."""
    threads: int | None = None
    """CPU threads of torch, which decides if left out."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    overwrite: bool = False
    """Replace a run in the same folder."""
    resume: bool = False
    """Go on with a stopped run in the same folder, as if it had not been stopped."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_threads(self.threads)
        require_whole("keep", self.keep, 1, MOST_KEPT)
        if self.checkpoint_every is not None:
            require_whole("checkpoint_every", self.checkpoint_every, 1)
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: replace the run or go on with it")


@dataclass(frozen=True)
class TrainDistill:
    """Train an image classifier against attacks: plainly, robustly, or taught by a clean and a robust teacher.

    Example: entroreg train distill --teachers clean.pt robust.pt --student resnet18 --data cifar10
    """

    model: StudentOptions = field(default_factory=StudentOptions)
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    attack: AttackOptions = field(default_factory=AttackOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        takes, found = TEACHERS[self.model.method], len(self.teaching.teachers)
        if takes == "none" and found:
            raise ValueError(f"method {self.model.method} has no teachers, got {found}: leave --teachers out")
        if takes == "one" and found != 1:
            raise ValueError(f"method {self.model.method} takes one teacher, the robust one, got {found}")
        if takes == "several" and found < 2:
            raise ValueError(
                f"method {self.model.method} takes two teachers or more, got {found}: give --teachers CLEAN ROBUST"
            )
        if found > 2 and not self.teaching.views:
            raise ValueError(f"views must be given for {found} teachers: add --views clean adversarial ...")

    @property
    def eps(self) -> float:
        """Radius of the attacks."""
        return EPS[self.model.data] if self.attack.eps is None else self.attack.eps

    @property
    def name(self) -> str:
        """The run's name: the method, with how it is balanced, and the student."""
        balance = self.teaching.entropy_balance
        balanced = f"-{balance}" if self.model.method == "mtard" and balance != "none" else ""
        return f"distill-{self.model.method}{balanced}-{self.model.student}"


def to_json(options: TrainDistill) -> dict[str, Any]:
    """Return options as JSON data."""
    data = {"kind": "distill", **asdict(options)}
    data["teaching"] |= {"teachers": [str(path) for path in options.teaching.teachers]}
    data["run"] |= {"out": str(options.run.out)}
    plain: dict[str, Any] = _without_tuples(data)
    return plain


def from_json(data: dict[str, Any]) -> TrainDistill:
    """Return the options that ``to_json`` wrote.

    Args:
        data: from a run's config.json.

    Raises:
        KeyError: the data lacks a part.
        TypeError: the data has a field that is not known.
    """
    teaching = {**data["teaching"], "views": tuple(data["teaching"]["views"])}
    return TrainDistill(
        StudentOptions(**data["model"]),
        TeacherOptions(**{**teaching, "teachers": tuple(map(Path, teaching["teachers"]))}),
        AttackOptions(**{**data["attack"], "tests": tuple(data["attack"]["tests"])}),
        FitOptions(**{**data["fit"], "milestones": tuple(data["fit"]["milestones"])}),
        RunOptions(**{**data["run"], "out": Path(data["run"]["out"])}),
    )


def _without_tuples(value: Any) -> Any:
    """Return JSON data as it comes back from a file, so that options and config.json compare equal."""
    if isinstance(value, dict):
        return {name: _without_tuples(item) for name, item in value.items()}
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value
