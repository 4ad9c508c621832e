"""What a training run is asked to do: small frozen dataclasses that also are the command's flags."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from entroreg.benchmarks.ranges import (
    LARGEST_RATE,
    MOST_DRAWN,
    MOST_KEPT,
    MOST_SEED,
    require_at_least_zero,
    require_positive,
    require_seed,
    require_size,
    require_threads,
    require_whole,
)

MOST_MEMBERS = 1024
"""Agents of a population."""


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    env: str
    """Environment id of gymnasium, such as InvertedPendulum-v5."""
    hyperparameters: str | None = None
    """Settings that flags override: tuned, for those that come with the environment, or a TOML file."""
    steps: int = 100_000
    """Environment steps to train for."""
    seed: int = 0
    """Seed of everything that is drawn."""
    seeds: int | None = None
    """With --population: number of agents, with the seeds SEED, SEED + 1, ..."""
    population: bool = False
    """Train the agents of all --seeds at once in one process, each into the folder of its seed; sac only."""
    out: Path = Path("runs")
    """Folder of all runs; this one goes to OUT/train/AGENT/ENV/seed-SEED."""
    eval_episodes: int = 20
    """Episodes of the final evaluation."""
    checkpoint_every: int = 10_000
    """Environment steps between checkpoints."""
    keep: int = 1
    """Older checkpoints that stay beside the last one."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    threads: int | None = None
    """CPU threads of torch; small networks are fastest with 1. Torch decides if left out."""
    engine: Literal["auto", "compiled", "eager"] = "auto"
    """When the update is compiled: after 5,000 updates, at once, or never."""
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
        require_whole("keep", self.keep, 1, MOST_KEPT)
        if self.overwrite and self.resume:
            raise ValueError("overwrite and resume exclude each other: leave one out")
        if self.population and self.seeds is None:
            raise ValueError("population needs the number of agents: add --seeds 8")
        if self.seeds is not None:
            require_whole("seeds", self.seeds, 1, MOST_MEMBERS)
            require_whole("the last seed", self.seed + self.seeds - 1, 0, MOST_SEED)
            if not self.population:
                raise ValueError("seeds are trained together: add --population, or run each --seed by itself")
        require_threads(self.threads)


@dataclass(frozen=True)
class AgentOptions:
    """The agent."""

    learning_rate: float = 3e-4
    """Of actor, critics and alpha."""
    batch_size: int = 256
    """Transitions per update."""
    buffer_size: int = 1_000_000
    """Transitions kept."""
    learning_starts: int = 100
    """Environment steps with random actions before the first update."""
    train_freq: int = 1
    """Environment steps between updates."""
    gradient_steps: int = 1
    """Updates each time; -1 for as many as steps."""
    gamma: float = 0.99
    """Discount."""
    net: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers."""
    ent_coef: str = "auto"
    """Entropy coefficient: auto, auto_INITIAL, or a number that stays."""
    target_entropy: Literal["auto"] | float = "auto"
    """Target of the learned coefficient, nats."""
    target_entropy_end: float | None = None
    """If given, the target moves from --target-entropy to this value in a straight line over the run."""
    alpha_minimum: float | None = None
    """Smallest learned coefficient."""
    alpha_maximum: float | None = None
    """Largest learned coefficient."""
    alpha_learning_rate: float | None = None
    """Of the coefficient alone; the agent's if left out."""
    entropy_backup: bool = True
    """Whether the Bellman target contains the next state's entropy."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "buffer_size", "train_freq"):
            require_whole(name, getattr(self, name), 1)
        require_whole("learning_starts", self.learning_starts, 0)
        require_positive("learning_rate", self.learning_rate, LARGEST_RATE)
        if self.alpha_learning_rate is not None:
            require_positive("alpha_learning_rate", self.alpha_learning_rate, LARGEST_RATE)
        for name in ("target_entropy", "target_entropy_end", "alpha_minimum", "alpha_maximum"):
            value = getattr(self, name)
            if value not in (None, "auto"):
                require_size(name, value)
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        if self.gradient_steps < 1 and self.gradient_steps != -1:
            raise ValueError(f"gradient_steps must be at least 1, or -1, got {self.gradient_steps}")
        require_whole("gradient_steps", self.gradient_steps, -1, MOST_DRAWN)
        require_net(self.net)

    @property
    def needs_own_dual(self) -> bool:
        """Whether anything is asked of the coefficient that Stable-Baselines3's words cannot say."""
        own = (self.target_entropy_end, self.alpha_minimum, self.alpha_maximum, self.alpha_learning_rate)
        return any(value is not None for value in own)


