"""Log-probability and entropy of tokens in one pass over the logits. Shapes: N tokens, V vocabulary, D hidden."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from entroreg import _checks

_CHUNK_ELEMENTS = 1 << 17  # float32 logits that stay in a core's cache between the passes over them
_IMPOSSIBLE = -1e4  # whose exp and exp2 are 0 in every dtype; unlike -inf it times 0 is 0
_LN_2 = math.log(2.0)
_FUSED_CHUNK_ROWS = 128  # enough for a matrix product at full speed
_HAS_TRITON = importlib.util.find_spec("triton") is not None  # importing it here would cost a second


def token_logprob_entropy(
    logits: Tensor,
    tokens: Tensor,
    temperature: float = 1.0,
    *,
    vocab_group: dist.ProcessGroup | None = None,
    validate: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Return log-probability of the chosen tokens and entropy of softmax(logits / temperature), non-negated.

    $$\log p_a = z_a - \mathrm{lse}(z), \qquad H = \mathrm{lse}(z) - \sum_v p_v z_v, \qquad
      \frac{\partial}{\partial z} = g_{\log p}(\mathbb{1}_a - p) - g_H\, p (\log p + H)$$

    One read of the logits forward, one read and one write backward, a few rows in float32 at a time, centred on
    the row's maximum. A logit of -inf is exact: probability 0, entropy and gradient untouched. A row of nothing
    but -inf has log-probability -inf, entropy 0 and gradient 0. Not differentiable twice.

    Args:
        logits: (..., V) floating, unnormalised; -inf allowed.
        tokens: (...) int64, in [0, V); with ``vocab_group`` in the whole vocabulary.
        temperature: logit divisor tau, above 0.
        vocab_group: processes that hold equal slices of the vocabulary, in the order of their ranks; None for whole
            rows here.
        validate: read the values and refuse NaN, +inf and tokens outside the vocabulary; costs a device sync.

    Returns:
        log-probabilities (...) and entropies (...) in nats, in float32 or wider.

    Raises:
        TypeError: logits not floating, or tokens not int64.
        ValueError: shapes or devices that do not fit, temperature not above 0, or what ``validate`` finds.

    Example:
        >>> token_logprob_entropy(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]), torch.tensor([1, 0]))
        (tensor([-0.6931,  0.0000]), tensor([0.6931, 0.0000]))

    Reference:
        Shannon (1948), "A Mathematical Theory of Communication", section 6.
    """
    _checks.require_floating("logits", logits)
    _require_tokens(tokens, logits.shape[:-1], logits.device)
    tau = _checks.require_positive("temperature", temperature)
    if validate:
        _checks.require_no_nan("logits", logits)
        _require_in_vocabulary(tokens, logits.shape[-1] * (1 if vocab_group is None else vocab_group.size()))
    flat = logits.reshape(-1, logits.shape[-1])
    log_probs, entropy = _TokenStatistics.apply(flat, tokens.reshape(-1), tau, vocab_group)  # type: ignore[no-untyped-call]
    return log_probs.reshape(tokens.shape), entropy.reshape(tokens.shape)


def linear_token_logprob_entropy(
    hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float = 1.0, *, validate: bool = False
) -> tuple[Tensor, Tensor]:
    r"""Return ``token_logprob_entropy(hidden @ weight.T, tokens, temperature)`` without ever holding all logits.

    $$z = W h$$

    The logits of a few rows at a time are computed, used and forgotten, once forward and once more backward: one
    matrix product more than the plain form, for a peak that does not grow with the number of tokens. Not
    differentiable twice.

    Args:
        hidden: (..., D) floating, last hidden states.
        weight: (V, D) of the same dtype, the output embedding.
        tokens: (...) int64, in [0, V).
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN, +inf and tokens outside the vocabulary; costs a device sync.

    Returns:
        log-probabilities (...) and entropies (...) in nats, in float32 or wider.

    Raises:
        TypeError: hidden or weight not floating, of two dtypes, or tokens not int64.
        ValueError: shapes or devices that do not fit, temperature not above 0, or what ``validate`` finds.

    Example:
        >>> linear_token_logprob_entropy(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3]))
        (tensor([-1.3863, -1.3863]), tensor([1.3863, 1.3863]))

    Reference:
        Wijmans et al. (2024), "Cut Your Losses in Large-Vocabulary Language Models", arXiv 2411.09009 (the idea).
    """
    _checks.require_floating("hidden", hidden)
    _checks.require_floating("weight", weight, min_dim=2)
    if hidden.dtype != weight.dtype:
        raise TypeError(f"hidden and weight must have one dtype, got {hidden.dtype} and {weight.dtype}")
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(f"weight must have shape (V, {hidden.shape[-1]}), got {tuple(weight.shape)}")
    _require_tokens(tokens, hidden.shape[:-1], hidden.device)
    tau = _checks.require_positive("temperature", temperature)
    if validate:
        _checks.require_no_nan("hidden", hidden)
        _checks.require_no_nan("weight", weight)
        _require_in_vocabulary(tokens, len(weight))
    flat = hidden.reshape(-1, hidden.shape[-1])
    log_probs, entropy = _LinearTokenStatistics.apply(flat, weight, tokens.reshape(-1), tau)  # type: ignore[no-untyped-call]
    return log_probs.reshape(tokens.shape), entropy.reshape(tokens.shape)


