"""verl's own functions as the oracle, its worker's loss as the caller, and the edges at which its own give NaN."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("verl", reason="needs entroreg[verl], which make test does not install")

from tensordict import TensorDict
from verl.trainer.ppo.core_algos import (
    compute_policy_loss_clip_cov,
    compute_policy_loss_kl_cov,
    get_policy_loss_fn,
)
from verl.utils import tensordict_utils
from verl.workers.config import ActorConfig, PolicyLossConfig
from verl.workers.utils.losses import ppo_loss

from entroreg.integrations.verl import clip_cov, kl_cov

MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
NAMED = {"clip_cov": (clip_cov, compute_policy_loss_clip_cov), "kl_cov": (kl_cov, compute_policy_loss_kl_cov)}
EACH = pytest.mark.parametrize("name", NAMED)


def _config(
    mode: str = "token-mean",
    *,
    low: float | None = 0.2,
    high: float | None = 0.2,
    info: Any = None,
    **policy_loss: Any,
) -> Any:
    return ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=4,
        clip_ratio=0.2,
        clip_ratio_low=low,
        clip_ratio_high=high,
        policy_loss=PolicyLossConfig(**policy_loss),
        loss_agg_mode=mode,
        global_batch_info=info or {},
    )


def _inputs(seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)
    batch, length = int(rng.integers(2, 6)), int(rng.integers(2, 12))
    old = -rng.exponential(rng.uniform(0.2, 2.0), (batch, length))
    mask = rng.random((batch, length)) < 0.8
    mask[0, 0] = True
    mask[1] &= rng.random() < 0.7  # sometimes a sequence without a token
    return {
        "old_log_prob": torch.tensor(old),
        "log_prob": torch.tensor(np.minimum(old + rng.normal(0.0, 0.4, old.shape), 0.0)),
        "advantages": torch.tensor(rng.normal(0.0, 1.5, old.shape)),
        "response_mask": torch.tensor(mask),
    }


def _loss_and_gradient(function: Any, inputs: dict[str, Tensor], **settings: Any) -> tuple[Tensor, Tensor, Any]:
    leaf = inputs["log_prob"].clone().requires_grad_(True)
    loss, metrics = function(**(inputs | {"log_prob": leaf}), **settings)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad, metrics


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "rollout-weights"])
@pytest.mark.parametrize("mode", MODES)
@EACH
def test_verls_own_functions_where_theirs_are_defined(name: str, mode: str, weighted: bool) -> None:
    ours, theirs = NAMED[name]
    largest = 0.0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        inputs = _inputs(seed)
        low, high = (float(value) for value in rng.uniform(0.05, 1.0, 2))
        floor, ceiling = (float(value) for value in np.sort(rng.uniform(-0.5, 5.0, 2)))
        info = {"dp_size": 2, "batch_num_tokens": 31, "global_batch_size": 7, "loss_scale_factor": 9}
        # With a ratio of 1 every candidate is chosen: no random choice that would differ.
        config = _config(
            low=low,
            high=high,
            info=info if seed % 2 else None,
            clip_cov_ratio=1.0,
            clip_cov_lb=floor,
            clip_cov_ub=ceiling,
            kl_cov_ratio=float(rng.choice([2e-4, 0.05, 0.3, 1.0])),
            ppo_kl_coef=float(rng.uniform(0.05, 1.5)),
        )
        weights = torch.tensor(rng.uniform(0.2, 2.0, inputs["log_prob"].shape)) if weighted else None
        settings = {"loss_agg_mode": mode, "config": config, "rollout_is_weights": weights}
        expected, gradient, _ = _loss_and_gradient(theirs, inputs, **settings)
        found, found_gradient, _ = _loss_and_gradient(ours, inputs, **settings)
        largest = max(largest, float((found - expected).abs()), float((found_gradient - gradient).abs().max()))
    assert largest < 1e-6  # verl's mean of a sequence adds 1e-8 to its length; all else agrees to 1e-15
    assert mode == "seq-mean-token-mean" or largest < 1e-13


def test_as_many_tokens_lose_their_gradient_as_verl_would_choose() -> None:
    for seed in range(20):
        inputs = _inputs(seed)
        config = _config(clip_cov_ratio=0.2, clip_cov_lb=-0.5, clip_cov_ub=5.0)
        (_, theirs, _), (_, ours, metrics) = (
            _loss_and_gradient(function, inputs, config=config)
            for function in (compute_policy_loss_clip_cov, clip_cov)
        )
        mask = inputs["response_mask"]
        assert int((ours[mask] == 0.0).sum()) == int((theirs[mask] == 0.0).sum())
        assert metrics["entroreg/share_selected"] <= max(0.2, 1.0 / int(mask.sum())) + 1e-6


@EACH
def test_the_name_is_registered(name: str) -> None:
    assert get_policy_loss_fn(f"entroreg_{name}") is NAMED[name][0]
    assert get_policy_loss_fn(name) is NAMED[name][1]


def test_a_worker_that_imports_verl_alone_has_the_losses() -> None:
    if not [point for point in entry_points(group="verl.plugins") if point.name == "entroreg"]:
        pytest.skip("entroreg is importable here, but not installed, so that it has no entry points")
    code = (
        "from verl.trainer.ppo.core_algos import get_policy_loss_fn\n"
        "print(*(get_policy_loss_fn(name).__module__ for name in ('entroreg_clip_cov', 'entroreg_kl_cov')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "entroreg.integrations.verl entroreg.integrations.verl"


@pytest.mark.parametrize("mode", MODES)
@EACH
def test_verls_worker_calls_it(name: str, mode: str) -> None:
    """The loss of verl's actor worker, from flat log-probabilities to metrics, with our name and with verl's."""
    inputs = _inputs(3)
    mask = inputs["response_mask"]
    batch, length = mask.shape
    shifted = torch.nn.functional.pad(
        inputs["log_prob"], (0, 1)
    )  # behind a prompt of one token, as the model has it
    losses = []
    for loss_mode in (name, f"entroreg_{name}"):
        data = TensorDict(
            {
                "prompts": torch.ones(batch, 1, dtype=torch.long),
                "responses": torch.ones(batch, length, dtype=torch.long),
                "attention_mask": torch.ones(batch, length + 1, dtype=torch.long),
                "response_mask": mask,
                "old_log_probs": inputs["old_log_prob"],
                "advantages": inputs["advantages"],
            },
            batch_size=batch,
        )
        tensordict_utils.assign_non_tensor(data, dp_size=1, batch_num_tokens=20, global_batch_size=5)
        config = _config(mode, loss_mode=loss_mode, clip_cov_ratio=1.0, clip_cov_lb=0.3, kl_cov_ratio=0.2)
        loss, metrics = ppo_loss(config, {"log_probs": shifted.reshape(-1)}, data)
        losses.append(float(loss))
        names = set(metrics)
    assert losses[1] == pytest.approx(losses[0], abs=1e-7)
    assert {"actor/pg_loss", "actor/pg_clipfrac", "actor/ppo_kl", "entroreg/covariance"} <= names


@EACH
def test_metrics_are_numbers_of_the_micro_batch(name: str) -> None:
    inputs = _inputs(5)
    mask = inputs["response_mask"]
    _, _, metrics = _loss_and_gradient(NAMED[name][0], inputs, config=_config(kl_cov_ratio=0.3, low=0.1, high=0.1))
    now, old, advantages = (inputs[key][mask] for key in ("log_prob", "old_log_prob", "advantages"))
    ratio = (now - old).exp()
    clipped = ((ratio > 1.1) & (advantages > 0)) | ((ratio < 0.9) & (advantages < 0))
    assert all(isinstance(value, float) for value in metrics.values())
    assert metrics["actor/ppo_kl"] == pytest.approx(float((ratio - 1 - (now - old)).mean()), abs=1e-6)
    covariance = ((now - now.mean()) * (advantages - advantages.mean())).mean()
    assert metrics["entroreg/covariance"] == pytest.approx(float(covariance), abs=1e-6)
    share = float(clipped.double().mean()) if name == "clip_cov" else 0.0
    assert metrics["actor/pg_clipfrac"] == metrics["entroreg/share_clipped"] == pytest.approx(share)


@pytest.mark.parametrize("mode", MODES)
@EACH
def test_an_empty_mask_is_0_where_verls_is_not(name: str, mode: str) -> None:
    inputs = _inputs(0) | {"response_mask": torch.zeros_like(_inputs(0)["response_mask"])}
    loss, gradient, metrics = _loss_and_gradient(NAMED[name][0], inputs, loss_agg_mode=mode, config=_config())
    assert float(loss) == 0.0
    assert not bool(gradient.any())
    assert not any(np.isnan(value) for value in metrics.values())


@EACH
def test_what_stands_at_masked_places_does_not_matter(name: str) -> None:
    inputs = _inputs(2)
    mask = inputs["response_mask"]
    weights = torch.ones(mask.shape, dtype=torch.float64)
    spoilt = {key: value if value is mask else value.masked_fill(~mask, torch.nan) for key, value in inputs.items()}
    config = _config(clip_cov_ratio=1.0, clip_cov_lb=0.1, kl_cov_ratio=0.3)
    settings = {"config": config, "loss_agg_mode": "seq-mean-token-sum"}
    expected, gradient, _ = _loss_and_gradient(NAMED[name][0], inputs, rollout_is_weights=weights, **settings)
    weights = weights.masked_fill(~mask, torch.nan)
    found, found_gradient, _ = _loss_and_gradient(NAMED[name][0], spoilt, rollout_is_weights=weights, **settings)
    assert not bool(mask.all())
    assert found == expected
    torch.testing.assert_close(found_gradient, gradient, atol=0.0, rtol=0.0)


@EACH
def test_an_overflowing_ratio_stays_finite(name: str) -> None:
    inputs = {key: value.float() if value.is_floating_point() else value for key, value in _inputs(4).items()}
    inputs["old_log_prob"] = inputs["old_log_prob"] - 200.0
    loss, gradient, _ = _loss_and_gradient(NAMED[name][0], inputs, config=_config(clip_cov_ratio=1.0))
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


def test_a_mask_of_numbers_and_clips_of_none() -> None:
    inputs = _inputs(6)
    numbers = inputs | {"response_mask": inputs["response_mask"].long()}
    expected, gradient, _ = _loss_and_gradient(clip_cov, inputs, config=_config(clip_cov_lb=9.0, clip_cov_ub=10.0))
    config = _config(low=None, high=None, clip_cov_lb=9.0, clip_cov_ub=10.0)
    found, found_gradient, _ = _loss_and_gradient(clip_cov, numbers, config=config)
    assert found == expected
    assert bool((found_gradient == gradient).all())


@EACH
def test_what_is_refused(name: str) -> None:
    function, inputs = NAMED[name][0], _inputs(0)
    with pytest.raises(TypeError, match=r"^config must be verl's actor config, with policy_loss, got NoneType$"):
        function(**inputs)
    with pytest.raises(ValueError, match=r"^fraction must be in \(0, 1\], got 2.0$"):
        function(**inputs, config=_config(clip_cov_ratio=2.0, kl_cov_ratio=2.0))
    with pytest.raises(ValueError, match="dp_size > 1"):
        function(**inputs, config=_config(info={"dp_size": 2}))
    with pytest.raises(ValueError, match=r"^Invalid loss_agg_mode: mean$"):
        function(**inputs, config=_config(), loss_agg_mode="mean")
