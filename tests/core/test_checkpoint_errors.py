"""What is said of a checkpoint whose files are sound and whose contents are not those expected."""

from __future__ import annotations

import pytest

from entroreg.checkpoint import CheckpointError, UnfitCheckpointError, refusing_unfit


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("step"), "KeyError: 'step'"),
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (TypeError("'NoneType' object is not iterable"), "TypeError: 'NoneType' object is not iterable"),
        (AttributeError("no items"), "AttributeError: no items"),
        (OverflowError("too large"), "OverflowError: too large"),
        (RuntimeError("size mismatch\nfor weight"), "size mismatch"),
        (ValueError("missing keys ['step']"), r"missing keys \['step'\]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_wrong_contents_lead_to_is_one_error(error: Exception, reason: str) -> None:
    message = f"^the checkpoint runs/last does not fit what it is loaded into: {reason}$"
    with pytest.raises(UnfitCheckpointError, match=message) as caught, refusing_unfit("runs/last"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [CheckpointError("torn"), UnfitCheckpointError("other"), MemoryError(), KeyboardInterrupt(), OSError(5)],
)
def test_other_errors_stay(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, refusing_unfit("runs/last"):
        raise error
    assert caught.value is error
