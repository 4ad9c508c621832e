"""The Triton kernels of the token measure on a CPU: against float64 SciPy and the plain path, and at the edges.

Triton decides at its import whether it interprets, so test_token_triton.py runs this file in a process of its own.
By hand: ``TRITON_INTERPRET=1 python -m pytest tests/core/interpreted_token_triton.py``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import entr, log_softmax
from torch import Tensor

from entroreg.measures import _token_triton as kernels
from entroreg.measures import linear_token_logprob_entropy, token_logprob_entropy
from entroreg.measures import token as token_module

# The interpreter is NumPy, which warns of what the kernels mean to do: a distance that overflows, inf - inf.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1: there is no other device to run on"


def _normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _tokens(seed: int, size: int, *shape: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def _both(function: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what a function gives with the kernels and with the plain path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_module, "_has_kernels", lambda logits: logits.numel() > 0)
        ours = function()
    return ours, function()


def _run(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return both outputs and the gradient of a sum of them with weights of either sign."""
    leaf = logits.detach().requires_grad_(True)
    log_probs, entropy = token_logprob_entropy(leaf, tokens, temperature)
    ramp = torch.arange(log_probs.numel(), dtype=log_probs.dtype).reshape(log_probs.shape)
    (gradient,) = torch.autograd.grad([log_probs, entropy], leaf, [1.3 - ramp, 0.4 + 0.7 * ramp])
    return log_probs.detach(), entropy.detach(), gradient


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of which a short row has several."""
    monkeypatch.setattr(kernels, "_LANES", 4)
    monkeypatch.setattr(kernels, "_BLOCK", 16)


@pytest.mark.parametrize("size", [1, 2, 17, 64, 8192, 8193, 20_000])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_values_and_gradients(size: int, temperature: float) -> None:
    logits, tokens = 4.0 * _normal(0, 3, size), _tokens(1, size, 3)
    ours, _ = _both(lambda: _run(logits, tokens, temperature))
    rows = log_softmax(logits.double().numpy() / temperature, axis=-1)
    np.testing.assert_allclose(ours[0], rows[np.arange(3), tokens], atol=1e-5)  # measured 4e-6, on either path
    np.testing.assert_allclose(ours[1], entr(np.exp(rows)).sum(axis=-1), atol=1e-5)
    exact = _run(logits.double(), tokens, temperature)
    torch.testing.assert_close(ours[2].double(), exact[2], atol=2e-6, rtol=1e-5)  # measured 3e-7


@pytest.mark.parametrize("order", ["ascending", "descending", "random", "constant"])
@pytest.mark.parametrize("size", [64, 100, 101])
@pytest.mark.usefixtures("small")
def test_every_block_counts(size: int, order: str) -> None:
    logits = 5.0 * _normal(0, 4, size)
    ordered = {
        "ascending": logits.sort(dim=1).values,
        "descending": logits.sort(dim=1, descending=True).values,
        "random": logits,
        "constant": torch.full_like(logits, -2.5),
    }[order]
    for token in (0, size // 2, size - 1):
        tokens = torch.full((4,), token)
        ours, _ = _both(lambda tokens=tokens: _run(ordered, tokens, 0.8))
        exact = _run(ordered.double(), tokens, 0.8)
        for one, other in zip(ours[:2], exact[:2], strict=True):
            torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-6)  # measured 4e-6, on either path
        torch.testing.assert_close(ours[2].double(), exact[2], atol=2e-6, rtol=1e-6)  # measured 3e-7


@pytest.mark.parametrize("scale", [0.01, 30.0])
@pytest.mark.parametrize("offset", [1e4, -1e4])
@pytest.mark.usefixtures("small")
def test_large_logits(scale: float, offset: float) -> None:
    logits, tokens = scale * _normal(0, 4, 50) + offset, _tokens(1, 50, 4)
    ours, plain = _both(lambda: _run(logits, tokens))
    exact = _run(logits.double(), tokens)
    for one, other, reference in zip(ours, exact, plain, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=1e-5)  # measured 6e-6, on either path
        torch.testing.assert_close(one, reference, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("small")
def test_minus_infinity_is_deleted(seed: int) -> None:
    logits, mask = 3.0 * _normal(seed, 70), _normal(seed + 100, 70) > (-0.5, 0.0, 1.0, 2.5)[seed % 4]
    mask[40] = True
    ours, _ = _both(lambda: _run(torch.where(mask, logits, -math.inf)[None], torch.tensor([40])))
    short = _run(logits[mask][None].double(), mask[:40].sum()[None])
    torch.testing.assert_close(ours[0].double(), short[0], atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(ours[1].double(), short[1], atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(ours[2][0][mask].double(), short[2][0], atol=2e-6, rtol=1e-6)
    assert torch.equal(ours[2][0][~mask], torch.zeros(int((~mask).sum())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extremes(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    rows = [[-math.inf] * 2, [0.0, -math.inf], [1e4, -1e4], [most, -most], [-most, -most], [-most, -math.inf]]
    logits = torch.tensor(rows).to(dtype)
    for tokens, temperature in ((torch.tensor([0, 1, 0, 0, 1, 0]), 0.5), (torch.tensor([1, 0, 1, 1, 0, 1]), 1.0)):
        ours, plain = _both(lambda tokens=tokens, temperature=temperature: _run(logits, tokens, temperature))
        assert all(torch.equal(one, other) for one, other in zip(ours[:2], plain[:2], strict=True))
        torch.testing.assert_close(ours[2], plain[2], atol=0.0, rtol=torch.finfo(dtype).eps)
        assert torch.equal(ours[2][0], torch.zeros(2, dtype=dtype))
    assert ours[1].tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0, math.log(2.0), 0.0])
    assert ours[0].tolist()[:2] == [-math.inf, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.usefixtures("small")
def test_nan_stays_in_its_row(bad: float) -> None:
    logits, tokens = _normal(0, 3, 40), torch.tensor([3, 4, 5])
    logits[1, 33], logits[1, 7] = bad, -math.inf
    ours, plain = _both(lambda: _run(logits, tokens))
    for one, other in zip(ours, plain, strict=True):
        assert bool(one[1].isnan().all())
        torch.testing.assert_close(one, other, equal_nan=True)
        assert not bool(one[[0, 2]].isnan().any())


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 7), (torch.float16, 10)])
@pytest.mark.parametrize("size", [20_000, 20_001])
def test_half_precision_is_rounded_once(dtype: torch.dtype, bits: int, size: int) -> None:
    logits, tokens = (3.0 * _normal(0, 3, size)).to(dtype), _tokens(1, size, 3)
    ours, _ = _both(lambda: _run(logits, tokens))
    exact = _run(logits.double(), tokens)
    assert ours[0].dtype == ours[1].dtype == torch.float32
    assert ours[2].dtype == dtype
    for one, other in zip(ours[:2], exact[:2], strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=0.0)  # measured 7e-7
    # The interpreter cuts bfloat16's digits off where a GPU rounds: an error below a unit of the last place.
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    torch.testing.assert_close(ours[2].double(), exact[2], atol=smallest, rtol=1.02 * 2.0**-bits)


@pytest.mark.usefixtures("small")
def test_layouts() -> None:
    tokens = _tokens(1, 48, 6, 2)[:, 0]
    layouts = {
        "columns first": _normal(0, 48, 6).T,
        "a part of longer rows": _normal(0, 6, 50)[:, 1:49],
        "every second row": _normal(0, 12, 48)[::2],
        "every second column": _normal(0, 6, 96)[:, ::2],
        "one row for all": _normal(0, 1, 48).expand(6, 48),
        "more dimensions": _normal(0, 2, 3, 48),
    }
    for name, logits in layouts.items():
        chosen = tokens.reshape(logits.shape[:-1])
        ours, plain = _both(lambda logits=logits, chosen=chosen: _run(logits, chosen))
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}")


def test_more_elements_than_an_int32_counts() -> None:
    step = 2**30 + 16  # the last row starts behind 2^31; of the 4 GiB only the pages in use are ever real
    stored = torch.empty(2 * step + 48, dtype=torch.bfloat16)
    rows = stored.as_strided((3, 48), (step, 1))
    rows.copy_(_normal(0, 3, 48))
    tokens = torch.tensor([3, 4, 5])
    ours, plain = _both(lambda: _run(rows, tokens))
    torch.testing.assert_close(ours[:2], plain[:2])
    statistics = torch.stack([torch.zeros(3), torch.ones(3), torch.ones(3), torch.zeros(3)])
    kernels.write_gradient(rows, tokens, 1.0, *statistics, rows)
    expected = _normal(0, 3, 48, dtype=torch.bfloat16).float()
    expected = expected.exp() * (expected / math.log(2.0) + 1.0)
    torch.testing.assert_close(rows.float(), expected, atol=1e-6, rtol=1.02 * 2.0**-7)


@pytest.mark.parametrize("shape", [(3, 40), (1, 1), (3, 48)])
@pytest.mark.usefixtures("small")
def test_slices_of_the_vocabulary(shape: tuple[int, int]) -> None:
    logits, tokens = _normal(0, *shape), torch.tensor([-1, shape[1], 0])[: shape[0]]
    wide = torch.full((4, shape[0] + 2), math.nan)  # the statistics of some of more rows
    ours, plain = wide[:, 1:-1], torch.empty(4, shape[0])
    kernels.write_statistics(logits, tokens, 0.9, ours)
    token_module._row_statistics(logits, tokens, 0.9, plain)
    torch.testing.assert_close(ours, plain)
    assert bool(wide[:, [0, -1]].isnan().all())
    incoming = token_module._Incoming(logits.amax(dim=1), *_normal(1, 3, shape[0]))
    expected = token_module._row_gradient(logits, tokens, 0.9, incoming)
    kernels.write_gradient(logits, tokens, 0.9, *incoming, logits)  # in place of the logits
    torch.testing.assert_close(logits, expected)


@pytest.mark.usefixtures("small")
def test_the_fused_form() -> None:
    tokens = _tokens(2, 33, 140)
    given = [_normal(0, 140, 5), _normal(1, 33, 5)]

    def run() -> tuple[Tensor, ...]:
        leaves = [leaf.clone().requires_grad_(True) for leaf in given]
        log_probs, entropy = linear_token_logprob_entropy(*leaves, tokens, 0.8)
        return log_probs.detach(), entropy.detach(), *torch.autograd.grad((log_probs - 2.0 * entropy).sum(), leaves)

    ours, plain = _both(run)
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


def test_the_kernels_are_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write_statistics", "write_gradient"):
        original = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *a, name=name, o=original: (calls.append(name), o(*a))[1])
    _both(lambda: _run(_normal(0, 2, 3), torch.tensor([0, 1])))
    assert calls == ["write_statistics", "write_gradient"]
    _both(lambda: _run(_normal(0, 0, 3), _tokens(0, 3, 0)))  # no rows: nothing to launch
    assert len(calls) == 2
