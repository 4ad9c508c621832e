"""A planner's whole training: drive with the truth and with errors, label, learn, drive oneself, learn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from entroreg.agents.planner.collecting import Driver, LabelledStates, collect_states, join
from entroreg.agents.planner.outcomes import Subscores
from entroreg.agents.planner.scorer import PlanScorer, PlanScores
from entroreg.agents.planner.vocabulary import make_vocabulary

_SLIP, _WORSE = (
    0.15,
    0.15,
)  # shares of states where any plan, or one of the five best, is driven: errors to recover from


class Training(NamedTuple):
    """How a planner is trained.

    Attributes:
        plans: N of the vocabulary.
        steps: T of a plan.
        states: labelled in each round.
        rounds: the first drives by true outcomes, the others by the planner so far.
        updates: gradient steps of each round.
        batch: states of an update.
        learning_rate: of Adam; falls to 0 over a round along a cosine.
    """

    plans: int = 64
    steps: int = 20
    states: int = 2000
    rounds: int = 3
    updates: int = 1500
    batch: int = 64
    learning_rate: float = 1e-3


def train_planner(
    env: Any, training: Training, seeds: Sequence[int], generator: torch.Generator, say: Callable[[str], None]
) -> PlanScorer:
    """Return a planner that was trained from simulated outcomes.

    Args:
        env: a navigation environment.
        training: its length.
        seeds: of the maps that are driven; each round has its share of them.
        generator: of everything that is drawn.
        say: told of each round.
    """
    vocabulary = make_vocabulary(training.plans, training.steps, generator)
    with torch.random.fork_rng(devices=[]):  # modules draw their first weights from the global generator
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        scorer = PlanScorer(vocabulary)
    drive = _with_slips(_by_truth, generator)
    parts: list[LabelledStates] = []
    share = len(seeds) // training.rounds
    for number in range(training.rounds):
        maps = seeds[number * share : (number + 1) * share]
        parts.append(collect_states(env, vocabulary.actions, drive, maps, training.states))
        loss = fit(scorer, join(parts), training, generator)
        say(f"round {number + 1} of {training.rounds}: {training.states} states more, loss {loss:.4f}")
        drive = _with_slips(_by(scorer), generator)
    return scorer.eval()


def fit(scorer: PlanScorer, states: LabelledStates, training: Training, generator: torch.Generator) -> float:
    """Take a round's gradient steps; return the mean loss of the last tenth."""
    optimizer = torch.optim.Adam(scorer.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.updates)
    losses = []
    for _ in range(training.updates):
        rows = torch.randint(len(states.observations), (training.batch,), generator=generator)
        batch = LabelledStates(*(column[rows] for column in states))
        loss = scoring_loss(scorer(batch.observations), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return float(torch.stack(losses[-max(1, len(losses) // 10) :]).mean())


def scoring_loss(found: PlanScores, truth: LabelledStates) -> Tensor:
    """Return the sum of the binary cross-entropies of the subscores, to be minimised.

    Args:
        found: of B observations.
        truth: of the same.
    """
    pairs = ((found.safe, truth.safe), (found.progress, truth.progress), (found.comfort, truth.comfort))
    return torch.stack([nn.functional.binary_cross_entropy_with_logits(z, y) for z, y in pairs]).sum()


def _by_truth(_: Tensor, truth: Subscores) -> int:
    return int(truth.score().argmax())


def _by(scorer: PlanScorer) -> Driver:
    @torch.no_grad()
    def drive(observation: Tensor, _: Subscores) -> int:
        return int(scorer(observation[None]).joint().argmax())

    return drive


def _with_slips(drive: Driver, generator: torch.Generator) -> Driver:
    def slipping(observation: Tensor, truth: Subscores) -> int:
        chance = float(torch.rand((), generator=generator))
        if chance < _SLIP:
            return int(torch.randint(len(truth.safe), (), generator=generator))
        if chance < _SLIP + _WORSE:
            best = truth.score().argsort()[-5:]
            return int(best[int(torch.randint(5, (), generator=generator))])
        return drive(observation, truth)

    return slipping
