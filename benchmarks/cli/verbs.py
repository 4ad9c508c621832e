"""The verbs: their flags, and a thin call of the library for each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

import tyro

from entroreg.benchmarks.cli.running import (
    checkpoint_errors_as_user_errors,
    naming_checkpoints,
    note,
    print_table,
    result_of,
)
from entroreg.benchmarks.distillation.options import TrainDistill
from entroreg.benchmarks.errors import MISSING, OK, UserError
from entroreg.benchmarks.mil.options import ModelName, TrainMIL
from entroreg.benchmarks.options import TrainDiscreteSAC, TrainSAC
from entroreg.benchmarks.ranges import MOST_DRAWN, require_positive, require_whole
from entroreg.benchmarks.rlvr.options import TrainRLVR
from entroreg.benchmarks.robust.options import KINDS as ADVERSARIAL
from entroreg.benchmarks.robust.options import TrainQARL, TrainRARL

_MOST_POINTS = 1_000


class Verb(Protocol):
    """A parsed command line."""

    def execute(self) -> int:
        """Do it and return the exit code."""


@dataclass(frozen=True)
class Train:
    """Train an agent and evaluate it.

    Example: entroreg train sac --env InvertedPendulum-v5 --steps 16000 --net 64 64 --batch-size 64
    """

    agent: (
        Annotated[TrainSAC, tyro.conf.subcommand("sac")]
        | Annotated[TrainDiscreteSAC, tyro.conf.subcommand("discrete-sac")]
        | Annotated[TrainQARL, tyro.conf.subcommand("qarl")]
        | Annotated[TrainRARL, tyro.conf.subcommand("rarl")]
        | Annotated[TrainRLVR, tyro.conf.subcommand("rlvr")]
        | Annotated[TrainMIL, tyro.conf.subcommand("mil")]
        | Annotated[TrainDistill, tyro.conf.subcommand("distill")]
    )

    def execute(self) -> int:
        """Train; the last lines say where everything is."""
        if isinstance(self.agent, TrainRLVR):
            return _train_rlvr(self.agent)
        if isinstance(self.agent, TrainMIL):
            from entroreg.benchmarks.mil.verbs import train_mil

            return train_mil(self.agent)
        if isinstance(self.agent, TrainDistill):
            from entroreg.benchmarks.distillation.verbs import train_distill

            return train_distill(self.agent)
        if isinstance(self.agent, TrainQARL | TrainRARL):
            from entroreg.benchmarks.robust.verbs import train_adversarial

            return train_adversarial(self.agent)
        if isinstance(self.agent, TrainSAC) and self.agent.run.population:
            return _train_population(self.agent)
        from entroreg.benchmarks.training import run_folder, train

        folder = run_folder(self.agent)
        result, exit_code = result_of(partial(train, self.agent, folder), folder)
        if result is None:
            return exit_code
        if self.agent.run.json:
            print(json.dumps({**result, "folder": str(folder)}))
        else:
            _print_result(result)
            _print_places(folder)
        return OK


def _train_rlvr(options: TrainRLVR) -> int:
    from entroreg.benchmarks.rlvr.training import run_folder, train

    folder = run_folder(options)
    result, exit_code = result_of(partial(train, options, folder, note=note), folder)
    if result is None:
        return exit_code
    if options.json:
        print(json.dumps({**result, "folder": str(folder)}))
        return OK
    print(f"rlvr with control {options.control}, seed {options.seed}, {options.steps} rollouts")
    for name, found in (("before", result["start"]), ("after", result["final"])):
        _print_passes(name, found)
    print(f"curves       {folder / 'learning_curve.png'}")
    print(f"entropy      {folder / 'entropy_monitor.png'}")
    print(f"TensorBoard  tensorboard --logdir {folder / 'tb'}")
    print(f"result       {folder / 'result.json'}")
    return OK


def _train_population(options: TrainSAC) -> int:
    from entroreg.benchmarks.options import runs_of
    from entroreg.benchmarks.population import train_population
    from entroreg.benchmarks.run_folder import CHECKPOINT
    from entroreg.benchmarks.signals import stop_on_signals
    from entroreg.benchmarks.training import run_folder

    folders = [run_folder(run) for run in runs_of(options)]
    with stop_on_signals() as stop:
        checkpoints = [folder / CHECKPOINT for folder in folders]
        with checkpoint_errors_as_user_errors(), naming_checkpoints(checkpoints):
            results = train_population(options, stop)
        if results is None:
            note(f"stopped; each seed's checkpoint is in {folders[0].parent / 'seed-*' / CHECKPOINT}")
            return stop.exit_code
    if options.run.json:
        print(json.dumps([{**one, "folder": str(at)} for one, at in zip(results, folders, strict=True)]))
        return OK
    for result, folder in zip(results, folders, strict=True):
        _print_result(result)
        print(f"  everything else             {folder}")
    return OK


@dataclass(frozen=True)
class Eval:
    """Evaluate a run folder: an agent, also in other physics, a policy, folds of mil, a student of distill.

    Example: entroreg eval runs/train/sac/InvertedPendulum-v5/seed-0 --episodes 20
    """

    run: tyro.conf.Positional[Path]
    """Run folder of entroreg train."""
    episodes: int | None = None
    """Episodes for each policy, or problems; 20 or 1,024 if left out."""
    heatmap: bool = False
    """Of a mil run: draw the attention over each slide, PNG and GeoJSON, by the fold that had it as a test."""
    slides: tuple[str, ...] = ()
    """With --heatmap: only these slides."""
    robust: str | None = None
    """Of a run of sac, qarl or rarl: an uncertainty set, such as rrls-2 or qarl; leaves a heat map in the run."""
    points: int = 7
    """With --robust: values of each parameter; published grids have 11."""
    physics: Literal["correct", "published"] = "correct"
    """With --robust: whether inertia and contact follow, or only what the authors' setters changed."""
    adversary_steps: int = 0
    """With --robust: environment steps of a fresh adversary against the policy; none if 0."""
    force: float | None = None
    """With --adversary-steps: its force limit, N; that of the training, or of the published table, if left out."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        if self.episodes is not None:
            require_whole("episodes", self.episodes, 1, MOST_DRAWN)
        require_whole("points", self.points, 2, _MOST_POINTS)
        require_whole("adversary_steps", self.adversary_steps, 0)
        if self.force is not None:
            require_positive("force", self.force)

    def execute(self) -> int:
        """Evaluate."""
        from entroreg.benchmarks.run_folder import read_config

        config = read_config(self.run)
        kind = config.get("kind")
        if self.force is not None and not self.adversary_steps:
            raise UserError("force is that of a fresh adversary: give --robust and --adversary-steps with it")
        if (self.heatmap or self.slides) and kind != "mil":
            raise UserError(f"heatmap and slides are for runs of mil, got one of {kind}: leave them out")
        with checkpoint_errors_as_user_errors():
            if self.robust is not None or kind in ADVERSARIAL:
                return self._adversarial(config)
            if kind == "mil":
                from entroreg.benchmarks.mil.verbs import evaluate_mil

                return evaluate_mil(self.run, config, heatmap=self.heatmap, slides=self.slides, as_json=self.json)
            if kind == "distill":
                from entroreg.benchmarks.distillation.verbs import evaluate_distill

                return evaluate_distill(self.run, config, as_json=self.json)
            return self._policy(config) if kind == "rlvr" else self._agent(config)

    def _adversarial(self, config: dict[str, Any]) -> int:
        from entroreg.benchmarks.robust.verbs import evaluate_adversarial, evaluate_robust

        if self.robust is None:
            return evaluate_adversarial(self.run, config, self.episodes, as_json=self.json)
        return evaluate_robust(
            self.run,
            config,
            name=self.robust,
            points=self.points,
            episodes=self.episodes or 5,
            physics=self.physics,
            adversary_steps=self.adversary_steps,
            force=self.force,
            as_json=self.json,
        )

    def _agent(self, config: dict[str, Any]) -> int:
        from entroreg.benchmarks.signals import stop_on_signals
        from entroreg.benchmarks.training import evaluate, load_run

        agent, env, options = load_run(self.run, config)
        with stop_on_signals() as stop:
            result = evaluate(agent, env, options, self.episodes or 20, stop)
            if result is None:
                return stop.exit_code
        print(json.dumps(result)) if self.json else _print_result(result)
        return OK

    def _policy(self, config: dict[str, Any]) -> int:
        from entroreg.benchmarks.rlvr.training import FINAL_PROBLEMS, evaluate_run

        found = evaluate_run(self.run, config, self.episodes or FINAL_PROBLEMS)
        print(json.dumps(found)) if self.json else _print_passes("rlvr", found)
        return OK


@dataclass(frozen=True)
class List:
    """List what there is: agents, controllers, measures, suites.

    Example: entroreg list
    """

    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """List."""
        from entroreg import measures
        from entroreg.benchmarks.options import KINDS
        from entroreg.benchmarks.suites import SUITES

        listing = {
            "agents": ", ".join([*KINDS, "qarl", "rarl", "rlvr", "mil", "distill"]),
            "ent_coef": "auto, auto_INITIAL, a number; from Python also every controller of the core",
            "mil models": ", ".join(get_args(ModelName)),
            "measures": ", ".join(measures.__all__),
            "suites": ", ".join(SUITES),
        }
        print(json.dumps(listing)) if self.json else print_table(listing)
        return OK


@dataclass(frozen=True)
class Check:
    """Say what works here, what does not, and what to do about it.

    Example: entroreg check
    """

    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """Check; exit code 3 if something required is missing."""
        from entroreg.benchmarks import check

        findings = check.findings()
        if self.json:
            print(json.dumps([asdict(finding) for finding in findings]))
        else:
            for finding in findings:
                advice = f"  -> {finding.remedy}" if finding.remedy else ""
                print(f"{finding.status:8} {finding.topic:14} {finding.detail}{advice}")
        return OK if check.required_ok(findings) else MISSING


def _print_result(result: dict[str, Any]) -> None:
    print(f"{result['agent']} on {result['env']}, seed {result['seed']}, {result['steps']} steps")
    episodes = result["episodes"]
    print(f"  mean return of {episodes} episodes   {result['return_mean']:.1f} +- {result['return_std']:.1f}")
    print(f"  random policy, same starts  {result['random_return_mean']:.1f}")


def _print_passes(name: str, found: dict[str, float]) -> None:
    passes = f"pass@1 {found['pass_at_1']:.3f}   pass@8 {found['pass_at_8']:.3f}"
    print(f"  {name:7}  {passes}   entropy {found['entropy']:.4f} nats a character")


def _print_places(folder: Path) -> None:
    print(f"learning curve  {folder / 'learning_curve.png'}")
    print(f"TensorBoard     tensorboard --logdir {folder / 'tb'}")
    print(f"SB3-style zip   {folder / 'model.zip'}")
    print(f"result          {folder / 'result.json'}")
