"""What of a live environment a saved state may change: data, and nothing else."""

from __future__ import annotations

import inspect
from collections import Counter, OrderedDict, defaultdict, deque
from functools import cached_property
from typing import Any

import numpy as np
import torch

from entroreg.envs.saving.arrays import is_window
from entroreg.envs.saving.classes import name_of
from entroreg.envs.saving.errors import malformed, of_another_kind
from entroreg.envs.saving.generators import GENERATORS
from entroreg.envs.saving.nodes import DEEPEST, PLAIN, require_alike

_LEAVES = PLAIN | {torch.Tensor, range, slice, complex}
_SEQUENCES = (list, tuple, deque, set, frozenset)
_DICTS = (dict, OrderedDict, Counter, defaultdict)


def is_data(value: Any) -> bool:
    """Whether a value is data through and through: no object, function or generator inside, nor MuJoCo's memory."""
    found, waiting, seen = True, [value], set()
    while waiting and found:
        item = waiting.pop()
        if type(item) in _LEAVES or isinstance(item, np.generic) or id(item) in seen:
            continue
        seen.add(id(item))
        if type(item) in _DICTS:
            waiting += [*item, *item.values(), getattr(item, "default_factory", None)]
        elif type(item) in _SEQUENCES:
            waiting += item
        elif type(item) is np.ndarray:
            found = not is_window(item)
            waiting += item.flat if item.dtype.kind == "O" else ()
        else:
            found = False
    return found


def require_data(live: Any, path: str, saved: str) -> None:
    """Refuse to put anything in the place of something that is not data through and through."""
    if not is_data(live):
        raise of_another_kind(path, saved, live)


def require_replaceable_by(value: Any, live: Any, path: str) -> None:
    """Refuse to put plain data in the place of anything but data; a generator can also be there no more."""
    if not (value is None and type(live) in GENERATORS):
        require_data(live, path, type(value).__name__)


def require_new_attribute(live: Any, name: str, path: str) -> None:
    """Refuse an attribute that an object does not have yet and that would hide a method or the like."""
    layer, hidden = live, []
    for _ in range(DEEPEST):  # through the wrappers, which pass attributes on
        hidden.append(inspect.getattr_static(layer, name, None))
        layer = getattr(layer, "__dict__", {}).get("env", getattr(layer, "__dict__", {}).get("venv"))
    if not name.isidentifier() or not all(is_data(one) or isinstance(one, cached_property) for one in hidden):
        raise malformed(path, "one of an attribute that holds data", repr(name)[:100])


def require_same_place(target: Any, live: Any, before: Any, path: str) -> None:
    """Refuse to put an object where it does not stand yet; data, and a new generator, may stand anywhere.

    Args:
        target: what stands elsewhere and would stand here too.
        live: what stands here now.
        before: what stood where the target stands.
        path: for messages.
    """
    new_generator = live is None and type(target) in GENERATORS
    if not (live is target or live is before or new_generator or (is_data(live) and is_data(target))):
        raise of_another_kind(path, f"what it shares with another place, a {name_of(target)}", live)


def rebuild(live: Any, state: Any, path: str) -> None:
    """Let an object build itself anew from its own state, which must be of the form of its present one."""
    require_alike(state, live.state(), path)
    try:
        live.restore(state)
    except (OverflowError, TypeError, ValueError) as error:
        reason, _, _ = str(error).partition("\n")
        raise malformed(path, f"one of {name_of(live)}", reason) from error
