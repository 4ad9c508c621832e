"""TRL's own loss as the oracle: with its clip as ``entropy_control``, ours is TRL's on the same batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from entroreg import Dual
from entroreg.policy_gradient import ClipCov, ControlledClipCov, KLCov, PPOClip, reinforce_loss

pytest.importorskip("trl", reason="needs entroreg[llm]")

LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo")
ACCUMULATED = 3


def _batch(trainer: Any, *, per_token: bool = False, spread: float = 0.4) -> dict[str, Any]:
    """A micro-batch as TRL has it after generation: ragged, one sequence without a token, old policy elsewhere."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 15, (5, 10), generator=generator)
    lengths = torch.tensor([6, 3, 0, 5, 1])
    mask = (torch.arange(6) < lengths[:, None]).long()
    prompt_mask = torch.ones(5, 4, dtype=torch.long)
    with torch.no_grad():
        scored = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, torch.cat([prompt_mask, mask], dim=1), 6, compute_entropy=True
        )[0]
    noise = torch.randn(3, 5, 6, generator=generator)
    return {
        "prompt_ids": ids[:, :4],
        "prompt_mask": prompt_mask,
        "completion_ids": ids[:, 4:],
        "completion_mask": mask,
        "advantages": noise[0] if per_token else noise[0, :, 0],
        "old_per_token_logps": scored + spread * noise[1],
        "ref_per_token_logps": scored + 0.3 * noise[2],
        "importance_sampling_ratio": torch.rand(5, 6, generator=generator) + 0.5,
        "num_items_in_batch": torch.tensor(40),
    }


def _loss_and_gradients(trainer: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    trainer.current_gradient_accumulation_steps = ACCUMULATED
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), torch.cat([parameter.grad.reshape(-1) for parameter in trainer.model.parameters()])


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reference": {"beta": 0.1},
    "reference-uncorrected": {"beta": 0.1, "use_bias_correction_kl": False},
    "entropy-bonus": {"entropy_coef": 0.05, "beta": 0.1},
    "adaptive-entropy": {"use_adaptive_entropy": True, "entropy_coef": 0.05, "entropy_target": 9.0},
    "high-entropy-tokens": {"top_entropy_quantile": 0.5},
    "off-policy-mask": {"off_policy_mask_threshold": 0.02},
    "clip-higher": {"epsilon_high": 0.28},
    "token-advantages": {"off_policy_mask_threshold": 0.02},
}
SIDES = ("low_mean", "low_min", "high_mean", "high_max")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_with_trls_clip_it_is_trls_loss(make_trainer: Callable[..., Any], loss_type: str, variant: str) -> None:
    steps = {"gradient_accumulation_steps": ACCUMULATED, "steps_per_generation": 2 * ACCUMULATED}
    settings = VARIANTS[variant] | steps | {"loss_type": loss_type}
    stock = make_trainer(**settings)
    ours = make_trainer(entropy_control=PPOClip(clip=(0.2, settings.get("epsilon_high", 0.2))), **settings)
    batch = _batch(stock, per_token=variant == "token-advantages")
    expected, expected_gradients = _loss_and_gradients(stock, batch)
    loss, gradients = _loss_and_gradients(ours, batch)
    assert abs(float(expected)) > 1e-4
    assert float(expected_gradients.abs().max()) > 1e-2
    torch.testing.assert_close(loss, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, atol=3e-7, rtol=1e-5)
    logged, logged_by_trl = ours._metrics["train"], stock._metrics["train"]
    assert set(logged_by_trl) - set(logged) == {f"clip_ratio/{name}" for name in SIDES}
    assert logged_by_trl["clip_ratio/region_mean"][0] > 0.1
    for name in set(logged) & set(logged_by_trl):
        assert logged[name] == pytest.approx(logged_by_trl[name], abs=1e-6), name


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_vllms_importance_ratio_weighs_the_tokens(make_trainer: Callable[..., Any], loss_type: str) -> None:
    trainers = make_trainer(loss_type=loss_type), make_trainer(loss_type=loss_type, entropy_control=PPOClip())
    batch = _batch(trainers[0])
    for trainer in trainers:  # no engine is needed for the loss
        trainer.use_vllm, trainer.vllm_importance_sampling_correction = True, True
    (expected, expected_gradients), (loss, gradients) = (_loss_and_gradients(each, batch) for each in trainers)
    torch.testing.assert_close(loss, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, atol=3e-7, rtol=1e-5)
    batch["importance_sampling_ratio"] = torch.ones(5, 6)
    assert float((_loss_and_gradients(trainers[1], batch)[1] - gradients).abs().max()) > 1e-3


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_evaluation_is_not_divided_by_accumulation(make_trainer: Callable[..., Any], loss_type: str) -> None:
    losses = []
    for control in ({}, {"entropy_control": PPOClip()}):
        trainer = make_trainer(loss_type=loss_type, steps_per_generation=2, **control)
        trainer.current_gradient_accumulation_steps = ACCUMULATED
        batch = _batch(trainer)
        trainer.model.eval()
        with torch.no_grad():
            losses.append(trainer._compute_loss(trainer.model, batch))
        assert len(trainer._metrics["eval"]["entropy"]) == 1
    torch.testing.assert_close(losses[1], losses[0], atol=1e-7, rtol=1e-6)


