"""Log-probability and entropy of tokens: against float64 NumPy, torch's own functions, and at the edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import entr, log_softmax
from torch import Tensor

from entroreg.measures import linear_token_logprob_entropy, token_logprob_entropy
from entroreg.measures import token as token_module


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _tokens(seed: int, size: int, *shape: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def _oracle(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rows = log_softmax(logits.double().numpy() / temperature, axis=-1)
    chosen = np.take_along_axis(rows, tokens.numpy()[..., None], axis=-1)[..., 0]
    return chosen, entr(np.exp(rows)).sum(axis=-1)


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(0, 5),
    size=st.integers(1, 9),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    offset=st.sampled_from([0.0, 1e4, -1e4]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
)
def test_values(seed: int, rows: int, size: int, scale: float, offset: float, temperature: float) -> None:
    logits, tokens = scale * _normal(seed, rows, size) + offset, _tokens(seed, size, rows)
    log_probs, entropy = token_logprob_entropy(logits, tokens, temperature)
    expected = _oracle(logits, tokens, temperature)
    np.testing.assert_allclose(log_probs.numpy(), expected[0], atol=1e-9)
    np.testing.assert_allclose(entropy.numpy(), expected[1], atol=1e-9)
    assert bool((entropy >= -1e-12).all())
    assert bool((entropy <= math.log(size) + 1e-12).all())


@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients(chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_module, "_CHUNK_ELEMENTS", chunk)
    logits, tokens = _normal(0, 2, 3, 4).requires_grad_(True), _tokens(1, 4, 2, 3)
    assert torch.autograd.gradcheck(lambda z: token_logprob_entropy(z, tokens, temperature), logits)
    weights = _normal(2, 2, 3), _normal(3, 2, 3)
    ours = token_logprob_entropy(logits, tokens, temperature)
    (gradient,) = torch.autograd.grad([(w * out).sum() for w, out in zip(weights, ours, strict=True)], logits)
    rows = torch.log_softmax(logits / temperature, dim=-1)
    chosen, entropy = rows.gather(-1, tokens[..., None])[..., 0], -(rows.exp() * rows).sum(dim=-1)
    (expected,) = torch.autograd.grad((weights[0] * chosen + weights[1] * entropy).sum(), logits)
    torch.testing.assert_close(gradient, expected, atol=1e-14, rtol=1e-12)


@given(seed=st.integers(0, 10_000))
def test_minus_infinity_is_deleted(seed: int) -> None:
    logits, mask = _normal(seed, 6), _normal(seed + 1, 6) > -0.3
    mask[2] = True
    tokens = torch.tensor([2])
    with_holes = torch.where(mask, logits, -math.inf)[None].requires_grad_(True)
    short = logits[mask][None].requires_grad_(True)
    place = mask[:2].sum()[None]
    ours, theirs = token_logprob_entropy(with_holes, tokens), token_logprob_entropy(short, place)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    (ours[0] + 2.0 * ours[1]).sum().backward()
    (theirs[0] + 2.0 * theirs[1]).sum().backward()
    torch.testing.assert_close(with_holes.grad[0][mask], short.grad[0])  # type: ignore[index]
    assert with_holes.grad[0][~mask].abs().sum() == 0.0  # type: ignore[index]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_extremes(temperature: float) -> None:
    logits = torch.tensor(
        [[-math.inf, -math.inf], [0.0, -math.inf], [1e4, -1e4], [3e38, -3e38]], requires_grad=True
    )
    log_probs, entropy = token_logprob_entropy(logits, torch.tensor([0, 1, 0, 0]), temperature)
    assert log_probs.tolist() == [-math.inf, -math.inf, 0.0, 0.0]
    assert entropy.tolist() == [0.0, 0.0, 0.0, 0.0]
    entropy.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(4, 2))  # type: ignore[arg-type]
    logits.grad = None
    log_probs, _ = token_logprob_entropy(logits, torch.tensor([0, 0, 0, 0]), temperature)
    log_probs.sum().backward()
    assert torch.equal(logits.grad, torch.zeros(4, 2))  # type: ignore[arg-type]
    one = token_logprob_entropy(torch.tensor([[3.0]]), torch.tensor([0]))
    assert [value.item() for value in one] == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_are_in_float32(dtype: torch.dtype) -> None:
    logits, tokens = _normal(0, 8, 20_000, dtype=dtype), _tokens(1, 20_000, 8)
    leaf = logits.clone().requires_grad_(True)
    log_probs, entropy = token_logprob_entropy(leaf, tokens)
    assert log_probs.dtype == entropy.dtype == torch.float32
    expected = _oracle(logits, tokens)
    np.testing.assert_allclose(log_probs.detach().numpy(), expected[0], atol=2e-5)  # measured 2e-6
    np.testing.assert_allclose(entropy.detach().numpy(), expected[1], atol=2e-5)
    log_probs.sum().backward()
    assert leaf.grad.dtype == dtype  # type: ignore[union-attr]


@pytest.mark.parametrize("rows", [1, 128, 300])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_the_fused_form_is_the_plain_one(rows: int, needs: tuple[bool, bool]) -> None:
    hidden = _normal(0, rows, 5).requires_grad_(needs[0])
    weight = _normal(1, 11, 5).requires_grad_(needs[1])
    tokens, weights = _tokens(2, 11, rows), (_normal(3, rows), _normal(4, rows))
    fused = linear_token_logprob_entropy(hidden, weight, tokens, 0.8)
    plain = token_logprob_entropy(hidden @ weight.T, tokens, 0.8)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other)
    leaves = [leaf for leaf in (hidden, weight) if leaf.requires_grad]
    grads = [
        torch.autograd.grad([(w * out).sum() for w, out in zip(weights, outputs, strict=True)], leaves)
        for outputs in (fused, plain)
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_the_fused_form_in_bfloat16() -> None:
    hidden, weight = _normal(0, 200, 16, dtype=torch.bfloat16), _normal(1, 50, 16, dtype=torch.bfloat16)
    tokens = _tokens(2, 50, 200)
    leaves = [hidden.clone().requires_grad_(True), weight.clone().requires_grad_(True)]
    log_probs, entropy = linear_token_logprob_entropy(*leaves, tokens)
    (log_probs.sum() + entropy.sum()).backward()
    exact = [hidden.double().requires_grad_(True), weight.double().requires_grad_(True)]
    outputs = token_logprob_entropy(exact[0] @ exact[1].T, tokens)
    (outputs[0].sum() + outputs[1].sum()).backward()
    assert (log_probs - outputs[0]).abs().max() < 0.1  # logits of about 10 in bfloat16
    for leaf, other in zip(leaves, exact, strict=True):
        assert (leaf.grad - other.grad).norm() / other.grad.norm() < 0.02  # type: ignore[operator,union-attr]


def test_the_fused_form_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    for name in ("_write_statistics", "_write_gradient"):
        original = getattr(token_module, name)

        def spy(logits: Tensor, *args: Any, original: Any = original) -> None:
            rows.append(len(logits))
            original(logits, *args)

        monkeypatch.setattr(token_module, name, spy)
    hidden, weight = _normal(0, 300, 4).requires_grad_(True), _normal(1, 7, 4).requires_grad_(True)
    linear_token_logprob_entropy(hidden, weight, _tokens(2, 7, 300))[0].sum().backward()
    assert rows == [128, 128, 44] * 2


def test_it_refuses_a_second_derivative() -> None:
    logits = _normal(0, 2, 3).requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        token_logprob_entropy(logits, torch.tensor([0, 1]))[1].sum(), logits, create_graph=True
    )
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


def test_bad_input() -> None:
    logits, tokens = _normal(0, 2, 3), torch.tensor([0, 1])
    cases: list[tuple[Any, type[Exception], str]] = [
        ((logits.long(), tokens), TypeError, "logits must be floating, got torch.int64"),
        ((logits, tokens.int()), TypeError, "tokens must be an int64 tensor, got torch.int32"),
        ((logits, [0, 1]), TypeError, "tokens must be an int64 tensor, got list"),
        ((logits, tokens[:1]), ValueError, r"tokens must have shape \(2,\), one for a row of logits, got \(1,\)"),
        ((logits, tokens, 0.0), ValueError, "temperature must be finite and above 0, got 0"),
    ]
    for arguments, error, text in cases:
        with pytest.raises(error, match=text):
            token_logprob_entropy(*arguments)
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 3\), got 3"):
        token_logprob_entropy(logits, torch.tensor([0, 3]), validate=True)
    with pytest.raises(ValueError, match="logits must be finite or -inf, got nan at index"):
        token_logprob_entropy(logits * math.nan, tokens, validate=True)
    hidden, weight = _normal(0, 2, 3), _normal(1, 4, 3)
    with pytest.raises(ValueError, match=r"weight must have shape \(V, 3\), got \(3, 4\)"):
        linear_token_logprob_entropy(hidden, weight.T, tokens)
    with pytest.raises(TypeError, match=r"one dtype, got torch.float64 and torch.float32"):
        linear_token_logprob_entropy(hidden, weight.float(), tokens)
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 4\), got -1"):
        linear_token_logprob_entropy(hidden, weight, torch.tensor([0, -1]), validate=True)


def _slices(rank: int, port: int, results: Any) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    logits, tokens = _sliced_inputs()
    part = logits[:, 4 * rank : 4 * rank + 4].clone().requires_grad_(True)
    outputs = token_logprob_entropy(part, tokens, 0.9, vocab_group=dist.group.WORLD)
    (outputs[0].sum() + 3.0 * outputs[1].sum()).backward()
    results[rank] = (outputs[0].tolist(), outputs[1].tolist(), part.grad.tolist())  # type: ignore[union-attr]
    dist.destroy_process_group()


def _sliced_inputs() -> tuple[Tensor, Tensor]:
    logits = 3.0 * _normal(0, 6, 8)
    logits[1, :4], logits[2, 4:], logits[3, 5] = -math.inf, -math.inf, -math.inf
    return logits, torch.tensor([0, 5, 2, 7, 4, 3])


def test_slices_of_the_vocabulary_are_one_vocabulary() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_slices, (port, results), nprocs=2)
        first, second = results[0], results[1]
    logits, tokens = _sliced_inputs()
    leaf = logits.clone().requires_grad_(True)
    outputs = token_logprob_entropy(leaf, tokens, 0.9)
    (outputs[0].sum() + 3.0 * outputs[1].sum()).backward()
    for rank in (first, second):
        assert rank[0] == pytest.approx(outputs[0].tolist(), abs=1e-12)
        assert rank[1] == pytest.approx(outputs[1].tolist(), abs=1e-12)
    joined = torch.cat([torch.tensor(rank[2], dtype=torch.float64) for rank in (first, second)], dim=1)
    torch.testing.assert_close(joined, leaf.grad)
