"""TRL's GRPO trains with every control: twenty real steps each, rewarded by a program."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from entroreg import Dual
from entroreg.policy_gradient import ClipCov, ControlledClipCov, KLCov, PPOClip, Quantiles, reinforce_loss

pytest.importorskip("trl", reason="needs entroreg[llm]")

import trl

from entroreg.integrations.trl import GRPOTrainer

Make = Callable[..., Any]


def _train(trainer: Any, **arguments: Any) -> list[dict[str, Any]]:
    trainer.train(**arguments)
    return [row for row in trainer.state.log_history if "loss" in row]


def _values(rows: list[dict[str, Any]], name: str) -> list[float]:
    """Of every step; rewards are logged where completions are written, so not in a batch's second step."""
    return [row[name] for row in rows if name in row]


def _end(rows: list[dict[str, Any]], name: str) -> float:
    return sum(_values(rows, name)[-5:]) / 5


BASELINES = {
    "none": {},
    "entropy-bonus": {"entropy_coef": 0.05},
    "adaptive-entropy": {"use_adaptive_entropy": True, "entropy_coef": 0.05, "entropy_target": 2.0},
}
CONTROLS = {
    "ppo": PPOClip(),
    "clip-higher": PPOClip(clip=(0.2, 0.28)),
    "clip-cov": ClipCov(fraction=0.1, band=Quantiles(0.6, 1.0)),
    "kl-cov": KLCov(fraction=0.1),
}


@pytest.mark.parametrize("name", BASELINES)
def test_stock_trl_learns_the_task(make_trainer: Make, name: str) -> None:
    rows = _train(make_trainer(**BASELINES[name]))
    assert _values(rows, "reward")[0] < 0.2
    assert _end(rows, "reward") > 0.8  # 1.00 with the pinned torch


@pytest.mark.parametrize("name", CONTROLS)
def test_it_learns_with_every_control(make_trainer: Make, name: str) -> None:
    rows = _train(make_trainer(entropy_control=CONTROLS[name], num_iterations=2))
    assert len(rows) == 20
    assert _values(rows, "reward")[0] < 0.2
    assert _end(rows, "reward") > 0.4  # 0.63 to 0.89 with the pinned torch, on ten batches
    for row in rows:
        quantiles = [
            row[f"entroreg/covariance_quantile_{share}"] for share in ("0", "0.25", "0.5", "0.75", "0.99", "1")
        ]
        assert quantiles == sorted(quantiles)
        assert quantiles[0] <= row["entroreg/covariance"] <= quantiles[-1]
        assert row["entroreg/kl"] >= -1e-6
        assert (row["entroreg/share_selected"] > 0.0) == (
            name in ("clip-cov", "kl-cov") and (name == "kl-cov" or quantiles[-1] > quantiles[0])
        )


def test_with_trls_clip_training_is_trls_step_for_step(make_trainer: Make) -> None:
    settings = {"num_iterations": 2, "gradient_accumulation_steps": 2, "max_steps": 8}
    expected = _train(make_trainer(output="stock", **settings))
    rows = _train(make_trainer(entropy_control=PPOClip(), **settings))
    assert max(_values(expected, "clip_ratio/region_mean")) > 0.0
    for name in ("reward", "entropy", "loss", "grad_norm", "clip_ratio/region_mean", "completions/mean_length"):
        assert _values(rows, name) == pytest.approx(_values(expected, name), rel=1e-3, abs=1e-5), name


def test_clip_cov_keeps_more_entropy(make_trainer: Make) -> None:
    stock = _train(make_trainer(output="stock"))
    cut = _train(make_trainer(entropy_control=ClipCov(fraction=0.3, band=Quantiles(0.5, 1.0))))
    assert _end(cut, "entropy") > 1.5 * _end(stock, "entropy")
    assert max(_values(cut, "entroreg/share_selected")) == pytest.approx(0.3, abs=0.02)


