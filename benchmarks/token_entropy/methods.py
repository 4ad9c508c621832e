"""Log-probability and entropy of tokens in several libraries: each makes both from the same inputs.

The plain ones take (logits, tokens), the fused ones (hidden, weight, tokens). A library that is not installed has
no methods here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch import Tensor

from entroreg.measures import linear_token_logprob_entropy, token_logprob_entropy

Method: TypeAlias = Callable[..., tuple[Tensor, Tensor]]
PEERS = {"trl": "pip install trl", "verl": "pip install verl"}


def plain_methods() -> dict[str, Method]:
    """Return the methods that take logits (N, V) and tokens (N,)."""
    methods: dict[str, Method] = {"entroreg": token_logprob_entropy, "eager": _eager}
    return methods | {name: method for name, method in _PLAIN_PEERS.items() if find_spec(name)}


def fused_methods() -> dict[str, Method]:
    """Return the methods that take hidden states (N, D), an output embedding (V, D) and tokens (N,)."""
    methods: dict[str, Method] = {
        "entroreg": linear_token_logprob_entropy,
        "eager": lambda hidden, weight, tokens: _eager(hidden @ weight.T, tokens),
    }
    return methods | {name: method for name, method in _FUSED_PEERS.items() if find_spec(name)}


def missing_peers() -> dict[str, str]:
    """Return how to install what is not here."""
    return {name: remedy for name, remedy in PEERS.items() if not find_spec(name)}


def _eager(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.log_softmax(logits, dim=-1)
    return rows.gather(-1, tokens[:, None])[:, 0], -(rows.exp() * rows).sum(dim=-1)


def _trl(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    return selective_log_softmax(logits[None], tokens[None])[0], entropy_from_logits(logits)


def _verl(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits

    return logprobs_from_logits(logits, tokens), entropy_from_logits(logits)


def _trl_fused(hidden: Tensor, weight: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    found = ChunkedLogProbFunction.apply(hidden, weight, None, tokens, 1.0, 32768, None, 1.0, ("entropy",))
    return found[0], found[1]


def _verl_fused(hidden: Tensor, weight: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    from verl.utils.experimental.torch_functional import FusedLinearForPPOFunction

    found: tuple[Tensor, Tensor] = FusedLinearForPPOFunction.apply(hidden, weight, tokens)
    return found


_PLAIN_PEERS: dict[str, Method] = {"trl": _trl, "verl": _verl}
_FUSED_PEERS: dict[str, Method] = {"trl": _trl_fused, "verl": _verl_fused}
