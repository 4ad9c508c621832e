"""The task: what is drawn, what is held out, and what counts as right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.agents.rlvr.addition import CHARACTERS, END, Addition, decode


@given(digits=st.integers(1, 9), data=st.data())
def test_a_problem_reads_as_python_would_solve_it(digits: int, data: st.DataObject) -> None:
    number = st.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)
    first, second = data.draw(number), data.draw(number)
    task = Addition(digits)
    problem = task.write(torch.tensor([[first, second]]))
    assert decode(problem.prompts[0]) == f"{first}+{second}="
    answer = str(first + second)
    assert decode(problem.answers[0]) == answer + "." * (digits + 2 - len(answer))
    assert problem.prompts.shape == (1, task.prompt_length)
    assert problem.answers.shape == (1, task.answer_length)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_what_is_held_out_is_never_trained_on(digits: int) -> None:
    task, generator = Addition(digits), torch.Generator().manual_seed(0)
    trained = {decode(prompt) for prompt in task.draw(4_000, generator).prompts}
    held_out = {decode(prompt) for prompt in task.draw(400, generator, held_out=True).prompts}
    assert not trained & held_out
    assert len(held_out) > (3 if digits == 1 else 50)
    # 3 and 2 digits have far more problems than are drawn: the draws must not repeat a few.
    assert len(trained) > {1: 80, 2: 2_000, 3: 3_900}[digits]


def test_a_draw_is_its_seed() -> None:
    task = Addition(3)
    one, two = (task.draw(50, torch.Generator().manual_seed(seed)).prompts for seed in (4, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, task.draw(50, torch.Generator().manual_seed(5)).prompts)


def test_only_the_whole_answer_counts() -> None:
    task = Addition(2)
    answers = task.write(torch.tensor([[57, 68], [10, 20], [10, 20], [10, 20]])).answers
    responses = answers.clone()
    responses[2, 1] = 1  # a wrong digit
    responses[3, 2] = 0  # one character too many
    assert task.verify(responses, answers).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert CHARACTERS[END] == "."


@pytest.mark.parametrize("digits", [0, 10])
def test_digits_out_of_range(digits: int) -> None:
    with pytest.raises(ValueError, match=rf"digits must be in \[1, 9\], got {digits}"):
        Addition(digits)
