"""Addition of two numbers, character by character: a task whose answers a program can verify. N problems."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHARACTERS = "0123456789+=."
PLUS, EQUALS, END = (CHARACTERS.index(character) for character in "+=.")
_HELD_OUT_SHARE = 20  # one problem in so many is never trained on


class Problems(NamedTuple):
    """Problems and their answers.

    Attributes:
        prompts: (N, prompt_length) int64, such as ``57+68=``.
        answers: (N, answer_length) int64, such as ``125.``, filled up with END.
    """

    prompts: Tensor
    answers: Tensor


class Addition:
    """Sums of two numbers of a fixed number of digits, most significant digit first.

    Args:
        digits: of each number, from 1 to 9.

    Raises:
        ValueError: digits out of range.
    """

    def __init__(self, digits: int) -> None:
        if not 1 <= digits <= 9:
            raise ValueError(f"digits must be in [1, 9], got {digits}")
        self.digits = digits
        self.prompt_length = 2 * digits + 2
        self.answer_length = digits + 2

    def draw(self, number: int, generator: torch.Generator, *, held_out: bool = False) -> Problems:
        """Return random problems, of those that are trained on or of those that are held out.

        Args:
            number: of problems.
            generator: of the random choice, on the CPU.
            held_out: whether of the held-out twentieth.
        """
        low, high = 10 ** (self.digits - 1), 10**self.digits
        low = 0 if self.digits == 1 else low
        found = torch.empty(0, 2, dtype=torch.int64)
        while len(found) < number:
            # A twentieth is held out: drawing 40 times as many leaves few rounds, and none is biased.
            drawn = torch.randint(low, high, (number * (40 if held_out else 2), 2), generator=generator)
            kept = drawn[(self._is_held_out(drawn)) == held_out]
            found = torch.cat([found, kept])
        return self.write(found[:number])

    def write(self, numbers: Tensor) -> Problems:
        """Return the problems of pairs of numbers, (N, 2) int64."""
        first, second = (self._digits(column, self.digits) for column in numbers.unbind(1))
        total = self._digits(numbers.sum(1), self.digits + 1)
        count = len(numbers)
        plus, equals, end = (torch.full((count, 1), sign) for sign in (PLUS, EQUALS, END))
        long = torch.cat([total, end], dim=1)
        short = torch.cat([total[:, 1:], end, end], dim=1)
        answers = torch.where(total[:, :1] > 0, long, short)
        return Problems(torch.cat([first, plus, second, equals], dim=1), answers)

    def verify(self, responses: Tensor, answers: Tensor) -> Tensor:
        """Return the reward, 1 where a response is the answer to the last character, else 0.

        Args:
            responses: (N, answer_length) int64, filled up with END.
            answers: (N, answer_length) int64.

        Returns:
            (N,) float32.
        """
        return (responses == answers).all(dim=1).float()

    @staticmethod
    def _is_held_out(numbers: Tensor) -> Tensor:
        return (numbers[:, 0] * 7 + numbers[:, 1]) % _HELD_OUT_SHARE == 0

    @staticmethod
    def _digits(numbers: Tensor, count: int) -> Tensor:
        powers = 10 ** torch.arange(count - 1, -1, -1)
        return numbers[:, None] // powers % 10


def decode(tokens: Tensor) -> str:
    """Return the characters of tokens, (T,) int64.

    Example:
        >>> decode(Addition(2).write(torch.tensor([[57, 68]])).prompts[0])
        '57+68='
    """
    return "".join(CHARACTERS[int(token)] for token in tokens)