def test_the_metrics_are_those_of_the_control(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(entropy_control=KLCov(fraction=0.2), num_iterations=2)
    batch = _batch(trainer)
    _loss_and_gradients(trainer, batch)
    mask = batch["completion_mask"].bool()
    ids, attention = (
        torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], 1) for name in ("ids", "mask")
    )
    with torch.no_grad():
        now = trainer._get_per_token_logps_and_entropies(trainer.model, ids, attention, 6)[0][mask].double()
    advantages = batch["advantages"][:, None].expand(5, 6)[mask].double()
    covariances = (now - now.mean()) * (advantages - advantages.mean())
    ratio = now - batch["old_per_token_logps"][mask]
    expected = {
        "covariance": covariances.mean(),
        "covariance_quantile_0": covariances.min(),
        "covariance_quantile_0.5": covariances.quantile(0.5),
        "covariance_quantile_0.99": covariances.quantile(0.99),
        "covariance_quantile_1": covariances.max(),
        "share_selected": 3 / 15,
        "share_clipped": 0.0,
        "share_inert": 0.0,
        "kl": (ratio.exp() - 1 - ratio).mean(),
    }
    for name, value in expected.items():
        assert trainer._metrics["train"][f"entroreg/{name}"] == [pytest.approx(float(value), abs=1e-5)], name


def test_the_penalty_of_kl_cov_is_beside_trls_reference(make_trainer: Callable[..., Any]) -> None:
    """KL-Cov minus REINFORCE is the penalty, however TRL weighs tokens and whatever else is in its loss."""
    settings = {"loss_type": "dr_grpo", "beta": 0.1, "entropy_coef": 0.05, "num_iterations": 2}
    plain = make_trainer(entropy_control=reinforce_loss, **settings)
    penalised = make_trainer(entropy_control=KLCov(fraction=1.0, beta=0.7), **settings)
    batch = _batch(plain)
    difference = _loss_and_gradients(penalised, batch)[0] - _loss_and_gradients(plain, batch)[0]
    noise = torch.randn(3, 5, 6, generator=_after_the_other_draws())
    moved = (0.4 * noise[1]).abs() * batch["completion_mask"]
    assert float(difference) == pytest.approx(0.7 * float(moved.sum()) / (5 * 8) / ACCUMULATED, rel=1e-4)


def _after_the_other_draws() -> torch.Generator:
    generator = torch.Generator().manual_seed(3)
    torch.randint(2, 15, (5, 10), generator=generator)
    return generator


def test_chosen_tokens_get_no_gradient(make_trainer: Callable[..., Any]) -> None:
    """Clip-Cov that may cut every token leaves nothing of the policy's gradient, and all of the reference's."""
    everything = ClipCov(fraction=1.0, band=(-1e9, 1e9), clip=(1.0, 1e9))
    trainer = make_trainer(entropy_control=everything)
    loss, gradients = _loss_and_gradients(trainer, _batch(trainer))
    assert float(loss) == 0.0
    assert not bool(gradients.any())
    assert trainer._metrics["train"]["entroreg/share_selected"] == [1.0]
    trainer = make_trainer(entropy_control=everything, beta=0.1)
    assert float(_loss_and_gradients(trainer, _batch(trainer))[1].abs().max()) > 1e-3


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_batch_of_truncated_completions_only_is_a_loss_of_0(
    make_trainer: Callable[..., Any], loss_type: str
) -> None:
    trainer = make_trainer(entropy_control=ClipCov(), loss_type=loss_type)
    batch = _batch(trainer)
    batch["completion_mask"] = torch.zeros_like(batch["completion_mask"])
    batch["num_items_in_batch"] = torch.tensor(0)
    loss, gradients = _loss_and_gradients(trainer, batch)
    assert float(loss) == 0.0
    assert bool((gradients == 0.0).all())


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_an_overflowing_ratio_stays_finite(make_trainer: Callable[..., Any], beta: float) -> None:
    trainer = make_trainer(entropy_control=PPOClip(), beta=beta, use_bias_correction_kl=False)
    batch = _batch(trainer)
    batch["old_per_token_logps"] = batch["old_per_token_logps"] - 200.0
    loss, gradients = _loss_and_gradients(trainer, batch)
    assert bool(loss.isfinite())
    assert bool(gradients.isfinite().all())


def test_the_clip_of_a_controlled_loss_is_in_force(make_trainer: Callable[..., Any]) -> None:
    dual = Dual(target=1.0, initial=0.1, maximum=1.0)
    nothing_to_cut = ControlledClipCov(dual, band=(1e8, 1e9), clip=(0.2, 0.2))
    trainers = make_trainer(), make_trainer(entropy_control=nothing_to_cut)
    batch = _batch(trainers[0])
    (expected, expected_gradients), (loss, gradients) = (_loss_and_gradients(each, batch) for each in trainers)
    torch.testing.assert_close(loss, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, atol=3e-7, rtol=1e-5)


def test_nan_is_named(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(entropy_control=ClipCov())
    batch = _batch(trainer)
    batch["old_per_token_logps"][1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"^old_log_probs is NaN in 1 of 15 kept tokens, first at \(1, 2\)"):
        _loss_and_gradients(trainer, batch)


def test_tool_tokens_are_left_out(make_trainer: Callable[..., Any]) -> None:
    trainers = make_trainer(), make_trainer(entropy_control=PPOClip())
    batch = _batch(trainers[0])
    batch["tool_mask"] = torch.ones(5, 6, dtype=torch.long)
    batch["tool_mask"][:, 1] = 0
    (expected, expected_gradients), (loss, gradients) = (_loss_and_gradients(each, batch) for each in trainers)
    torch.testing.assert_close(loss, expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(gradients, expected_gradients, atol=3e-7, rtol=1e-5)
