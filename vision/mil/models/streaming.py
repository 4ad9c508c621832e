"""Attention over one bag of any length, in chunks: exact, with the activations of one chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from entroreg import _checks
from entroreg.measures import categorical_entropy

Attend = Callable[[Tensor], tuple[Tensor, Tensor]]


class Streamed(NamedTuple):
    """A bag read in chunks.

    Attributes:
        features: (K, hidden), the weighted mean of each attention row.
        entropy: (K,) nats.
    """

    features: Tensor
    entropy: Tensor


def stream(attend: Attend, bag: Tensor, chunk_size: int, parameters: list[nn.Parameter]) -> Streamed:
    r"""Return the weighted mean and the entropy of attention over a bag, differentiable once.

    $$z_k = \sum_n p_{kn} h_n, \qquad H_k = -\sum_n p_{kn} \log p_{kn}, \qquad p_k = \mathrm{softmax}(a_k)$$

    The forward pass keeps a running softmax over chunks; the backward pass computes each chunk again, with the
    random numbers it had, and feeds it $\partial L / \partial h_n = \sum_k p_{kn} g_k$ and
    $\partial L / \partial a_{kn} = p_{kn} (g_k^T (h_n - z_k) - g^H_k (\log p_{kn} + H_k))$.

    Args:
        attend: instances (n, D) to h (n, hidden) and a (K, n), each instance by itself.
        bag: (N, D).
        chunk_size: instances of a chunk.
        parameters: all that ``attend`` reads.
    """
    features, entropy = _Stream.apply(attend, chunk_size, bag, *parameters)  # type: ignore[no-untyped-call]
    return Streamed(features, entropy)


@torch.no_grad()
def read(attend: Attend, bag: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return (K, hidden) weighted means and (K, N) attention logits of a bag, without gradients.

    Args:
        attend: as for ``stream``.
        bag: (N, D).
        chunk_size: instances of a chunk.
    """
    kept: list[Tensor] = []
    features = _read(attend, bag, chunk_size, kept.append).features
    return features, torch.cat(kept, dim=1)


class _Stream(torch.autograd.Function):
    """Not ``torch.utils.checkpoint`` a chunk: what it keeps of each leaves the heap in pieces of a chunk's size."""

    @staticmethod
    def forward(
        ctx: Any, attend: Attend, chunk_size: int, bag: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.attend, ctx.chunk_size = attend, chunk_size
        ctx.random_state = _random_state(bag.device)
        ctx.autocast = torch.is_autocast_enabled(bag.device.type), torch.get_autocast_dtype(bag.device.type)
        features, log_sum_exp, entropy = _read(attend, bag, chunk_size, lambda _logits: None)
        ctx.save_for_backward(bag, features, log_sum_exp, entropy, *parameters)
        return features, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_features: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        bag, features, log_sum_exp, entropy, *parameters = ctx.saved_tensors
        wanted = [p for p, needed in zip(parameters, ctx.needs_input_grad[3:], strict=True) if needed]
        totals = [torch.zeros_like(p) for p in wanted]
        grad_bag = torch.empty_like(bag) if ctx.needs_input_grad[2] else None
        enabled, dtype = ctx.autocast
        with (
            _replayed(ctx.random_state, bag.device),
            torch.autocast(bag.device.type, dtype=dtype, enabled=enabled),
            torch.enable_grad(),
        ):
            for begin in range(0, len(bag), ctx.chunk_size):
                chunk = bag[begin : begin + ctx.chunk_size].detach().requires_grad_(grad_bag is not None)
                hidden, logits = ctx.attend(chunk)
                with torch.no_grad():
                    log_probs = logits.to(log_sum_exp.dtype) - log_sum_exp.unsqueeze(1)
                    probs = log_probs.exp()
                    inner = grad_features @ hidden.to(grad_features.dtype).T
                    inner -= (grad_features * features).sum(dim=1, keepdim=True)
                    inner -= grad_entropy.unsqueeze(1) * (log_probs + entropy.unsqueeze(1))
                    grads = (probs.T @ grad_features).to(hidden.dtype), (probs * inner).to(logits.dtype)
                inputs = wanted if grad_bag is None else [*wanted, chunk]
                found = torch.autograd.grad((hidden, logits), inputs, grads, allow_unused=True)
                for total, grad in zip(totals, found, strict=False):
                    if grad is not None:
                        total += grad
                if grad_bag is not None:
                    grad_bag[begin : begin + ctx.chunk_size] = found[-1]
        of_parameters = iter(totals)
        rest = [next(of_parameters) if needed else None for needed in ctx.needs_input_grad[3:]]
        return None, None, grad_bag, *rest


class _Summary(NamedTuple):
    """Of some instances: (K, hidden) weighted mean of h, (K,) log-sum-exp of the logits, (K,) entropy."""

    features: Tensor
    log_sum_exp: Tensor
    entropy: Tensor


def _read(attend: Attend, bag: Tensor, chunk_size: int, keep: Callable[[Tensor], None]) -> _Summary:
    """Return the summary of a bag; ``keep`` is given each chunk's (K, n) logits."""
    running = None
    for chunk in torch.split(bag, chunk_size):
        hidden, logits = attend(chunk)
        keep(logits)
        wide = logits.to(_checks.accumulation_dtype(logits))
        features = torch.softmax(wide, dim=1) @ hidden.to(wide.dtype)
        part = _Summary(features, torch.logsumexp(wide, dim=1), categorical_entropy(wide))
        running = part if running is None else _merge(running, part)
    assert running is not None
    return running


def _merge(first: _Summary, second: _Summary) -> _Summary:
    r"""Return the summary of both; entropy by the chain rule, $H = (1 - s) H_1 + s H_2 + H(s)$."""
    total = torch.logaddexp(first.log_sum_exp, second.log_sum_exp)
    own, share = (first.log_sum_exp - total).exp(), (second.log_sum_exp - total).exp()
    return _Summary(
        own.unsqueeze(1) * first.features + share.unsqueeze(1) * second.features,
        total,
        own * first.entropy + share * second.entropy + torch.special.entr(own) + torch.special.entr(share),
    )


def _random_state(device: torch.device) -> Tensor:
    """Return the state of the generator that dropout on a device draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


@contextmanager
def _replayed(state: Tensor, device: torch.device) -> Iterator[None]:
    """Draw inside the block what was drawn after ``state``, and afterwards go on as if nothing had been."""
    now = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(now, device)
