"""What a training run is asked to do: small frozen dataclasses that also are the command's flags."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal


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
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    threads: int | None = None
    """CPU threads of torch; small networks are fastest with 1. Torch decides if left out."""
    engine: Literal["auto", "compiled", "eager"] = "auto"
    """When the update is compiled: after 5,000 updates, at once, or never."""
    overwrite: bool = False
    """Replace a finished run in the same folder."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        if self.env in {"", ".", ".."}:
            raise ValueError(f"env must be the id of an environment, got {self.env!r}")
        for name in ("steps", "eval_episodes", "checkpoint_every"):
            require_at_least(name, getattr(self, name), 1)
        require_at_least("seed", self.seed, 0)
        if self.population and self.seeds is None:
            raise ValueError("population needs the number of agents: add --seeds 8")
        if self.seeds is not None:
            require_at_least("seeds", self.seeds, 1)
            if not self.population:
                raise ValueError("seeds are trained together: add --population, or run each --seed by itself")
        if self.threads is not None:
            require_at_least("threads", self.threads, 1)


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
            require_at_least(name, getattr(self, name), 1)
        require_at_least("learning_starts", self.learning_starts, 0)
        for name in ("learning_rate", "alpha_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be finite and above 0, got {value}")
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be in [0, 1], got {self.gamma}")
        if self.gradient_steps < 1 and self.gradient_steps != -1:
            raise ValueError(f"gradient_steps must be at least 1, or -1, got {self.gradient_steps}")
        if any(width < 1 for width in self.net):
            raise ValueError(f"net must hold widths of at least 1, got {self.net}")

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


def require_at_least(name: str, value: int, least: int) -> None:
    """Refuse an option below the least value that makes sense."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
