"""Answers drawn from a transformer. P prompts, S samples of each, T tokens of an answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from entroreg.agents.rlvr.transformer import Cache, CharTransformer
from entroreg.guards import require_finite

_ADVICE = "the weights have grown too large, lower the learning rate"


@torch.no_grad()
def sample(
    model: CharTransformer,
    prompts: Tensor,
    *,
    length: int,
    end: int,
    samples: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Return answers drawn character by character; each prompt is read once for all of its samples.

    Args:
        model: the policy.
        prompts: (P, prompt length) int64.
        length: T, most characters of an answer.
        end: the character that ends an answer; what follows it is filled up with it.
        samples: S, answers to each prompt.
        generator: of the random choice, on the model's device.
        temperature: of the policy, above 0.
        stop: asked before each character; True ends at once, and leaves the answers incomplete.

    Returns:
        (P * S, T) int64, the answers to a prompt beside one another.

    Raises:
        FloatingPointError: logits are NaN or infinite.
    """
    logits, cache = _read_prompts(model, prompts, samples)
    logits = logits[:, -1]
    answers = torch.full((len(logits), length), end, dtype=torch.int64, device=prompts.device)
    open_ = torch.ones(len(logits), dtype=torch.bool, device=prompts.device)
    for place in range(length):
        require_finite("logits", logits, at=f"character {place + 1} of the answers", advice=_ADVICE)
        drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
        answers[:, place] = torch.where(open_, drawn, end)
        open_ &= drawn != end
        if place + 1 == length or not bool(open_.any()) or stop():
            break
        logits = model(answers[:, place : place + 1], cache)[:, -1]
    return answers


def answer_logits(model: CharTransformer, prompts: Tensor, answers: Tensor) -> Tensor:
    """Return the logits from which each character of given answers is drawn, with their graph.

    Each prompt is read once for all of its answers.

    Args:
        model: the policy.
        prompts: (P, prompt length) int64.
        answers: (P * S, T) int64, the answers to a prompt beside one another.

    Returns:
        (P * S, T, vocabulary).
    """
    first, cache = _read_prompts(model, prompts, len(answers) // len(prompts))
    return torch.cat([first, model(answers[:, :-1], cache)], dim=1)


def _read_prompts(model: CharTransformer, prompts: Tensor, samples: int) -> tuple[Tensor, Cache]:
    """Return the logits of the first characters, (P * S, 1, vocabulary), and what else answers need of prompts."""
    cache = model.new_cache()
    logits = model(prompts, cache)[:, -1:].repeat_interleave(samples, 0)
    cache.repeat(samples)
    return logits, cache


def answer_mask(answers: Tensor, end: int) -> Tensor:
    """Return True for the characters of answers (N, T) up to and with the first ``end``."""
    ends = (answers == end).cumsum(1)
    return ends - (answers == end).long() == 0
