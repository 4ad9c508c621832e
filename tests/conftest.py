"""What holds for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

# Its import closes all logging handlers, absl's with the stderr that pytest captures as well: so it comes first.
with contextlib.suppress(ModuleNotFoundError):
    import submitit  # noqa: F401


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two test processes share two cores, and sums in another order are other numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
