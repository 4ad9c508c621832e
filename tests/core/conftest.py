from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# pytest imports the tests without their folder: what several of them share is found by this.
sys.path.insert(0, str(Path(__file__).parent))

# Torch's first call of an operator is slow, which Hypothesis takes for a slow example.
settings.register_profile(
    "core", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("core")


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one: for so many saves that the syncs of a disk would take minutes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)
