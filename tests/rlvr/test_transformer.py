"""The transformer: what it may see, and that a cache changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from entroreg.agents.rlvr.addition import CHARACTERS, END, Addition
from entroreg.agents.rlvr.policy import new_policy
from entroreg.agents.rlvr.sampling import answer_logits, answer_mask, sample
from entroreg.agents.rlvr.transformer import CharTransformer

TASK = Addition(2)


def _model(seed: int = 0) -> CharTransformer:
    torch.manual_seed(seed)
    context = TASK.prompt_length + TASK.answer_length - 1
    model = CharTransformer(len(CHARACTERS), context, width=16, layers=2, heads=4).double()
    for parameter in model.parameters():  # as drawn attention is all but uniform, and a mask would not matter
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def _batch(prompts: int = 3, samples: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = TASK.draw(prompts, generator).prompts
    answers = torch.randint(0, len(CHARACTERS), (prompts * samples, TASK.answer_length), generator=generator)
    return drawn, answers


def test_a_character_sees_only_those_before_it() -> None:
    model, (prompts, _) = _model(), _batch()
    changed = prompts.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 10
    before, after = model(prompts), model(changed)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] - after[:, 4:]).abs().amin(dim=(0, 2)).min() > 0


def test_logits_and_gradients_with_shared_prompts_are_those_of_whole_sequences() -> None:
    model, (prompts, answers) = _model(), _batch()
    weight = torch.randn(12, TASK.answer_length, len(CHARACTERS), dtype=torch.float64)
    shared = answer_logits(model, prompts, answers)
    found = torch.autograd.grad((shared * weight).sum(), list(model.parameters()))
    whole = torch.cat([prompts.repeat_interleave(4, 0), answers], dim=1)
    plain = model(whole[:, :-1])[:, TASK.prompt_length - 1 :]
    expected = torch.autograd.grad((plain * weight).sum(), list(model.parameters()))
    torch.testing.assert_close(shared, plain, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_samples_follow_the_policy_that_is_trained() -> None:
    # Frequencies of the first two characters of many answers against the probabilities of answer_logits.
    model = _model()
    prompts = TASK.draw(1, torch.Generator().manual_seed(3)).prompts
    drawn = sample(
        model,
        prompts,
        length=TASK.answer_length,
        end=END,
        samples=40_000,
        generator=torch.Generator().manual_seed(0),
        temperature=1.5,
    )
    probs = (answer_logits(model, prompts, drawn[:1])[0, 0] / 1.5).softmax(-1)
    counts = torch.bincount(drawn[:, 0], minlength=len(CHARACTERS)) / len(drawn)
    assert (counts - probs).abs().max() < 0.015  # six standard deviations of a frequency
    first = int(probs[:END].argmax())
    after = drawn[drawn[:, 0] == first]
    probs = (answer_logits(model, prompts, after[:1])[0, 1] / 1.5).softmax(-1)
    counts = torch.bincount(after[:, 1], minlength=len(CHARACTERS)) / len(after)
    assert (counts - probs).abs().max() < 3.0 / len(after) ** 0.5


def test_an_answer_ends_with_its_end() -> None:
    drawn = sample(
        _model(),
        _batch()[0],
        length=TASK.answer_length,
        end=END,
        samples=200,
        generator=torch.Generator().manual_seed(0),
    )
    ended = (drawn == END).cumsum(1) > 0
    assert ended.any()
    assert (drawn[ended] == END).all()
    mask = answer_mask(torch.tensor([[1, 2, END, END], [END] * 4, [1, 2, 3, 4]]), END)
    assert mask.int().tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads=4, got 10"):
        CharTransformer(13, 8, width=10)
    with pytest.raises(ValueError, match="tokens must fit the context of 9, got 10"):
        _model()(torch.zeros(1, 10, dtype=torch.int64))


def test_a_new_policy_is_its_seed_and_draws_nothing_of_others() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two = new_policy(TASK, 7), new_policy(TASK, 7)
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert 200_000 < sum(parameter.numel() for parameter in one.parameters()) < 2_000_000
