from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from entroreg.adaptation import centaur
from entroreg.agents.planner.collecting import collect_states, join
from entroreg.agents.planner.driving import drive
from entroreg.agents.planner.outcomes import judge
from entroreg.agents.planner.scorer import PlanScorer, PlanScores
from entroreg.agents.planner.training import Training, scoring_loss, train_planner
from entroreg.agents.planner.uncertainty import GROUPS, uncertainties
from entroreg.agents.planner.vocabulary import make_vocabulary
from entroreg.benchmarks.planner.made import trained_planner
from entroreg.benchmarks.planner.report import failure_auroc, paired_difference
from entroreg.envs.navigation.environment import GOAL_RADIUS, NavigationEnv
from entroreg.envs.navigation.lidar import BEAMS, RANGE, directions
from entroreg.envs.navigation.simulation import SimulatedPlans

TRAINING = Training(plans=16, steps=8, states=40, rounds=2, updates=60, batch=16)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scorer(seed: int = 0) -> PlanScorer:
    torch.manual_seed(seed)
    return PlanScorer(make_vocabulary(16, 8, _generator()), width=32).eval()


def test_the_vocabulary_covers_all_directions_and_has_a_stop() -> None:
    vocabulary = make_vocabulary(24, 10, _generator())
    assert vocabulary.actions.shape == (24, 10, 2)
    assert float(vocabulary.actions.norm(dim=-1).max()) <= 1.0 + 1e-6
    assert not bool(vocabulary.actions[0].any())
    assert torch.allclose(vocabulary.positions, 0.2 * vocabulary.actions.cumsum(1))  # 2 m/s for 0.1 s
    ends = vocabulary.positions[1:, -1]
    quadrants = {(bool(x > 0), bool(y > 0)) for x, y in ends}
    assert len(quadrants) == 4
    assert torch.equal(make_vocabulary(24, 10, _generator()).actions, vocabulary.actions)
    for size, steps in ((1, 10), (4, 3)):
        with pytest.raises(ValueError, match=r"^size must be at least 2 and steps at least 4"):
            make_vocabulary(size, steps, _generator())


def test_outcomes_by_hand() -> None:
    positions = np.zeros((3, 4, 2))
    velocities = np.zeros((3, 4, 2))
    velocities[1, :, 0] = 1.0  # from 2 m/s to 1 m/s in one step of 0.1 s: 10 m/s^2, then none
    distances = np.array([[3.0, 2.9, 2.8, 2.7], [2.9, 2.6, 2.7, 2.8], [2.8, 2.5, 1.0, 1.0]])
    plans = SimulatedPlans(positions, velocities, np.array([4, 4, 2]), distances)
    found = judge(plans, distance=3.0, velocity=np.array([2.0, 0.0]))
    assert found.safe.tolist() == [1.0, 1.0, 0.0]
    reachable = 4 * 0.1 * 2.0
    assert found.progress == pytest.approx([0.3 / reachable, 0.4 / reachable, 0.5 / reachable])
    assert found.comfort[1] == pytest.approx(math.exp(-(10.0**2 / 4) / 36))
    assert found.comfort[0] == pytest.approx(math.exp(-(20.0**2 / 4) / 36))
    assert found.score() == pytest.approx(found.safe * (0.9 * found.progress + 0.1 * found.comfort))
    near = judge(plans._replace(distances=np.full((3, 4), GOAL_RADIUS)), GOAL_RADIUS + 0.1, np.zeros(2))
    assert near.progress[0] == 1.0  # the goal is nearer than the highest speed reaches


def test_what_a_plan_passes_is_measured_from_the_lidar_hits() -> None:
    scorer = _scorer()
    env = NavigationEnv()
    observation, _ = env.reset(seed=1)
    seen = scorer._seen(torch.from_numpy(observation)[None])[0].numpy()
    steps = 8
    positions = scorer.positions.numpy()
    hits = [share * RANGE * d for share, d in zip(observation[:BEAMS], directions(), strict=True) if share < 1.0]
    goal = observation[BEAMS : BEAMS + 2] * 10.0
    assert hits
    for plan in range(16):
        for step in range(steps):
            nearest = min(*(float(np.linalg.norm(positions[plan, step] - hit)) for hit in hits), RANGE)
            assert seen[plan, step] * RANGE == pytest.approx(nearest, abs=1e-4)
            remaining = float(np.linalg.norm(positions[plan, step] - goal))
            assert seen[plan, steps + step] * RANGE == pytest.approx(remaining, abs=1e-4)


def test_joint_scores_are_the_log_of_the_weighted_product() -> None:
    parts = torch.randn(3, 2, 5, generator=_generator())
    safe, progress, comfort = (part.sigmoid().double() for part in parts)
    product = safe**5 * progress * comfort**0.1
    assert torch.allclose(PlanScores(*parts).joint().double(), product.log(), atol=1e-5)


