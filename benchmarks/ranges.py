"""What the options of the command may be: numbers that a run can use, and a sentence for any other."""

from __future__ import annotations

import math

MOST = 10**12
"""Of steps, episodes and whatever else is counted; more is a slip of the keyboard."""
MOST_DRAWN = 10**6
"""Of what is drawn at once, such as the seeds of all episodes of an evaluation."""
MOST_SEED = 2**31 - 1
"""Seeds are added to, and NumPy's and Stable-Baselines3's must stay below 2^32."""
MOST_KEPT = 1_000
"""Checkpoints."""
MOST_THREADS = 1024
"""CPU threads."""
LARGEST = 1e6
"""Of weights, coefficients and entropies."""
LARGEST_RATE = 100.0
"""Of learning rates."""


def require_whole(name: str, value: int, least: int, most: int = MOST) -> None:
    """Refuse an option below the least value that makes sense, or above the most that a run could use."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")


def require_positive(name: str, value: float, most: float = LARGEST) -> None:
    """Refuse an option that is not a number above 0 and up to ``most``."""
    _require_number(name, value)
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    require_size(name, value, most)


def require_at_least_zero(name: str, value: float, most: float = LARGEST) -> None:
    """Refuse an option that is not a number from 0 to ``most``."""
    _require_number(name, value)
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}")
    require_size(name, value, most)


def require_size(name: str, value: float, most: float = LARGEST) -> None:
    """Refuse an option that is not a number from ``-most`` to ``most``."""
    _require_number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    if abs(value) > most:
        raise ValueError(f"{name} must be at most {most:g} in size, got {value:g}")


def require_seed(seed: int) -> None:
    """Refuse a seed that one of the libraries would not take."""
    require_whole("seed", seed, 0, MOST_SEED)


def require_threads(threads: int | None) -> None:
    """Refuse a number of threads that no machine has; None leaves it to torch."""
    if threads is not None:
        require_whole("threads", threads, 1, MOST_THREADS)


def _require_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
