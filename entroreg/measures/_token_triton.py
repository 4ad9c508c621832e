"""Triton kernels of the token measure, for CUDA: the statistics of rows of logits, and their gradient.

Only ``token.py`` imports this module, and only once it has logits for it: Triton is optional, and slow to import.
The formulas are those of its plain path. No GPU has run the kernels yet: they are tested in Triton's interpreter
and compiled for GPUs that are not there. Shapes: N tokens, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import triton  # type: ignore[import-not-found,import-untyped,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,import-untyped,unused-ignore]
from torch import Tensor

_VECTOR_BYTES = 16  # the most that a thread loads at once
_ALIGNED = 16  # to a multiple of which a size must come before Triton loads vectors
_LANES = 1024  # of a row, each with a maximum and sums of its own: four to a thread
_BLOCK = 8192  # logits whose gradient one program writes
_WARPS = 8
_LN_2: tl.constexpr = tl.constexpr(math.log(2.0))
_FLOOR: tl.constexpr = tl.constexpr(torch.finfo(torch.float32).min)  # for -inf, which could not be subtracted
_IMPOSSIBLE: tl.constexpr = tl.constexpr(-1e4)  # whose exp2 is 0; unlike -inf it times 0 is 0


def write_statistics(logits: Tensor, tokens: Tensor, temperature: float, out: Tensor) -> None:
    """Write maximum, sum of exp, sum of exp times exponent, and the token's logit or 0, for each row.

    Args:
        logits: (N, V) float32, bfloat16 or float16, not empty.
        tokens: (N,) int64; one outside [0, V) belongs to another slice of the vocabulary.
        temperature: logit divisor.
        out: (4, N) float32, contiguous in its last dimension.
    """
    logits = _with_contiguous_rows(logits)
    vector = _VECTOR_BYTES // logits.element_size()
    aligned = logits.shape[1] % _ALIGNED == 0 and logits.stride(0) % _ALIGNED == 0
    with torch.cuda.device(logits.get_device()):  # a kernel starts on the current device; -1 is no device at all
        _statistics_kernel[(len(logits),)](
            logits,
            tokens.contiguous(),
            out,
            logits.shape[1],
            logits.stride(0),
            out.stride(0),
            1.0 / (temperature * math.log(2.0)),
            LANES=_LANES,
            VECTOR=vector,
            # Neighbours in a vector belong to one lane, or, without vectors, to the lanes of neighbouring threads.
            LANE_STEP=vector if aligned else 1,
            STEP=1 if aligned else _LANES,
            num_warps=_WARPS,
        )


def write_gradient(
    logits: Tensor,
    tokens: Tensor,
    temperature: float,
    centre: Tensor,
    slope: Tensor,
    offset: Tensor,
    given: Tensor,
    out: Tensor,
) -> None:
    """Write 2^b (slope b + offset), where b = (z - centre) / temperature / log 2, and ``given`` more at the token.

    Args:
        logits: (N, V) float32, bfloat16 or float16, not empty.
        tokens: (N,) int64; one outside [0, V) belongs to another slice of the vocabulary.
        temperature: logit divisor.
        centre: (N,) float32, contiguous, as the next three.
        slope: (N,).
        offset: (N,).
        given: (N,).
        out: (N, V) of the dtype of the logits, with contiguous rows; may be the logits themselves.
    """
    logits = _with_contiguous_rows(logits)
    blocks = triton.cdiv(logits.shape[1], _BLOCK)
    with torch.cuda.device(logits.get_device()):
        _gradient_kernel[(len(logits) * blocks,)](
            logits,
            tokens.contiguous(),
            centre,
            slope,
            offset,
            given,
            out,
            logits.shape[1],
            blocks,
            logits.stride(0),
            out.stride(0),
            1.0 / (temperature * math.log(2.0)),
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )


def _with_contiguous_rows(logits: Tensor) -> Tensor:
    return logits if logits.stride(1) == 1 else logits.contiguous()


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _statistics_kernel(  # type: ignore[no-untyped-def]
    logits,
    tokens,
    out,
    size,
    logits_stride,
    out_stride,
    to_binary,
    LANES: tl.constexpr,
    VECTOR: tl.constexpr,
    LANE_STEP: tl.constexpr,
    STEP: tl.constexpr,
):
    """Read a row once. Its lanes meet only at the end, so no thread waits for another before."""
    row = tl.program_id(0).to(tl.int64)  # times the stride it may pass 2^31
    logits += row * logits_stride
    places = tl.arange(0, LANES)[:, None] * LANE_STEP + tl.arange(0, VECTOR)[None, :] * STEP
    maximum = tl.full([LANES], _FLOOR, tl.float32)
    summed = tl.zeros([LANES], tl.float32)
    weighted = tl.zeros([LANES], tl.float32)
    for start in range(0, size, LANES * VECTOR):
        inside = start + places < size
        z = tl.load(logits + start + places, mask=inside, other=-float("inf")).to(tl.float32)
        centre = tl.maximum(maximum, tl.max(z, axis=1))
        # Cast, because torch.compile passes the factor in double precision.
        binary = ((z - centre[:, None]) * to_binary).to(tl.float32)
        binary = tl.maximum(binary, _IMPOSSIBLE, propagate_nan=tl.PropagateNan.ALL)
        exponential = tl.exp2(binary)
        shift = tl.maximum(((maximum - centre) * to_binary).to(tl.float32), _IMPOSSIBLE)
        scale = tl.exp2(shift)
        weighted = (weighted + shift * summed) * scale + tl.sum(exponential * binary, axis=1)
        summed = summed * scale + tl.sum(exponential, axis=1)
        maximum = centre
    highest = tl.max(maximum, axis=0)
    shift = tl.maximum(((maximum - highest) * to_binary).to(tl.float32), _IMPOSSIBLE)
    scale = tl.exp2(shift)
    token = tl.load(tokens + row)
    here = (token >= 0) & (token < size)
    chosen = tl.load(logits + token, mask=here, other=0.0).to(tl.float32)
    tl.store(out + row, highest)
    tl.store(out + out_stride + row, tl.sum(summed * scale, axis=0))
    tl.store(out + 2 * out_stride + row, tl.sum((weighted + shift * summed) * scale, axis=0) * _LN_2)
    tl.store(out + 3 * out_stride + row, chosen)


@triton.jit  # type: ignore[untyped-decorator,unused-ignore]
def _gradient_kernel(  # type: ignore[no-untyped-def]
    logits,
    tokens,
    centre,
    slope,
    offset,
    given,
    out,
    size,
    blocks,
    logits_stride,
    out_stride,
    to_binary,
    BLOCK: tl.constexpr,
):
    """Read a block of a row and write it, once."""
    row = (tl.program_id(0) // blocks).to(tl.int64)
    places = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    z = tl.load(logits + row * logits_stride + places, mask=inside, other=0.0).to(tl.float32)
    binary = ((z - tl.load(centre + row)) * to_binary).to(tl.float32)
    binary = tl.maximum(binary, _IMPOSSIBLE, propagate_nan=tl.PropagateNan.ALL)
    gradient = (binary * tl.load(slope + row) + tl.load(offset + row)) * tl.exp2(binary)
    gradient += tl.where(places == tl.load(tokens + row), tl.load(given + row), 0.0)
    tl.store(out + row * out_stride + places, gradient.to(out.dtype.element_ty), mask=inside)