def test_kl_cov_is_inert_where_it_warns(make_trainer: Make) -> None:
    with pytest.warns(UserWarning, match="^KL-Cov does nothing with these settings: .* Raise num_iterations"):
        trainer = make_trainer(entropy_control=KLCov(fraction=0.5, beta=5.0), max_steps=4)
    rows = _train(trainer)
    plain = _train(make_trainer(output="plain", entropy_control=reinforce_loss, max_steps=4))
    assert _values(rows, "entroreg/share_inert") == [1.0] * 4
    for name in ("reward", "loss", "grad_norm"):
        assert _values(rows, name) == _values(plain, name)


def test_kl_cov_acts_where_it_does_not_warn(make_trainer: Make) -> None:
    settings = {"num_iterations": 2, "max_steps": 8}
    rows = _train(make_trainer(entropy_control=KLCov(fraction=0.5, beta=5.0), **settings))
    plain = _train(make_trainer(output="plain", entropy_control=reinforce_loss, **settings))
    assert _values(rows, "entroreg/share_inert")[::2] == [1.0] * 4  # a batch's first step is the policy's own
    assert max(_values(rows, "entroreg/share_inert")[1::2]) < 0.1
    assert _values(rows, "grad_norm")[0] == _values(plain, "grad_norm")[0]
    assert _values(rows, "grad_norm")[1] > 1.5 * _values(plain, "grad_norm")[1]
    assert sum(_values(rows, "entroreg/kl")) < 0.5 * sum(_values(plain, "entroreg/kl"))