def test_measures_of_uncertainty_differ_and_groups_are_lateral() -> None:
    scorer = _scorer()
    ends = scorer.positions[:, -1, 1]
    edges = torch.linspace(float(ends.min()), float(ends.max()), GROUPS + 1)
    groups = torch.bucketize(ends.contiguous(), edges[1:-1].contiguous(), right=True)
    found = PlanScores(*torch.randn(3, 1, 16, generator=_generator()))
    probs = found.joint()[0].softmax(-1)
    summed = torch.stack([probs[groups == g].sum() for g in range(GROUPS) if bool((groups == g).any())])
    means = torch.stack([found.joint()[0][groups == g].mean() for g in range(GROUPS) if bool((groups == g).any())])
    measures = uncertainties(scorer)
    expected = {"full": probs, "semantic": summed, "cluster": means.softmax(-1)}
    assert set(measures) == set(expected)
    for name, distribution in expected.items():
        entropy = -(distribution * distribution.log()).sum()
        assert float(measures[name](found)) == pytest.approx(float(entropy), abs=1e-5)


def test_labels_are_what_the_simulation_says_and_slips_do_not_change_them() -> None:
    env = NavigationEnv()
    actions = make_vocabulary(16, 8, _generator()).actions
    first = collect_states(env, actions, lambda *_: 1, range(5), states=12)
    assert first.observations.shape == (12, 37)
    observation, info = env.reset(seed=0)
    truth = judge(env.simulate(actions.numpy()), info["distance"], info["velocity"])
    assert np.array_equal(first.observations[0].numpy(), observation)
    assert np.allclose(first.safe[0].numpy(), truth.safe)
    assert np.allclose(first.progress[0].numpy(), truth.progress, atol=1e-6)
    assert len(join([first, first]).safe) == 24
    with pytest.raises(ValueError, match=r"^10000 states must be met in 1 maps, got \d+: give more seeds$"):
        collect_states(env, actions, lambda *_: 0, range(1), states=10_000)


def test_training_lowers_the_loss_and_follows_its_generator() -> None:
    env = NavigationEnv()
    told: list[str] = []
    scorer = train_planner(env, TRAINING, range(100, 140), _generator(), told.append)
    again = train_planner(env, TRAINING, range(100, 140), _generator(), told.append)
    assert all(torch.equal(a, b) for a, b in zip(scorer.parameters(), again.parameters(), strict=True))
    assert len(told) == 4
    states = collect_states(env, scorer.actions, lambda *_: 1, range(300, 330), states=40)
    torch.manual_seed(0)
    untrained = PlanScorer(make_vocabulary(16, 8, _generator())).eval()
    with torch.no_grad():
        trained_loss, untrained_loss = (
            float(scoring_loss(one(states.observations), states)) for one in (scorer, untrained)
        )
    assert trained_loss < 0.8 * untrained_loss


def test_driving_is_repeatable_and_adaptation_starts_anew_in_each_episode() -> None:
    env, scorer = NavigationEnv(max_episode_steps=15), _scorer()
    measures = uncertainties(scorer)
    source = [parameter.detach().clone() for parameter in scorer.parameters()]
    plain = drive(env, scorer, 3, measures)
    assert plain.steps == len(plain.seconds) <= 15
    assert not plain.success
    adapter = centaur(scorer, measures["cluster"], ["decoder"], learning_rate=0.5)
    first, second = (drive(env, scorer, 3, measures, adapter) for _ in range(2))
    assert first.uncertainty == second.uncertainty
    assert first.uncertainty["cluster"] < plain.uncertainty["cluster"]
    adapter.reset()
    assert all(torch.equal(a, b) for a, b in zip(source, scorer.parameters(), strict=True))
    assert drive(env, scorer, 3, measures).uncertainty == plain.uncertainty


def test_a_planner_is_made_once_and_only_for_its_settings(tmp_path: Path) -> None:
    env = NavigationEnv()
    small = TRAINING._replace(states=10, updates=2)
    made = trained_planner(tmp_path / "planner", env, small, 0, range(100, 120))
    read = trained_planner(tmp_path / "planner", None, small, 0, range(100, 120))
    assert all(
        torch.equal(a, b) for a, b in zip(made.state_dict().values(), read.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match=r"must hold the planner of .*'seed': 1.*: remove it$"):
        trained_planner(tmp_path / "planner", None, small, 1, range(100, 120))


def test_auroc_of_failure_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    uncertainty, success = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.6
    pairs = [
        1.0 if bad > good else 0.5 if bad == good else 0.0
        for bad in uncertainty[~success]
        for good in uncertainty[success]
    ]
    assert failure_auroc(list(uncertainty), list(success)) == pytest.approx(np.mean(pairs))
    assert failure_auroc([1.0, 2.0], [True, True]) is None


def test_differences_pair_by_seed_and_map() -> None:
    def row(seed: int, *success: bool) -> dict[str, Any]:
        return {"seed": seed, "success": list(success)}

    plain = [row(0, True, False, False), row(1, True, True, False)]
    found = paired_difference([row(1, True, True, True), row(0, True, True, False)], plain)
    assert found["episodes"] == 6
    assert found["mean"] == pytest.approx(2 / 6)
    assert found["interval"][0] <= 2 / 6 <= found["interval"][1]
    assert paired_difference([row(2, True)], plain) == {"episodes": 0, "mean": None, "interval": None}
