"""What is not finite ends a training of a policy before its weights change; entropy that is spent is said."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entroreg import Dual
from entroreg.agents.rlvr.addition import CHARACTERS, Addition
from entroreg.agents.rlvr.controls import CONTROLS, Control
from entroreg.agents.rlvr.grpo import GRPO, GRPOSettings
from entroreg.agents.rlvr.policy_watch import PolicyWatch
from entroreg.agents.rlvr.sampling import sample
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.agents.rlvr.warm_up import WarmingUp
from entroreg.guards import EntropyCollapseWarning, EntropyWarning, TemperatureRunawayWarning
from entroreg.policy_gradient import PPOClip
from entroreg.state_tree import join_state, split_state

SETTINGS = GRPOSettings(prompts=8, samples=4, updates=2, learning_rate=0.02)


class OneAnswer(Addition):
    """A task whose right answers all begin with the same character: a policy spends all of its entropy on it."""

    def verify(self, answers: Tensor, right: Tensor) -> Tensor:
        return (answers[:, 0] == 3).float()


def _trainer(task: Addition | None = None, control: str = "none") -> GRPO:
    task = OneAnswer(1) if task is None else task
    torch.manual_seed(0)
    context = task.prompt_length + task.answer_length - 1
    model = CharTransformer(len(CHARACTERS), context, width=16, layers=1, heads=2)
    return GRPO(model, task, CONTROLS[control](0.5), SETTINGS, seed=0)


def _weights(model: CharTransformer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def _poison(model: CharTransformer) -> None:
    """Weights that are finite and whose products are not."""
    for parameter in model.parameters():
        parameter.data.mul_(1e30)


def test_logits_that_overflow_are_named_with_step_and_character() -> None:
    trainer = _trainer()
    trainer.step()
    _poison(trainer.model)
    before = _weights(trainer.model)
    message = (
        r"^step 2: logits became (nan|-?inf) in element \(\d+, \d+\) at character 1 of the answers: the weights"
    )
    with pytest.raises(FloatingPointError, match=message):
        trainer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    prompts = trainer.task.draw(2, torch.Generator().manual_seed(0)).prompts
    with pytest.raises(FloatingPointError, match=r"^logits became"):
        sample(trainer.model, prompts, length=2, end=0, samples=2, generator=torch.Generator())


def test_a_reward_that_is_not_finite_is_named() -> None:
    class Broken(OneAnswer):
        def verify(self, answers: Tensor, right: Tensor) -> Tensor:
            return super().verify(answers, right).index_fill(0, torch.tensor([5]), math.inf)

    with pytest.raises(FloatingPointError, match=r"^reward became inf in element \(5,\) at step 1"):
        _trainer(Broken(1)).step()


@pytest.mark.parametrize("at", [1, 2, 3])  # in the rollout's first part, in its second, in the first update
def test_a_log_probability_that_is_not_finite_is_named(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = _trainer()
    found, calls = trainer._log_probs_and_entropy, []

    def broken(prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, entropy = found(prompts, answers)
        calls.append(1)
        return (log_probs - math.inf if len(calls) == at else log_probs), entropy

    monkeypatch.setattr(trainer, "_log_probs_and_entropy", broken)
    before = _weights(trainer.model)
    with pytest.raises(FloatingPointError, match=r"^log-probability became -inf in element \(0,\) at step 1"):
        trainer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.parametrize("quantity", ["loss", "gradient norm"])
def test_a_warm_up_stops_before_its_weights_change(quantity: str) -> None:
    trainer = _trainer()
    warming = WarmingUp(trainer.model, trainer.task, seed=0)
    warming.step()
    if quantity == "loss":
        _poison(trainer.model)
    else:
        next(trainer.model.parameters()).register_hook(lambda gradient: gradient * math.inf)
    before = _weights(trainer.model)
    with pytest.raises(FloatingPointError, match=rf"^{quantity} became (nan|inf) at step 2 of the warm-up: lower"):
        warming.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert warming.steps == 1


def _messages(action: Any) -> dict[type[Warning], str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert all(issubclass(one.category, EntropyWarning) for one in caught)
    assert len({one.category for one in caught}) == len(caught)
    return {one.category: str(one.message) for one in caught}


def test_a_policy_that_spends_its_entropy_says_so_once_also_where_it_was_stored() -> None:
    trainer = _trainer()
    rows: list[dict[str, float]] = []
    found = _messages(lambda: rows.extend(trainer.step() for _ in range(30)))
    assert rows[-1]["reward"] > 0.9
    below = [row["step"] for row in rows if row["entropy"] < 0.1 * rows[0]["entropy"]]
    said = int(found[EntropyCollapseWarning].split("at step ")[1].split(",")[0])
    assert found[EntropyCollapseWarning].endswith(
        "hold it by Clip-Cov, KL-Cov or an entropy bonus, or lower the learning rate"
    )
    assert said >= below[0] + 9

    first = _trainer()
    for _ in range(said - 1):
        first.step()
    tensors, tree = split_state(first.state_dict())
    second = _trainer()
    second.load_state_dict(join_state(tensors, json.loads(json.dumps(tree))))
    assert _messages(second.step) == found


def test_a_bonus_that_runs_away_is_said() -> None:
    dual = Dual(0.5, initial=0.01, learning_rate=1.0, maximum=1.0)
    watch = PolicyWatch(Control(PPOClip(), dual))

    def feed() -> None:
        for step in range(1, 20):
            dual.update(torch.tensor(0.2))
            watch.update(step, 0.2)

    assert _messages(feed)[TemperatureRunawayWarning].startswith(
        "temperature has been at its maximum, 1, for 10 readings up to step 14, and entropy is still 0.3 nats"
    )


def test_the_committed_trainings_raise_no_alarm() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "rlvr_small.json"
    cells = json.loads(path.read_text())["cells"]
    for cell in cells:
        watch = PolicyWatch(CONTROLS["none"](0.0))
        assert _messages(lambda: [watch.update(int(b["step"]), b["entropy"]) for b in cell["curve"]]) == {}  # noqa: B023
    assert len(cells) == 40


def test_a_state_that_does_not_fit_is_refused() -> None:
    watch = PolicyWatch(CONTROLS["none"](0.0))
    with pytest.raises(ValueError, match="state of PolicyWatch does not fit: missing keys"):
        watch.load_state_dict({"first": None})