@pytest.mark.parametrize(
    ("settings", "inert"),
    [
        ({}, True),
        ({"gradient_accumulation_steps": 4}, True),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, True),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2, "num_iterations": 2}, True),
        ({"steps_per_generation": 2}, False),
        ({"num_iterations": 2}, False),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 4}, False),
        ({"gradient_accumulation_steps": 3, "steps_per_generation": 2}, False),
    ],
    ids=str,
)
def test_it_warns_exactly_where_trl_keeps_no_old_log_probabilities(
    make_trainer: Make, settings: dict[str, int], inert: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(entropy_control=KLCov(), **settings)
    assert ["KL-Cov" in str(warning.message) for warning in caught].count(True) == int(inert)
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert ("old_per_token_logps" not in batch) == inert
    make_trainer(entropy_control=ClipCov(), **settings)  # a warning here would be an error


def test_vllm_correction_keeps_the_old_policy() -> None:
    from types import SimpleNamespace

    from entroreg.integrations.trl_settings import remembers_old_policy

    args = SimpleNamespace(steps_per_generation=1, num_iterations=1, gradient_accumulation_steps=1)
    for engine, correction in ((False, False), (False, True), (True, False), (True, True)):
        trainer = SimpleNamespace(args=args, use_vllm=engine, vllm_importance_sampling_correction=correction)
        assert remembers_old_policy(trainer) == (engine and correction)


def _controlled() -> ControlledClipCov:
    dual = Dual(target=2.69, initial=0.01, maximum=1.0, learning_rate=0.7)
    return ControlledClipCov(dual, band=Quantiles(0.4, 1.0))


def test_the_controller_takes_one_step_for_each_optimiser_step(make_trainer: Make) -> None:
    control = _controlled()
    dual = control.dual
    trainer = make_trainer(entropy_control=control, gradient_accumulation_steps=2, max_steps=6)
    rows = _train(trainer)
    assert dual.problem.step == 6
    by_hand = _controlled().dual
    fractions = []
    for row in rows:  # TRL logs the mean over the micro-batches of a step
        fractions.append(float(by_hand.value.clamp(max=1.0)))
        by_hand.update(torch.tensor(row["entropy"]))
    assert _values(rows, "entroreg/fraction") == pytest.approx(fractions, rel=0.02)
    assert fractions[-1] > fractions[0]
    state = dual.value.clone()
    trainer.evaluate()
    assert dual.problem.step == 6
    assert dual.value == state
    assert trainer.state.log_history[-1]["eval_entroreg/fraction"] == pytest.approx(float(state.clamp(max=1.0)))


def test_controlled_clip_cov_holds_entropy_above_stock(make_trainer: Make) -> None:
    stock = _train(make_trainer(output="stock"))
    rows = _train(make_trainer(entropy_control=_controlled()))
    assert _end(stock, "entropy") < 1.0
    assert _end(rows, "entropy") > 1.5 * _end(stock, "entropy")
    assert _values(rows, "entroreg/fraction")[0] == pytest.approx(0.01)
    assert _values(rows, "entroreg/share_selected")[0] > 0.0  # in our band; in the default one no covariance is
    assert max(_values(rows, "entroreg/fraction")) > 0.2


def test_the_controller_survives_a_checkpoint(make_trainer: Make, tmp_path: Path) -> None:
    first, second = _controlled(), _controlled()
    saving = {"save_strategy": "steps", "save_steps": 3}
    _train(make_trainer(entropy_control=first, max_steps=3, **saving))
    resumed = make_trainer(entropy_control=second, max_steps=6, **saving)
    _train(resumed, resume_from_checkpoint=True)
    assert first.dual.problem.step == 3
    assert second.dual.problem.step == 6
    assert second.dual.value != first.dual.value
    fraction = [row["entroreg/fraction"] for row in resumed.state.log_history if "entroreg/fraction" in row]
    assert fraction[3] == pytest.approx(float(first.dual.value))
    assert (tmp_path / "out" / "checkpoint-6" / "entroreg").is_dir()


def test_a_checkpoint_without_the_controller_is_refused(make_trainer: Make) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    _train(make_trainer(entropy_control=ClipCov(), **saving))
    trainer = make_trainer(entropy_control=_controlled(), **(saving | {"max_steps": 4}))
    with pytest.raises(
        FileNotFoundError, match=r"entroreg must hold the state of ControlledClipCov's dual, and is not"
    ):
        trainer.train(resume_from_checkpoint=True)


def test_it_goes_before_a_trainer_of_ones_own(make_trainer: Make) -> None:
    class Theirs(trl.GRPOTrainer):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            self.seen = inputs["completion_mask"].shape
            return super()._compute_loss(model, inputs) + 3.0

    class Mine(GRPOTrainer, Theirs):
        pass

    rows = _train(make_trainer(Mine, entropy_control=PPOClip(), max_steps=2))
    plain = _train(make_trainer(output="plain", entropy_control=PPOClip(), max_steps=2))
    for name, shift in (("loss", 3.0), ("reward", 0.0), ("grad_norm", 0.0)):
        assert _values(rows, name) == pytest.approx([value + shift for value in _values(plain, name)], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "cispo"}, "loss_type must be 'grpo', 'bnpo', 'dr_grpo' or 'dapo', .* got 'cispo'"),
        ({"loss_type": "sapo"}, "loss_type must be .* got 'sapo': its own policy loss"),
        ({"loss_type": "vespo"}, "got 'vespo'"),
        ({"loss_type": "luspo"}, "got 'luspo'"),
        (
            {"importance_sampling_level": "sequence", "loss_type": "grpo"},
            "importance_sampling_level must be 'token', got 'sequence'",
        ),
        ({"delta": 4.0}, "delta must be None, got 4.0"),
        ({"epsilon": 0.1}, r"epsilon and epsilon_high must be left alone, got \(0.1, 0.1\): .* PPOClip\(clip="),
        ({"epsilon_high": 0.28}, r"got \(0.2, 0.28\)"),
    ],
    ids=str,
)
def test_settings_that_it_replaces_are_refused(make_trainer: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(entropy_control=ClipCov(), **settings)


def test_a_control_that_is_none_is_refused(make_trainer: Make) -> None:
    with pytest.raises(TypeError, match=r"^entropy_control must be callable, such as ClipCov\(\) .* got str$"):
        make_trainer(entropy_control="clip_cov")
