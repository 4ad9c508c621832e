"""GRPO: advantages, what an update is made of, exact continuation, and that it learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg import Dual, Fixed, checkpoint
from entroreg.agents.rlvr.addition import CHARACTERS, Addition
from entroreg.agents.rlvr.controls import CONTROLS, BangBang, Control
from entroreg.agents.rlvr.evaluation import pass_at_k
from entroreg.agents.rlvr.grpo import GRPO, GRPOSettings, group_advantages
from entroreg.agents.rlvr.policy import new_policy, training_rows
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.agents.rlvr.warm_up import WarmingUp, WarmUpFailedError, warm_up
from entroreg.benchmarks.rlvr.options import ControlName
from entroreg.policy_gradient import ControlledClipCov, PPOClip
from entroreg.state_tree import join_state, split_state

TASK = Addition(1)
SETTINGS = GRPOSettings(prompts=8, samples=4, updates=4, learning_rate=1e-3)


@cache
def _warmed() -> CharTransformer:
    torch.manual_seed(0)
    context = TASK.prompt_length + TASK.answer_length - 1
    model = CharTransformer(len(CHARACTERS), context, width=32, layers=2, heads=2)
    assert warm_up(WarmingUp(model, TASK, seed=0), until=0.3) is not None
    return model


def _trainer(control: str = "none", settings: GRPOSettings = SETTINGS, seed: int = 0) -> GRPO:
    return GRPO(copy.deepcopy(_warmed()), TASK, CONTROLS[control](0.5), settings, seed=seed)


def test_advantages_are_standard_scores_within_a_prompt() -> None:
    rewards = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(np.float64)
    rewards[2] = 1.0
    found = group_advantages(torch.tensor(rewards)).numpy()
    spread = rewards.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(found, (rewards - rewards.mean(1, keepdims=True)) / (spread + 1e-4), atol=1e-12)
    assert (found[2] == 0).all()


@given(data=st.data(), samples=st.integers(1, 12))
def test_pass_at_k_is_the_share_of_draws_without_replacement(data: st.DataObject, samples: int) -> None:
    k = data.draw(st.integers(1, samples))
    correct = data.draw(st.integers(0, samples))
    wrong = 1.0
    for drawn in range(k):  # one after the other, each of those left
        wrong *= max(samples - correct - drawn, 0) / (samples - drawn)
    assert pass_at_k(torch.tensor([correct]), samples, k) == pytest.approx(1.0 - wrong)


def test_pass_at_k_refuses_more_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"k must be in \[1, samples=4\], got 5"):
        pass_at_k(torch.tensor([1]), samples=4, k=5)


def test_the_first_update_of_a_rollout_finds_an_unmoved_policy() -> None:
    # KL-Cov is inert exactly there, in one update of four; old log-probabilities off by rounding would break it.
    trainer = _trainer("kl-cov")
    shares = [trainer.step()["share_inert"] for _ in range(3)]
    assert min(shares) >= 0.25
    assert max(shares) < 0.5


@pytest.mark.parametrize("control", CONTROLS)
def test_steps_after_a_checkpoint_are_those_that_would_have_followed(control: str, tmp_path: Path) -> None:
    one = _trainer(control)
    one.step()
    tensors, tree = split_state(one.state_dict())
    checkpoint.save_checkpoint(tmp_path / "saved", tensors, {"state": tree})
    expected = [one.step() for _ in range(3)]
    other = _trainer(control, seed=99)
    other.step()
    tensors, metadata = checkpoint.load_checkpoint(tmp_path / "saved")
    other.load_state_dict(join_state(tensors, metadata["state"]))
    assert [other.step() for _ in range(3)] == expected
    for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_of_another_control_is_refused() -> None:
    state = CONTROLS["dual-bonus"](0.5).state_dict()
    with pytest.raises(
        ValueError, match=r"state of Control does not fit: missing keys \['loss'\], unknown keys \['bonus'\]"
    ):
        CONTROLS["dual"](0.5).load_state_dict(state)


def test_a_bonus_adds_the_gradient_of_mean_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.ones(()))
    settings = GRPOSettings(prompts=8, samples=4, updates=1)
    gradients = []
    for bonus in (None, Fixed(0.5)):
        trainer = GRPO(copy.deepcopy(_warmed()), TASK, Control(PPOClip(), bonus), settings, seed=0)
        trainer.step()
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    trainer = _trainer(settings=settings)
    (batch,), _ = trainer._rollout()  # the same answers: the seed is the same
    _, entropy = trainer._log_probs_and_entropy(batch.prompts, batch.answers)
    expected = torch.autograd.grad(entropy[batch.mask].mean(), list(trainer.model.parameters()))
    for plain, with_bonus, gradient in zip(*gradients, expected, strict=True):
        assert plain is not None
        assert with_bonus is not None
        torch.testing.assert_close(with_bonus - plain, -0.5 * gradient, rtol=1e-3, atol=1e-6)


def test_bang_bang_follows_its_rule() -> None:
    # TRL's: the coefficient moves by its step towards the target, and acts only at or below it.
    control, coefficient = BangBang(target=0.5, step=0.25, maximum=0.6), 0.0
    for entropy in (0.9, 0.4, 0.5, 0.4, 0.4, 0.6, 0.3, 0.7):
        control.update(torch.tensor(entropy))
        below = entropy <= 0.5
        coefficient = min(max(coefficient + (0.25 if below else -0.25), 0.0), 0.6)
        assert float(control.value) == pytest.approx(coefficient if below else 0.0)
    with pytest.raises(ValueError, match="target must be finite and at least 0, got -1"):
        BangBang(target=-1.0)


def test_every_control_is_on_the_command_line() -> None:
    assert tuple(CONTROLS) == get_args(ControlName)
    dual = CONTROLS["dual"](0.3).loss
    assert isinstance(dual, ControlledClipCov)
    assert dual.dual.problem.bound == "lower"
    assert isinstance(CONTROLS["dual-bonus"](0.3).bonus, Dual)


def test_it_learns_and_spends_its_entropy() -> None:
    trainer = _trainer(settings=GRPOSettings(prompts=32, samples=16, updates=4, learning_rate=3e-4))
    rows = list(training_rows(trainer, 60, evaluate_every=30, seed=0))
    assert [row["step"] for row in rows] == list(range(1, 61))
    assert [row["step"] for row in rows if "pass_at_1" in row] == [30, 60]
    assert rows[-1]["pass_at_8"] >= rows[-1]["pass_at_1"]
    # Means of 5,120 answers; two seeds gave 0.40 and 0.39 before, 0.51 and 0.52 after.
    first, last = rows[:10], rows[-10:]
    assert np.mean([row["reward"] for row in last]) > np.mean([row["reward"] for row in first]) + 0.05
    assert np.mean([row["entropy"] for row in last]) < np.mean([row["entropy"] for row in first]) - 0.05
    assert list(training_rows(trainer, 60, evaluate_every=30, seed=0)) == []


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (lambda log_probs: log_probs.sum() * torch.inf, "loss became -inf at step 1: lower the learning rate"),
        # The square root of 0 is 0, its gradient infinite.
        (
            lambda log_probs: (log_probs - log_probs.detach()).sum().sqrt(),
            "gradient norm became (inf|nan) at step 1",
        ),
    ],
)
def test_what_is_not_finite_stops_before_the_weights(factor: Callable[..., Any], message: str) -> None:
    trainer = _trainer()
    trainer.control = Control(lambda log_probs, *_rest, **_more: (factor(log_probs), None))
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    with pytest.raises(FloatingPointError, match=message):
        trainer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


def test_a_warm_up_that_fails_says_how_far_it_came() -> None:
    with pytest.raises(WarmUpFailedError, match=r"must reach an accuracy of 0\.99, got 0\.\d+ after 25 steps"):
        warm_up(WarmingUp(new_policy(TASK, 0), TASK, seed=0), until=0.99, most_steps=25)
    begun = WarmingUp(new_policy(TASK, 0), TASK, seed=0)
    assert warm_up(begun, until=0.99, after_step=lambda: False) is None
    assert begun.steps == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": 0}, "prompts must be at least 1, got 0"),
        ({"prompts": 10, "updates": 4}, "prompts must be a multiple of updates=4, got 10"),
        ({"samples": 1}, "samples must be at least 2, got 1: one has nothing to be compared with"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0"),
        ({"temperature": -1.0}, "temperature must be finite and above 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRPOSettings(**settings)
