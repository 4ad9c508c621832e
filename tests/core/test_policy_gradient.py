"""The policy-gradient losses: against verl's own, by hand, at their edges, and divided among processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from entroreg import Dual
from entroreg.policy_gradient import (
    ClipCov,
    ConstantLength,
    ControlledClipCov,
    KLCov,
    PolicyLoss,
    PolicyMetrics,
    PPOClip,
    Quantiles,
    clip_cov_loss,
    kl_cov_loss,
    ppo_clip_loss,
    reinforce_loss,
    sequence_mean,
    token_mean,
)

VERL = Path(__file__).with_name("data") / "verl_vectors.npz"
Loss = Callable[..., tuple[Tensor, PolicyMetrics]]
LOSSES: dict[str, Loss] = {
    "reinforce": reinforce_loss,
    "ppo": ppo_clip_loss,
    "clip-cov": lambda *a, **k: clip_cov_loss(*a, band=(0.01, 5.0), fraction=0.2, clip=(0.2, 0.2), **k),
    "kl-cov": lambda *a, **k: kl_cov_loss(*a, fraction=0.2, **k),
}
EACH = pytest.mark.parametrize("loss_fn", LOSSES.values(), ids=LOSSES)


def _batch(seed: int, batch: int = 4, length: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    old = -rng.exponential(1.0, (batch, length))
    new = np.minimum(old + rng.normal(0.0, 0.3, old.shape), -1e-3)
    mask = rng.random(old.shape) < 0.8
    mask[0, 0] = True
    return torch.tensor(new), torch.tensor(old), torch.tensor(rng.normal(0.0, 1.0, old.shape)), torch.tensor(mask)


@pytest.mark.parametrize("name", ["clip", "kl"])
def test_verls_own_functions_on_200_inputs(name: str) -> None:
    recorded = np.load(VERL)
    assert str(recorded["verl"]) == "0.9.0"
    differences = []
    for case in range(200):
        new, old, advantages, mask = torch.tensor(recorded[f"{case}.inputs"])
        mode, low, high, floor, ceiling, fraction, beta = recorded[f"{case}.settings"].tolist()
        reduction = (token_mean, sequence_mean, ConstantLength(new.shape[1]))[int(mode)]
        if int(mode) == 2:  # verl divides by the sequences that keep a token, we by all
            reduction = _norm_of_verl(new.shape[1])
        leaf = new.clone().requires_grad_(True)
        keep = mask.bool()
        if name == "clip":
            loss, _ = clip_cov_loss(
                leaf,
                old,
                advantages,
                keep,
                fraction=1.0,
                band=(floor, ceiling),
                clip=(low, high),
                reduction=reduction,
            )
        else:
            loss, _ = kl_cov_loss(leaf, old, advantages, keep, fraction=fraction, beta=beta, reduction=reduction)
        loss.backward()
        ours = np.concatenate([[loss.item()], leaf.grad.numpy().ravel()])  # type: ignore[union-attr]
        differences.append(np.abs(ours - recorded[f"{case}.{name}"]).max())
    print(f"{name}: largest difference {max(differences):.1e}")
    assert max(differences) <= 1e-6  # verl adds 1e-8 to its counts


def _norm_of_verl(length: int) -> Any:
    def reduce(losses: Tensor, mask: Tensor, group: Any = None) -> Tensor:
        return torch.where(mask, losses, 0.0).sum() / mask.any(dim=1).sum() / length

    return reduce


@EACH
@given(seed=st.integers(0, 10_000), per_sequence=st.booleans())
def test_masked_is_deleted(loss_fn: Loss, seed: int, per_sequence: bool) -> None:
    # One sequence with one advantage has covariances of 0, among which rounding would choose.
    assume(not (per_sequence and loss_fn is LOSSES["kl-cov"]))
    new, old, advantages, mask = _batch(seed, batch=1, length=8)
    if per_sequence:
        advantages = advantages[:, 0]
    spoiled = [torch.where(mask, value, math.nan) for value in (new, old)]
    leaf = spoiled[0].clone().requires_grad_(True)
    loss, metrics = loss_fn(leaf, spoiled[1], advantages, mask, **_generator(loss_fn))
    loss.backward()
    kept = [value[mask][None] for value in (new, old)]
    alone = kept[0].clone().requires_grad_(True)
    short = advantages if per_sequence else advantages[mask][None]
    expected, of_kept = loss_fn(alone, kept[1], short, **_generator(loss_fn))
    expected.backward()
    if loss_fn is not LOSSES["clip-cov"]:  # whose random numbers are one for each place, masked or not
        assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
        torch.testing.assert_close(leaf.grad[mask][None], alone.grad)  # type: ignore[index]
    assert leaf.grad[~mask].abs().sum() == 0.0  # type: ignore[index]
    for ours, theirs in zip(metrics, of_kept, strict=True):
        torch.testing.assert_close(ours, theirs)


def _generator(loss_fn: Loss) -> dict[str, Any]:
    return {"generator": torch.Generator().manual_seed(0)} if loss_fn is LOSSES["clip-cov"] else {}


@EACH
def test_an_empty_mask_gives_0_with_gradient_0(loss_fn: Loss) -> None:
    new, old, advantages, mask = _batch(0)
    for reduction in (token_mean, sequence_mean, ConstantLength(6)):
        leaf = new.clone().requires_grad_(True)
        loss, metrics = loss_fn(leaf, old, advantages, torch.zeros_like(mask), reduction=reduction)
        loss.backward()
        assert loss.item() == 0.0
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))  # type: ignore[arg-type]
        assert all(torch.equal(value, torch.zeros_like(value)) for value in metrics)


@EACH
def test_no_rows_at_all(loss_fn: Loss) -> None:
    nothing = torch.zeros(0, 5)
    assert loss_fn(nothing, nothing, nothing)[0].item() == 0.0


@EACH
@pytest.mark.parametrize("impossible", ["old", "new", "both"])
def test_an_infinite_ratio_stays_finite(loss_fn: Loss, impossible: str) -> None:
    new, old, advantages, mask = _batch(1)
    if impossible != "new":
        old[0, 0] = -math.inf
    if impossible != "old":
        new[0, 0] = -math.inf
    for sign in (1.0, -1.0, 0.0):
        advantages[0, 0] = sign
        leaf = new.clone().requires_grad_(True)
        loss, metrics = loss_fn(leaf, old, advantages, mask)
        loss.backward()
        assert math.isfinite(loss.item())
        assert bool(leaf.grad.isfinite().all())  # type: ignore[union-attr]
        assert all(bool(value.isfinite().all()) for value in metrics)


def test_a_chosen_token_whose_loss_overflowed_has_no_gradient() -> None:
    new = torch.tensor([[-0.1, -0.1, -0.1, 0.0]], requires_grad=True)
    old = torch.tensor([[-0.1, -0.1, -0.1, -300.0]])
    advantages = torch.tensor([[0.0, 0.0, 0.0, -60.0]])
    loss, metrics = clip_cov_loss(new, old, advantages, band=(-10.0, -1.0), fraction=1.0)
    loss.backward()
    assert metrics.share_selected.item() == 0.25
    assert torch.equal(new.grad, torch.zeros(1, 4))  # type: ignore[arg-type]


@EACH
def test_on_policy_the_gradient_is_the_policy_gradient(loss_fn: Loss) -> None:
    new, _, advantages, mask = _batch(2)
    leaf = new.clone().requires_grad_(True)
    loss, metrics = loss_fn(leaf, new, advantages, mask)
    loss.backward()
    gradient = -torch.where(mask, advantages, 0.0) / mask.sum()
    if loss_fn is LOSSES["clip-cov"]:
        cut = leaf.grad == 0.0  # type: ignore[union-attr]
        assert (cut & mask).sum() / mask.sum() == pytest.approx(metrics.share_selected.item())
        gradient = torch.where(cut, 0.0, gradient)
    if loss_fn is LOSSES["kl-cov"]:
        assert metrics.share_inert.item() == 1.0
    torch.testing.assert_close(leaf.grad, gradient)


def test_kl_cov_ignores_differences_below_the_resolution() -> None:
    new = torch.tensor([[-5.0, -0.5, -0.5]], dtype=torch.float32)
    old = new.clone()
    old[0, 0] = torch.nextafter(old[0, 0], torch.tensor(0.0))
    advantages = torch.tensor([[-3.0, 0.0, 0.0]])
    leaf = new.clone().requires_grad_(True)
    loss, metrics = kl_cov_loss(leaf, old, advantages, fraction=1e-3, beta=100.0)
    loss.backward()
    assert metrics.share_inert.item() == 1.0
    assert leaf.grad[0, 0].item() == pytest.approx(1.0)  # type: ignore[index]


@given(seed=st.integers(0, 10_000), shift=st.floats(-5.0, 5.0))
def test_the_choice_does_not_change_when_both_are_shifted(seed: int, shift: float) -> None:
    new, old, advantages, mask = _batch(seed)
    first = kl_cov_loss(new, old, advantages, mask, fraction=0.2)[1]
    second = kl_cov_loss(new - 1.0, old - 1.0, advantages + shift, mask, fraction=0.2)[1]
    torch.testing.assert_close(first.covariance_quantiles, second.covariance_quantiles, atol=1e-5, rtol=1e-5)
    assert first.share_selected == second.share_selected


@given(seed=st.integers(0, 10_000))
def test_metrics_by_hand(seed: int) -> None:
    new, old, advantages, mask = _batch(seed)
    entropy = torch.rand(new.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    _, metrics = ppo_clip_loss(new, old, advantages, mask, entropy=entropy)
    keep = mask.numpy()
    ratio = np.exp(new.numpy() - old.numpy())[keep]
    covariances = (advantages.numpy()[keep] - advantages.numpy()[keep].mean()) * (
        new.numpy()[keep] - new.numpy()[keep].mean()
    )
    gain = advantages.numpy()[keep]
    held = ((ratio > 1.2) & (gain > 0)) | ((ratio < 0.8) & (gain < 0))
    assert metrics.entropy.item() == pytest.approx(entropy.numpy()[keep].mean(), rel=1e-6)
    assert metrics.covariance.item() == pytest.approx(np.cov(gain, new.numpy()[keep], bias=True)[0, 1], abs=1e-6)
    quantiles = np.quantile(covariances, [0.0, 0.25, 0.5, 0.75, 0.99, 1.0])
    np.testing.assert_allclose(metrics.covariance_quantiles.numpy(), quantiles, atol=1e-6)
    assert metrics.share_clipped.item() == pytest.approx(held.mean(), abs=1e-6)
    assert metrics.kl.item() == pytest.approx((ratio - 1 - np.log(ratio)).mean(), rel=1e-5)
    assert metrics.share_selected.item() == metrics.share_inert.item() == 0.0
    estimated = ppo_clip_loss(new, old, advantages, mask)[1].entropy
    assert estimated.item() == pytest.approx(-new.numpy()[keep].mean(), rel=1e-6)


@given(seed=st.integers(0, 10_000), fraction=st.sampled_from([1e-3, 0.1, 0.5, 1.0]))
def test_clip_cov_cuts_its_number_of_the_candidates(seed: int, fraction: float) -> None:
    new, old, advantages, mask = _batch(seed, length=12)
    leaf = new.clone().requires_grad_(True)
    clip_cov_loss(leaf, old, advantages, mask, fraction=fraction, band=(0.05, 2.0), clip=(0.2, 0.2))[0].backward()
    plain = new.clone().requires_grad_(True)
    ppo_clip_loss(plain, old, advantages, mask)[0].backward()
    covariance = torch.where(mask, advantages - advantages[mask].mean(), 0.0) * (new - new[mask].mean())
    candidates = mask & (covariance > 0.05) & (covariance < 2.0) & (plain.grad != 0.0)  # type: ignore[operator]
    cut = (leaf.grad == 0.0) & (plain.grad != 0.0)  # type: ignore[union-attr]
    assert bool((candidates | ~cut).all())
    assert int(cut.sum()) == min(int(candidates.sum()), max(1, int(fraction * int(mask.sum()))))
    torch.testing.assert_close(leaf.grad[~cut], plain.grad[~cut])  # type: ignore[index]


def test_the_choice_is_uniform_and_follows_its_generator() -> None:
    new, old, advantages, _ = _batch(5, batch=1, length=10)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(10)
    for _ in range(2000):
        leaf = new.clone().requires_grad_(True)
        clip_cov_loss(leaf, new, advantages, fraction=0.3, band=(-9.0, 9.0), generator=generator)[0].backward()
        counts += (leaf.grad == 0.0)[0]  # type: ignore[index]
    assert counts.sum() == 6000
    # 600 expected, standard deviation 20.5
    assert (counts - 600.0).abs().max() < 90.0
    losses = [
        clip_cov_loss(
            new, old, advantages, fraction=0.3, band=(-9.0, 9.0), generator=torch.Generator().manual_seed(7)
        )
        for _ in range(2)
    ]
    assert torch.equal(losses[0][0], losses[1][0])


def test_quantiles_follow_the_batch() -> None:
    new, old, advantages, mask = _batch(6, length=40)
    for scale in (1.0, 100.0):
        _, metrics = clip_cov_loss(new, old, scale * advantages, mask, band=Quantiles(0.8, 1.0), fraction=1.0)
        assert metrics.share_selected.item() == pytest.approx(0.2, abs=0.02)
    _, absolute = clip_cov_loss(new, old, 1e-3 * advantages, mask)
    assert absolute.share_selected.item() == 0.0


@EACH
def test_gradients_by_differences(loss_fn: Loss) -> None:
    new, old, advantages, mask = _batch(3)
    settings = _generator(loss_fn)

    def value(leaf: Tensor) -> Tensor:
        if settings:
            settings["generator"].manual_seed(3)
        return loss_fn(leaf, old, advantages, mask, **settings)[0]

    assert torch.autograd.gradcheck(value, new.requires_grad_(True))


@EACH
def test_half_precision_is_summed_in_float32(loss_fn: Loss) -> None:
    new, old, advantages, mask = _batch(4)
    exact, _ = loss_fn(new, old, advantages, mask, **_generator(loss_fn))
    half, metrics = loss_fn(new.bfloat16(), old.bfloat16(), advantages.bfloat16(), mask, **_generator(loss_fn))
    assert half.dtype == metrics.entropy.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), abs=0.05)


@EACH
def test_bad_input(loss_fn: Loss) -> None:
    new, old, advantages, mask = _batch(0)
    with pytest.raises(TypeError, match=r"mask must be boolean .* got torch.float32: convert with mask.bool\(\)"):
        loss_fn(new, old, advantages, mask.float())
    with pytest.raises(ValueError, match=r"mask must have the shape of log_probs, \(4, 6\), got \(4, 5\)"):
        loss_fn(new, old, advantages, mask[:, 1:])
    with pytest.raises(ValueError, match=r"advantages must have .* \(4,\) or \(4, 1\), got \(6,\)"):
        loss_fn(new, old, advantages[0], mask)
    with pytest.raises(ValueError, match=r"old_log_probs must have the shape of log_probs"):
        loss_fn(new, old[1:], advantages, mask)
    with pytest.raises(TypeError, match=r"log_probs must be floating, got torch\.int64"):
        loss_fn(new.long(), old, advantages, mask)
    for position, name in enumerate(("log_probs", "old_log_probs", "advantages")):
        values = [new.clone(), old.clone(), advantages.clone()]
        values[position][0, 0] = math.nan
        with pytest.raises(ValueError, match=rf"{name} is NaN in 1 of \d+ kept tokens, first at \(0, 0\)"):
            loss_fn(*values, mask)
        leave = mask & ~values[position].isnan()
        assert math.isfinite(loss_fn(*values, leave)[0].item())


def test_bad_settings() -> None:
    new, old, advantages, _ = _batch(0)
    for band, text in (((5.0, 1.0), "low below high, got 5.0 and 1.0"), ((1.0, 1.0), "low below")):
        with pytest.raises(ValueError, match=text):
            clip_cov_loss(new, old, advantages, band=band)
    with pytest.raises(ValueError, match=r"quantiles must be in \[0, 1\], got 0\.5 and 1\.5"):
        clip_cov_loss(new, old, advantages, band=Quantiles(0.5, 1.5))
    for fraction in (0.0, -0.1, 1.1):
        for loss_fn in (clip_cov_loss, kl_cov_loss):
            with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\]"):
                loss_fn(new, old, advantages, fraction=fraction)
    with pytest.raises(ValueError, match=r"beta must be finite and at least 0, got -1\.0"):
        kl_cov_loss(new, old, advantages, beta=-1.0)
    for clip in ((-0.1, 0.2), (1.1, 0.2), (0.2, -0.2)):
        with pytest.raises(ValueError, match=r"clip (low|high) must be"):
            ppo_clip_loss(new, old, advantages, clip=clip)
    with pytest.raises(ValueError, match="length must be finite and above 0, got 0"):
        ConstantLength(0)


def test_the_controlled_share_rises_below_the_target_and_falls_above() -> None:
    new, old, advantages, mask = _batch(0)
    for target, rises in ((5.0, True), (0.01, False)):
        loss_fn = ControlledClipCov(
            Dual(target=target, initial=0.1, maximum=1.0, learning_rate=0.1), band=(-9.0, 9.0)
        )
        shares = [float(loss_fn.dual.value)]
        for _ in range(30):
            _, metrics = loss_fn(new, old, advantages, mask)
            count = max(1, int(shares[-1] * int(mask.sum())))
            assert metrics.share_selected.item() * int(mask.sum()) == pytest.approx(count)
            shares.append(float(loss_fn.dual.value))
        assert (shares[-1] > 0.9) == rises
        assert (shares[-1] < 0.01) == (not rises)
    with pytest.raises(ValueError, match="dual must have bound='lower', got 'upper'"):
        ControlledClipCov(Dual(target=1.0, bound="upper"))
    with pytest.raises(TypeError, match=r"dual must be an entroreg\.Dual, got float"):
        ControlledClipCov(0.1)  # type: ignore[arg-type]


def _worker(rank: int, port: int, results: Any) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    new, old, advantages, mask = _batch(11, batch=6, length=9)
    part = slice(0, 2) if rank == 0 else slice(2, 6)
    found: dict[str, Any] = {}
    for name, loss_fn in LOSSES.items():
        for word, reduction in (("token", token_mean), ("sequence", sequence_mean), ("length", ConstantLength(9))):
            leaf = new[part].clone().requires_grad_(True)
            settings = {"generator": torch.Generator().manual_seed(5)} if name == "clip-cov" else {}
            inputs = (leaf, old[part], advantages[part], mask[part])
            loss, metrics = loss_fn(*inputs, reduction=reduction, group=dist.group.WORLD, **settings)
            loss.backward()
            found[f"{name}, {word}"] = (loss.item(), leaf.grad.tolist(), [m.tolist() for m in metrics])  # type: ignore[union-attr]
    leaf = new[part].clone().requires_grad_(True)
    band = Quantiles(0.5, 0.9)
    loss, metrics = clip_cov_loss(
        leaf, old[part], advantages[part], mask[part], band=band, fraction=1.0, group=dist.group.WORLD
    )
    loss.backward()
    found["quantiles"] = (loss.item(), leaf.grad.tolist(), [m.tolist() for m in metrics])  # type: ignore[union-attr]
    results[rank] = found
    dist.destroy_process_group()


def test_two_processes_are_one() -> None:
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_worker, (_free_port(), results), nprocs=2)
        first, second = results[0], results[1]
    new, old, advantages, mask = _batch(11, batch=6, length=9)
    reductions = {"token": token_mean, "sequence": sequence_mean, "length": ConstantLength(9)}
    for key in first:
        leaf = new.clone().requires_grad_(True)
        if key == "quantiles":
            loss, metrics = clip_cov_loss(leaf, old, advantages, mask, band=Quantiles(0.5, 0.9), fraction=1.0)
        else:
            name, word = key.split(", ")
            settings = {"generator": torch.Generator().manual_seed(5)} if name == "clip-cov" else {}
            loss, metrics = LOSSES[name](leaf, old, advantages, mask, reduction=reductions[word], **settings)
        loss.backward()
        # DistributedDataParallel averages: so do we.
        assert (first[key][0] + second[key][0]) / 2 == pytest.approx(loss.item(), abs=1e-12), key
        joined = torch.tensor(first[key][1] + second[key][1], dtype=torch.float64) / 2
        torch.testing.assert_close(joined, leaf.grad, msg=key)
        for one, other, alone in zip(first[key][2], second[key][2], metrics, strict=True):
            assert one == other == pytest.approx(alone.tolist(), abs=1e-6), key


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@settings(max_examples=30)
@given(seed=st.integers(0, 1000))
def test_reductions_by_loop(seed: int) -> None:
    losses, _, _, mask = _batch(seed)
    rows = [[losses[b, t].item() for t in range(6) if mask[b, t]] for b in range(4)]
    kept = [value for row in rows for value in row]
    assert token_mean(losses, mask).item() == pytest.approx(sum(kept) / len(kept))
    means = [sum(row) / len(row) for row in rows if row]
    assert sequence_mean(losses, mask).item() == pytest.approx(sum(means) / len(means))
    assert ConstantLength(7)(losses, mask).item() == pytest.approx(sum(kept) / 4 / 7)


@pytest.mark.parametrize(
    ("control", "plain"),
    [
        (PPOClip(clip=(0.2, 0.28)), partial(ppo_clip_loss, clip=(0.2, 0.28))),
        (ClipCov(fraction=0.3, band=(0.0, 9.0)), partial(clip_cov_loss, fraction=0.3, band=(0.0, 9.0))),
        (KLCov(fraction=0.3, beta=0.5), partial(kl_cov_loss, fraction=0.3, beta=0.5)),
    ],
)
def test_a_control_is_its_loss_with_settings(control: PolicyLoss, plain: PolicyLoss) -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, advantages = torch.randn(3, 4, 6, generator=generator).unbind()
    torch.manual_seed(1)
    loss, metrics = control(new, old, advantages, new < 1.0, reduction=sequence_mean)
    torch.manual_seed(1)
    expected, expected_metrics = plain(new, old, advantages, new < 1.0, reduction=sequence_mean)
    assert loss == expected
    assert all(torch.equal(a, b) for a, b in zip(metrics, expected_metrics, strict=True))


@pytest.mark.parametrize(
    ("control", "settings", "message"),
    [
        (PPOClip, {"clip": (1.5, 0.2)}, r"clip low must be in \[0, 1\], got 1\.5"),
        (ClipCov, {"fraction": 0.0}, r"fraction must be in \(0, 1\], got 0\.0"),
        (ClipCov, {"band": (5.0, 1.0)}, "low below high, got 5.0 and 1.0"),
        (ClipCov, {"clip": (0.2, -0.1)}, "clip high must be finite and at least 0"),
        (KLCov, {"fraction": 1.5}, r"fraction must be in \(0, 1\], got 1\.5"),
        (KLCov, {"beta": -1.0}, "beta must be finite and at least 0"),
    ],
)
def test_a_control_refuses_bad_settings_when_made(control: type, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        control(**settings)
