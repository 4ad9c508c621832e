"""Spaces of gymnasium from the nodes of a pickle, those of the old gym among them, made by their constructors."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces

from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.pickles import Made, Name, Node, Pairs
from entroreg.agents.safe_zip.values import Builder, Key, Maker, key_of, require, require_shape, require_type

_MOST_CHOICES = 1_000_000  # of a discrete space: observations become one-hot
_Space = TypeVar("_Space", bound="spaces.Space[Any]")
_GENERATOR: Key = ("numpy.random._pickle", "__generator_ctor")
_WIDTH = 128  # bits of PCG64's state


def box(builder: Builder, made: Made) -> spaces.Box:
    """Return a Box with its bounds and its random generator."""
    fields = builder.fields(made)
    dtype = np.dtype(_field(builder, fields, "dtype"))
    shape = require_shape(_field(builder, fields, "_shape", "shape"))
    low, high = (_bound(builder, fields, name, shape, dtype) for name in ("low", "high"))
    try:
        space = spaces.Box(low, high, shape, dtype.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise UnsafeZipError(f"the file is damaged: its Box has impossible bounds ({error})") from error
    for name in ("bounded_below", "bounded_above"):  # lost in integers, where no bound is infinite
        if name in fields:
            setattr(space, name, _bound(builder, fields, name, shape, np.dtype(bool)))
    return _with_generator(space, fields)


def discrete(builder: Builder, made: Made) -> spaces.Discrete:
    """Return a Discrete space."""
    fields = builder.fields(made)
    start = _integer(_field(builder, fields, "start")) if "start" in fields else 0
    return _with_generator(spaces.Discrete(_choices(_field(builder, fields, "n")), start=start), fields)


def multi_discrete(builder: Builder, made: Made) -> spaces.MultiDiscrete:
    """Return a MultiDiscrete space."""
    fields = builder.fields(made)
    counts = _whole_array(_field(builder, fields, "nvec"))
    fits = counts.size > 0 and counts.min() > 0 and counts.sum(dtype=np.float64) <= _MOST_CHOICES
    require(counts, bool(fits), "the numbers of choices")
    starts = _whole_array(_field(builder, fields, "start")) if "start" in fields else np.zeros_like(counts)
    require(starts, starts.shape == counts.shape, "a start for each number of choices")
    return _with_generator(spaces.MultiDiscrete(counts, dtype=counts.dtype.type, start=starts), fields)


def multi_binary(builder: Builder, made: Made) -> spaces.MultiBinary:
    """Return a MultiBinary space."""
    fields = builder.fields(made)
    size = _field(builder, fields, "n")
    size = size.tolist() if isinstance(size, np.ndarray) else size
    sizes = size if isinstance(size, tuple | list) else (size,)
    counts = [_choices(count) for count in sizes]
    require(size, 0 < len(counts) <= 8 and math.prod(counts) <= _MOST_CHOICES, "a number of bits")
    return _with_generator(spaces.MultiBinary(counts[0] if isinstance(size, int) else counts), fields)


def dictionary(builder: Builder, made: Made) -> spaces.Dict:
    """Return a Dict space, in its own order."""
    fields = builder.fields(made)
    parts = _field(builder, fields, "spaces")
    require(parts, isinstance(parts, dict) and len(parts) > 0, "the parts of a Dict space")
    for key, part in parts.items():
        require_type(key, str)
        require_type(part, spaces.Space)
    return spaces.Dict(OrderedDict(parts))


SPACE_MAKERS: dict[Key, Maker] = {
    ("gymnasium.spaces.box", "Box"): box,
    ("gymnasium.spaces.dict", "Dict"): dictionary,
    ("gymnasium.spaces.discrete", "Discrete"): discrete,
    ("gymnasium.spaces.multi_binary", "MultiBinary"): multi_binary,
    ("gymnasium.spaces.multi_discrete", "MultiDiscrete"): multi_discrete,
}
# Of a space's state, the second in old gym: the first is read by hand in _with_generator, the second never.
RANDOM_STATES = ("_np_random", "np_random")


def _field(builder: Builder, fields: dict[str, Node], *names: str) -> Any:
    for name in names:
        if name in fields:
            return builder.build(fields[name])
    raise UnsafeZipError(f"the file is damaged: a space has no {names[0]!r}")


def _bound(
    builder: Builder, fields: dict[str, Node], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> np.ndarray:
    value: np.ndarray = require_type(_field(builder, fields, name), np.ndarray)
    require(value, value.shape == shape and (value.dtype.kind == "b") == (dtype.kind == "b"), "a Box's bounds")
    return value.astype(dtype)


def _integer(value: Any) -> int:
    return int(require_type(value, int, np.integer))


def _choices(value: Any) -> int:
    count = _integer(value)
    require(count, 0 < count <= _MOST_CHOICES, f"1 to {_MOST_CHOICES} choices")
    return count


def _whole_array(value: Any) -> np.ndarray:
    array: np.ndarray = require_type(value, np.ndarray)
    require(array, array.dtype.kind in "iu", "an array of integers")
    return array


def _with_generator(space: _Space, fields: dict[str, Node]) -> _Space:
    """Give a space its PCG64 as it was; another generator (gym's) is left to be drawn anew."""
    state = _pcg64_state(fields.get(RANDOM_STATES[0]))
    if state is not None:
        generator = np.random.Generator(np.random.PCG64(0))
        generator.bit_generator.state = state
        space._np_random = generator
    return space


def _pcg64_state(node: Node) -> dict[str, Any] | None:
    if not isinstance(node, Made) or not isinstance(node.function, Name) or key_of(node.function) != _GENERATOR:
        return None
    inner = node.arguments[0] if isinstance(node.arguments, tuple) and node.arguments else None
    state = node.state
    if isinstance(inner, Made):  # NumPy 2 gives the state to the bit generator, beside its seeds
        state = inner.state[0] if isinstance(inner.state, tuple) and inner.state else inner.state
    outer = _numbers(state)
    words, name = _numbers(outer.get("state")), outer.get("bit_generator")
    integers = [words.get("state"), words.get("inc"), outer.get("has_uint32"), outer.get("uinteger")]
    widths = [_WIDTH, _WIDTH, 1, 32]
    if name != "PCG64" or not all(
        type(value) is int and 0 <= value < 1 << width for value, width in zip(integers, widths, strict=True)
    ):
        return None
    inner_state = {"state": integers[0], "inc": integers[1]}
    return {"bit_generator": "PCG64", "state": inner_state, "has_uint32": integers[2], "uinteger": integers[3]}


def _numbers(node: Node) -> dict[str, Node]:
    """Return the entries of a dict node with text as keys; empty for anything else."""
    pairs = node.pairs if isinstance(node, Pairs) else []
    return {key: value for key, value in pairs if isinstance(key, str)}
