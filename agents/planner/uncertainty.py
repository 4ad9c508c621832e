"""How uncertain a planner is: entropies of the distribution over its plans."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from entroreg.agents.planner.scorer import PlanScorer, PlanScores
from entroreg.grouping import by_end_point
from entroreg.measures import categorical_entropy, group_entropy

GROUPS = 5  # of plans that end side by side, as in Centaur
Uncertainty = Callable[[PlanScores], Tensor]


def uncertainties(scorer: PlanScorer) -> dict[str, Uncertainty]:
    """Return the three measures by name, each from subscores to nats (B,).

    ``full`` is the entropy over plans, ``semantic`` that of the groups' probabilities, ``cluster`` that of the
    softmax of the groups' mean scores.

    Args:
        scorer: whose plans are grouped, by the lateral place (y) where they end.
    """
    groups = by_end_point(scorer.positions, GROUPS)

    def grouped(agg: str) -> Uncertainty:
        def measure(found: PlanScores) -> Tensor:
            scores = found.joint()
            return group_entropy(scores, groups.expand(scores.shape), agg=agg, num_groups=GROUPS)

        return measure

    return {
        "full": lambda found: categorical_entropy(found.joint()),
        "semantic": grouped("sum"),
        "cluster": grouped("mean"),
    }