class _TokenStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, temperature: float, group: dist.ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        own = tokens if group is None else tokens - dist.get_rank(group) * logits.shape[1]
        statistics = logits.new_empty(4, len(logits), dtype=_checks.accumulation_dtype(logits))
        _write_statistics(logits, own, temperature, statistics)
        log_probs, entropy, maximum, summed = _combine(statistics, temperature, group)
        ctx.save_for_backward(logits, own, entropy, maximum, summed)
        ctx.temperature = temperature
        return log_probs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_log_probs: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None, None, None]:
        logits, tokens, *statistics = ctx.saved_tensors
        incoming = _incoming(statistics, grad_log_probs, grad_entropy, ctx.temperature)
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        _write_gradient(logits, tokens, ctx.temperature, incoming, gradient)
        return gradient, None, None, None


class _LinearTokenStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        statistics = hidden.new_empty(4, len(hidden), dtype=_checks.accumulation_dtype(hidden))
        for rows in _chunks(len(hidden), _FUSED_CHUNK_ROWS):
            _write_statistics(hidden[rows] @ weight.T, tokens[rows], temperature, statistics[:, rows])
        log_probs, entropy, maximum, summed = _combine(statistics, temperature, None)
        ctx.save_for_backward(hidden, weight, tokens, entropy, maximum, summed)
        ctx.temperature = temperature
        return log_probs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_log_probs: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, tokens, *statistics = ctx.saved_tensors
        incoming = _incoming(statistics, grad_log_probs, grad_entropy, ctx.temperature)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        # Summed in float32: there are as many addends as chunks.
        wide = _checks.accumulation_dtype(weight)
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        for rows in _chunks(len(hidden), _FUSED_CHUNK_ROWS):
            gradient = hidden[rows] @ weight.T  # the logits, until their gradient takes their place
            _write_gradient(gradient, tokens[rows], ctx.temperature, incoming.at(rows), gradient)
            if grad_hidden is not None:
                torch.mm(gradient, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                _add_product(grad_weight, gradient, hidden[rows])
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left.T @ right to a total of the same or a wider dtype, in place."""
    if total.dtype == left.dtype:
        total.addmm_(left.T, right)
    else:
        total += left.T @ right


def _write_statistics(logits: Tensor, tokens: Tensor, temperature: float, out: Tensor) -> None:
    """Write the statistics (4, N) of all rows: by a kernel, or a few at a time."""
    if _has_kernels(logits):
        from entroreg.measures import _token_triton

        return _token_triton.write_statistics(logits, tokens, temperature, out)
    for rows in _chunks(len(logits), _CHUNK_ELEMENTS // max(1, logits.shape[1])):
        _row_statistics(logits[rows], tokens[rows], temperature, out[:, rows])


def _write_gradient(logits: Tensor, tokens: Tensor, temperature: float, incoming: _Incoming, out: Tensor) -> None:
    """Write the gradient of all rows, by a kernel or a few at a time; it may take the place of the logits."""
    if _has_kernels(logits):
        from entroreg.measures import _token_triton

        return _token_triton.write_gradient(logits, tokens, temperature, *incoming, out)
    for rows in _chunks(len(logits), _CHUNK_ELEMENTS // max(1, logits.shape[1])):
        out[rows] = _row_gradient(logits[rows], tokens[rows], temperature, incoming.at(rows))


def _has_kernels(logits: Tensor) -> bool:
    """Whether Triton's kernels can take these logits: it supports GPUs from compute capability 8.0 on."""
    if not (_HAS_TRITON and logits.is_cuda and logits.numel()):
        return False
    modern = torch.cuda.get_device_capability(logits.device)[0] >= 8
    return modern and logits.dtype in (torch.float32, torch.bfloat16, torch.float16)


def _row_statistics(logits: Tensor, tokens: Tensor, temperature: float, out: Tensor) -> None:
    """Write maximum, sum of exp, sum of exp times exponent, and the token's logit or 0: (4, n).

    An exponent is (z - maximum) / temperature; a logit divided by a temperature below 1 could overflow.
    """
    inside = (tokens >= 0) & (tokens < logits.shape[1])
    wide = logits.to(out.dtype)
    chosen = wide.gather(1, tokens.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    # A row of nothing but -inf has no maximum to subtract.
    centre = wide.amax(dim=1).clamp(min=torch.finfo(out.dtype).min)
    binary = _binary_logits(wide, centre, temperature)
    exponential = torch.exp2(binary)
    out[0] = centre
    out[1] = exponential.sum(dim=1)
    out[2] = torch.linalg.vecdot(exponential, binary) * _LN_2
    out[3] = torch.where(inside, chosen, 0.0)


def _binary_logits(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Return (z - centre) / temperature / log 2: torch's exp2 takes a quarter of the time of its exp on a CPU."""
    binary = torch.sub(logits, centre[:, None]).mul_(1.0 / (temperature * _LN_2))
    return binary.clamp_(min=_IMPOSSIBLE)


def _combine(
    statistics: Tensor, temperature: float, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-probabilities, entropies, maxima and sums of exp (n,), over all slices of the vocabulary."""
    maximum, summed, weighted, chosen = statistics
    if group is not None:
        largest = maximum.clone()
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
        shift = ((maximum - largest) / temperature).clamp(min=_IMPOSSIBLE)
        scale = shift.exp()
        slices = torch.stack([summed * scale, scale * (weighted + shift * summed), chosen])
        dist.all_reduce(slices, group=group)
        maximum, (summed, weighted, chosen) = largest, slices
    empty = summed == 0.0
    divisor = torch.where(empty, 1.0, summed)
    log_sum = divisor.log()
    log_probs = torch.where(empty, -torch.inf, (chosen - maximum) / temperature - log_sum)
    entropy = torch.where(empty, 0.0, log_sum - weighted / divisor)
    return log_probs, entropy, maximum, summed


class _Incoming(NamedTuple):
    """What the gradient of a row needs, (n,) each: p (slope z + offset), and ``given`` more at its token."""

    centre: Tensor
    slope: Tensor
    offset: Tensor
    given: Tensor

    def at(self, rows: slice) -> _Incoming:
        """Return that of some rows."""
        return _Incoming(*(values[rows] for values in self))


def _incoming(
    statistics: Sequence[Tensor], grad_log_probs: Tensor, grad_entropy: Tensor, temperature: float
) -> _Incoming:
    """Return the factors of exp((z - maximum) / temperature), which is p times the sum."""
    entropy, maximum, summed = statistics
    empty = summed == 0.0
    divisor = torch.where(empty, 1.0, summed)
    given = torch.where(empty, 0.0, grad_log_probs) / temperature
    wanted = torch.where(empty, 0.0, grad_entropy) / temperature
    offset = (-given - wanted * (entropy - divisor.log())) / divisor
    return _Incoming(maximum, -wanted * _LN_2 / divisor, offset, given)


def _row_gradient(logits: Tensor, tokens: Tensor, temperature: float, incoming: _Incoming) -> Tensor:
    """Return the gradient of some rows of logits, in float32 or wider."""
    binary = _binary_logits(logits.to(incoming.centre.dtype), incoming.centre, temperature)
    exponential = torch.exp2(binary)
    gradient = binary.mul_(incoming.slope[:, None]).add_(incoming.offset[:, None]).mul_(exponential)
    inside = (tokens >= 0) & (tokens < logits.shape[1])
    at = tokens.clamp(0, logits.shape[1] - 1)[:, None]
    return gradient.scatter_add_(1, at, torch.where(inside, incoming.given, 0.0)[:, None])


def _chunks(rows: int, size: int) -> list[slice]:
    step = max(1, size)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _require_tokens(tokens: Tensor, shape: torch.Size, device: torch.device) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64:
        raise TypeError(f"tokens must be an int64 tensor, got {getattr(tokens, 'dtype', type(tokens).__name__)}")
    if tokens.shape != shape:
        raise ValueError(
            f"tokens must have shape {tuple(shape)}, one for a row of logits, got {tuple(tokens.shape)}"
        )
    if tokens.device != device:
        raise ValueError(f"tokens must be on the device of the logits, {device}, got {tokens.device}")


def _require_in_vocabulary(tokens: Tensor, size: int) -> None:
    bad = (tokens < 0) | (tokens >= size)
    if bool(bad.any()):
        raise ValueError(f"tokens must be in [0, {size}), got {int(tokens[bad][0])}")
