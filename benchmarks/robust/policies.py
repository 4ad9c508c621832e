"""The policy of a run folder, whatever trained it, as the robust evaluation takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entroreg.agents.adversarial.players import DEFAULT, Frozen, PlayerSettings
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.evaluation import Act
from entroreg.benchmarks.robust.adversaries import returns_against, worst_adversary
from entroreg.benchmarks.robust.options import KINDS, name_of
from entroreg.envs import Forces, find_forces

_SEED = 20_000  # added: other starts than those of the evaluation at a run's end


@dataclass(frozen=True)
class Policy:
    """A greedy policy on a task's own observation."""

    name: str
    """Of what trained it."""
    task: str
    """Id."""
    seed: int
    """For the evaluation."""
    act: Act
    """From observation to action."""
    settings: PlayerSettings
    """For an adversary that is trained against it."""
    adversary: Act | None = None
    """Of its own training, from observation to shares of the force limit."""
    forces: Forces | None = None
    """Of that adversary."""

    def against_adversaries(
        self, episodes: int, steps: int, forces: Forces | None, stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Return returns against the adversary of its training, and against one that is trained for ``steps``.

        Args:
            episodes: of each.
            steps: of the environment.
            forces: of the fresh adversary, from ``forces_of_fresh``; None for no adversary but its own.
            stop: asked before each step; True ends at once.

        Returns:
            Undiscounted returns as ``own_adversary`` and ``fresh_adversary``, None where there is none, with
            ``adversary_steps`` and the force limits that acted.
        """
        found: dict[str, Any] = {"own_adversary": None, "fresh_adversary": None, "adversary_steps": steps}
        if self.adversary is not None and self.forces is not None:
            own = returns_against(self.act, self.adversary, self.task, self.forces, episodes, self.seed, stop)
            found |= {"own_adversary": own, "own_force": self.forces.limit}
        if forces is None or stop():
            return found
        worst = worst_adversary(self.act, self.task, forces, self.settings, steps, self.seed, stop)
        fresh = returns_against(self.act, worst, self.task, forces, episodes, self.seed, stop)
        return found | {"fresh_adversary": fresh, "fresh_force": forces.limit}

    def forces_of_fresh(self, steps: int, force: float | None) -> Forces | None:
        """Return the forces of a fresh adversary that is trained for some steps; None for 0 steps.

        Args:
            steps: of the environment.
            force: limit, N; that of the training, or of the published table, if None.

        Raises:
            UserError: steps that end before the adversary begins to learn, a force limit that is none, or a task
                without known forces.
        """
        if steps == 0:
            return None
        if steps <= self.settings.learning_starts:
            raise UserError(
                f"adversary_steps must be above learning_starts, {self.settings.learning_starts} in this run, "
                f"got {steps}: that adversary would not learn"
            )
        try:
            forces = self.forces or find_forces(self.task)
            return forces if force is None else replace(forces, limit=force)
        except ValueError as error:
            raise UserError(str(error)) from error


def policy_of(folder: Path, config: dict[str, Any]) -> Policy:
    """Return the policy of a run of sac, qarl or rarl.

    Args:
        folder: of the run.
        config: of the run, from ``read_config``.

    Raises:
        UserError: the run is of something else, or has no checkpoint yet.
        CheckpointError: the checkpoint is damaged.
    """
    kind = config.get("kind")
    if kind in KINDS:
        from entroreg.benchmarks.robust.building import forces_of
        from entroreg.benchmarks.robust.training import greedy, load_run

        training, options = load_run(folder, config)
        seed = options.run.seed + _SEED
        settings = replace(training.settings["protagonist"], ent_coef=DEFAULT.ent_coef)
        task, forces = options.run.env, forces_of(options)
        return Policy(name_of(options), task, seed, greedy(training), settings, training.push, forces)
    if kind != "sac":
        raise UserError(f"--robust is for runs of sac, {', '.join(KINDS)}, got one of {kind}")
    from entroreg.benchmarks.training import load_run as load_sac

    agent, _, of_sac = load_sac(folder, config)
    given = of_sac.agent
    settings = PlayerSettings(
        learning_rate=given.learning_rate,
        learning_starts=given.learning_starts,
        batch_size=given.batch_size,
        gamma=given.gamma,
        net=given.net,
        train_freq=1,
        device=of_sac.run.device,
    )
    frozen = Frozen(agent, stochastic=False)  # type: ignore[arg-type]
    return Policy("sac", of_sac.run.env, of_sac.run.seed + _SEED, frozen, settings)
