"""What a run of ``entroreg train mil`` is asked to do; also the command's flags."""

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

ModelName = Literal["mean", "max", "abmil", "gated-abmil", "multi-head", "dsmil", "acmil"]
BalanceName = Literal["none", "weights", "sampling"]
_WITHOUT_ATTENTION = ("mean", "max")
_STREAMING = ("abmil", "gated-abmil", "multi-head")


@dataclass(frozen=True)
class DataOptions:
    """The data."""

    features: Path
    """Folder of feature files, one of them, or the CSV file of a classic data set: label, bag, features."""
    labels: Path | None = None
    """CSV file with the columns slide, label and, if known, patient; if left out the feature files' own labels."""
    by: Literal["slide", "patient"] = "slide"
    """What forms a bag: each slide, or all slides of a patient."""
    memory_budget: float = 2.0
    """GiB of features that are held in memory; the others are mapped, or read each time."""
    standardize: bool = False
    """Give features mean 0 and deviation 1 over the training bags of each fold; classic data sets need it."""

    def __post_init__(self) -> None:
        if self.classic and self.labels is not None:
            raise ValueError(f"labels are in {self.features} itself: leave --labels out")
        if self.classic and self.by == "patient":
            raise ValueError("by must be slide for a classic data set, which knows no patients, got patient")
        require_at_least_zero("memory_budget", self.memory_budget)

    @property
    def classic(self) -> bool:
        """Whether the features are a CSV file of a classic data set."""
        return self.features.suffix.lower() == ".csv"

    @property
    def name(self) -> str:
        """The data set's name: the folder's or the file's."""
        return self.features.stem or "data"


@dataclass(frozen=True)
class ModelOptions:
    """The model."""

    model: ModelName = "abmil"
    """What pools a bag's instances."""
    hidden: int | None = None
    """Width of the trunk; the paper's for the features' width if left out."""
    dropout: float = 0.0
    """After the trunk."""
    heads: int = 8
    """Attention heads of multi-head."""
    chunk_size: int | None = None
    """Bags of more instances are streamed in chunks, which saves memory; abmil, gated-abmil and multi-head only."""

    def __post_init__(self) -> None:
        if self.hidden is not None:
            require_whole("hidden", self.hidden, 1, MOST_DRAWN)
        if self.chunk_size is not None:
            require_whole("chunk_size", self.chunk_size, 1)
        require_whole("heads", self.heads, 1, MOST_DRAWN)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.chunk_size is not None and self.model not in _STREAMING:
            raise ValueError(f"chunk_size is for {', '.join(_STREAMING)}, got model {self.model}: leave it out")


@dataclass(frozen=True)
class AEMOptions:
    """Attention-entropy maximisation."""

    aem: float = 0.0
    """Weight lambda of the attention's entropy in the loss, with dual the first one; 0 leaves it out."""
    aem_schedule: Literal["constant", "cosine", "dual"] = "constant"
    """Lambda stays, falls to 0 along half a cosine, or is learned to hold the entropy at --aem-target."""
    aem_target: float = 0.8
    """Entropy that dual holds, as a share of log N."""
    aem_learning_rate: float = 0.01
    """Of dual's lambda."""
    aem_normalize: Literal["none", "log_n"] = "none"
    """What the entropy is divided by: the paper's none, or log N, which dual always takes."""
    aem_top_k: int | None = None
    """Count only the k largest attention weights of a bag."""

    def __post_init__(self) -> None:
        require_at_least_zero("aem", self.aem)
        if not 0.0 < self.aem_target < 1.0:
            raise ValueError(f"aem_target must be in (0, 1), a share of log N, got {self.aem_target}")
        require_positive("aem_learning_rate", self.aem_learning_rate, LARGEST_RATE)
        if self.aem_schedule == "dual" and self.aem == 0.0:
            raise ValueError("aem must be above 0 for dual to start from, got 0: add --aem 0.1")
        if self.aem_top_k is not None:
            require_whole("aem_top_k", self.aem_top_k, 1)
            if self.normalized:
                raise ValueError("aem_top_k and an entropy divided by log N exclude each other: leave one out")

    @property
    def suffix(self) -> str:
        """What the name of a run says of it: nothing, -aem, -aem-cosine or -aem-dual."""
        if self.aem == 0.0:
            return ""
        return "-aem" if self.aem_schedule == "constant" else f"-aem-{self.aem_schedule}"

    @property
    def normalized(self) -> bool:
        """Whether the entropy is divided by log N."""
        return self.aem_normalize == "log_n" or self.aem_schedule == "dual"


