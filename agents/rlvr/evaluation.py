"""How good a policy is on held-out problems: pass@k and entropy. N problems, S samples of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

from entroreg.agents.rlvr.addition import END, Addition
from entroreg.agents.rlvr.sampling import answer_logits, answer_mask, sample
from entroreg.agents.rlvr.transformer import CharTransformer
from entroreg.measures import token_logprob_entropy


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        pass_at: probability that one of k samples is right, by k.
        entropy: mean over the characters of the answers, nats.
    """

    pass_at: dict[int, float]
    entropy: float


@torch.no_grad()
def evaluate(
    model: CharTransformer,
    task: Addition,
    *,
    seed: int,
    problems: int = 256,
    samples: int = 16,
    at: Sequence[int] = (1,),
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Return how good a policy is at temperature 1; the same problems and random numbers for the same seed.

    Args:
        model: the policy.
        task: of its problems.
        seed: of problems and answers.
        problems: N, held out.
        samples: S of each.
        at: the values of k, each at most S.
        stop: asked before each character of the answers; once it is True, what is returned is empty.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = task.draw(problems, generator, held_out=True)
    length = task.answer_length
    answers = sample(model, drawn.prompts, length=length, end=END, samples=samples, generator=generator, stop=stop)
    if stop():
        return Evaluation({}, float("nan"))
    correct = task.verify(answers, drawn.answers.repeat_interleave(samples, 0)).view(problems, samples).sum(1)
    logits = answer_logits(model, drawn.prompts, answers)
    entropy = token_logprob_entropy(logits, answers)[1][answer_mask(answers, END)].mean()
    return Evaluation({k: pass_at_k(correct, samples, k) for k in at}, float(entropy))


def pass_at_k(correct: Tensor, samples: int, k: int) -> float:
    r"""Return the probability that at least one of k answers is right, without bias, as a mean over problems.

    $$\mathbb{E}\left[1 - \binom{S - c}{k} \Big/ \binom{S}{k}\right]$$

    Args:
        correct: (N,) number c of right ones among the samples of each problem.
        samples: S.
        k: from 1 to S.

    Returns:
        In [0, 1].

    Raises:
        ValueError: k out of range.

    Example:
        >>> pass_at_k(torch.tensor([0, 1, 2]), samples=2, k=1)
        0.5

    Reference:
        Chen et al. (2021), Codex, arXiv 2107.03374, eq. 1.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k must be in [1, samples={samples}], got {k}")
    return sum(1.0 - comb(samples - int(c), k) / comb(samples, k) for c in correct) / len(correct)