@dataclass(frozen=True)
class DiscreteOptions:
    """SD-SAC's remedies."""

    double_average_q: bool = False
    """Mean of the critics in place of their minimum."""
    q_clip: float | None = None
    """Half-width of the Q-clip loss; the paper uses 0.5."""
    entropy_penalty: float = 0.0
    """Weight of the squared change of entropy; the paper uses 0.5."""

    def __post_init__(self) -> None:
        if self.q_clip is not None:
            require_positive("q_clip", self.q_clip)
        require_at_least_zero("entropy_penalty", self.entropy_penalty)


@dataclass(frozen=True)
class TrainSAC:
    """Train SAC on a task with continuous actions.

    Example: entroreg train sac --env InvertedPendulum-v5 --steps 16000 --net 64 64 --batch-size 64
    """

    run: RunOptions
    agent: AgentOptions = field(default_factory=AgentOptions)


@dataclass(frozen=True)
class TrainDiscreteSAC:
    """Train DiscreteSAC on a task with discrete actions.

    Example: entroreg train discrete-sac --env CartPole-v1 --steps 60000 --net 64 64
    """

    run: RunOptions
    agent: AgentOptions = field(default_factory=AgentOptions)
    discrete: DiscreteOptions = field(default_factory=DiscreteOptions)

    def __post_init__(self) -> None:
        if self.run.population:
            raise ValueError("population is for sac: run each --seed of discrete-sac by itself")


TrainOptions = TrainSAC | TrainDiscreteSAC
KINDS: dict[str, type[TrainSAC] | type[TrainDiscreteSAC]] = {"sac": TrainSAC, "discrete-sac": TrainDiscreteSAC}


def kind_of(options: TrainOptions) -> str:
    """Return the command's word for the agent that is trained."""
    return next(kind for kind, cls in KINDS.items() if isinstance(options, cls))


def runs_of(options: TrainSAC) -> list[TrainSAC]:
    """Return the runs that a population stands for, one for each seed, as if each were trained alone."""
    run = options.run
    seeds = range(run.seed, run.seed + (run.seeds or 1))
    alone = [replace(run, seed=seed, seeds=None, population=False) for seed in seeds]
    return [replace(options, run=one) for one in alone]


def to_json(options: TrainOptions) -> dict[str, Any]:
    """Return options as JSON data."""
    data = {"kind": kind_of(options), **asdict(options)}
    data["run"]["out"] = str(options.run.out)
    data["agent"]["net"] = list(options.agent.net)
    return data


def from_json(data: dict[str, Any]) -> TrainOptions:
    """Return the options that ``to_json`` wrote.

    Args:
        data: from a run's config.json.

    Returns:
        The options.

    Raises:
        KeyError: the data lacks a part.
        TypeError: the data has a field that is not known.
    """
    run = RunOptions(**{**data["run"], "out": Path(data["run"]["out"])})
    agent = AgentOptions(**{**data["agent"], "net": tuple(data["agent"]["net"])})
    if data["kind"] == "sac":
        return TrainSAC(run, agent)
    return TrainDiscreteSAC(run, agent, DiscreteOptions(**data["discrete"]))


def require_net(net: tuple[int, ...]) -> None:
    """Refuse widths of hidden layers that no network has."""
    if any(not 1 <= width <= MOST_DRAWN for width in net):
        raise ValueError(f"net must hold widths of at least 1 and at most {MOST_DRAWN}, got {net}")
