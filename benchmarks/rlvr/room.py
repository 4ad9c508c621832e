"""What the answers of a run with verifiable rewards take of the memory, counted before any is drawn."""

from __future__ import annotations

from entroreg.agents.rlvr.addition import Addition
from entroreg.benchmarks.memory import require_memory
from entroreg.benchmarks.rlvr.options import TrainRLVR

EVALUATED = 16  # answers to each problem of an evaluation
_READ = 4_200  # bytes of a token that is read, keys and values of all layers among them, measured
_TRAINED = 12_000  # bytes of a token that is trained on, with its graph, measured


def require_room(options: TrainRLVR) -> None:
    """Refuse rollouts that would not fit the memory.

    Raises:
        UserError: they do not fit.
    """
    answers = options.prompts * options.samples
    needed = _tokens(options) * (answers * _READ + answers // options.updates * _TRAINED)
    require_memory("prompts times samples", needed, "ask for fewer, or for more --updates")


def require_room_to_evaluate(options: TrainRLVR, problems: int) -> None:
    """Refuse an evaluation that would not fit the memory.

    Raises:
        UserError: it does not fit.
    """
    require_memory("episodes", problems * EVALUATED * _tokens(options) * _READ, "ask for fewer --episodes")


def _tokens(options: TrainRLVR) -> int:
    task = Addition(options.digits)
    return task.prompt_length + task.answer_length