@dataclass(frozen=True)
class FitOptions:
    """The fit; the fields of entroreg.vision.mil.fitting.FitSettings, whose import would cost torch."""

    epochs: int = 50
    """Passes over the training bags."""
    learning_rate: float = 1e-4
    """Of AdamW; half a cosine takes it to 0."""
    weight_decay: float = 1e-5
    """Of AdamW."""
    bags_per_step: int | None = None
    """Most bags of a batch; if left out 1, or with --instances-per-step no limit."""
    instances_per_step: int | None = None
    """Most instances of a batch; a larger bag is a batch of its own."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    balance: BalanceName = "none"
    """Balance classes by weights in the loss, or by drawing bags."""
    instance_share: float = 1.0
    """Share of a bag's instances that a training pass draws."""
    sampled_bag_size: int | None = None
    """Instances that a training pass draws from every bag."""
    patience: int | None = None
    """Epochs without a better validation score after which a fold's fit ends."""
    amp: bool = False
    """Run the model in bfloat16."""

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate"):
            require_whole(name, getattr(self, name), 1)
        for name in ("bags_per_step", "instances_per_step", "sampled_bag_size", "patience"):
            if getattr(self, name) is not None:
                require_whole(name, getattr(self, name), 1)
        require_positive("learning_rate", self.learning_rate, LARGEST_RATE)
        require_at_least_zero("weight_decay", self.weight_decay)


@dataclass(frozen=True)
class CrossValidationOptions:
    """The run."""

    folds: int = 5
    """Folds of the cross-validation; each bag is tested once."""
    validation_share: float = 0.1
    """Share of the patients that are not tested to select the epoch on."""
    seed: int = 0
    """Seed of everything that is drawn."""
    out: Path = Path("runs")
    """Folder of all runs; this one goes to OUT/train/mil-MODEL/DATA/seed-SEED, with -aem behind MODEL."""
    checkpoint_every: int | None = None
    """Epochs between checkpoints, and one at the end of each fold's fit; every 30 seconds if left out."""
    keep: int = 1
    """Older checkpoints that are kept."""
    threads: int | None = None
    """CPU threads of torch; small bags are fastest with 1. Torch decides if left out."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    overwrite: bool = False
    """Replace a run in the same folder."""
    resume: bool = False
    """Go on with a stopped run in the same folder, as if it had not been stopped."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        require_whole("folds", self.folds, 2)
        require_seed(self.seed)
        require_threads(self.threads)
        require_whole("keep", self.keep, 1, MOST_KEPT)
        if self.checkpoint_every is not None:
            require_whole("checkpoint_every", self.checkpoint_every, 1)
        if not 0.0 <= self.validation_share < 1.0:
            raise ValueError(f"validation_share must be in [0, 1), got {self.validation_share}")
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: replace the run or go on with it")


@dataclass(frozen=True)
class TrainMIL:
    """Train and test a multiple instance learning model by cross-validation.

    Example: entroreg train mil --features features --labels labels.csv --model abmil --aem 0.1
    """

    data: DataOptions
    model: ModelOptions = field(default_factory=ModelOptions)
    aem: AEMOptions = field(default_factory=AEMOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    run: CrossValidationOptions = field(default_factory=CrossValidationOptions)

    def __post_init__(self) -> None:
        if self.aem.aem > 0.0 and self.model.model in _WITHOUT_ATTENTION:
            raise ValueError(f"aem needs a model with attention, got {self.model.model}: choose another --model")
        if self.fit.patience is not None and self.run.validation_share == 0.0:
            raise ValueError("patience needs validation bags to wait for: give --validation-share")


def to_json(options: TrainMIL) -> dict[str, Any]:
    """Return options as JSON data."""
    data = {"kind": "mil", **asdict(options)}
    data["data"] |= {"features": str(options.data.features)}
    if options.data.labels is not None:
        data["data"] |= {"labels": str(options.data.labels)}
    data["run"] |= {"out": str(options.run.out)}
    return data


def from_json(data: dict[str, Any]) -> TrainMIL:
    """Return the options that ``to_json`` wrote.

    Args:
        data: from a run's config.json.

    Raises:
        KeyError: the data lacks a part.
        TypeError: the data has a field that is not known.
    """
    labels = data["data"]["labels"]
    paths = {"features": Path(data["data"]["features"]), "labels": None if labels is None else Path(labels)}
    return TrainMIL(
        DataOptions(**{**data["data"], **paths}),
        ModelOptions(**data["model"]),
        AEMOptions(**data["aem"]),
        FitOptions(**data["fit"]),
        CrossValidationOptions(**{**data["run"], "out": Path(data["run"]["out"])}),
    )
