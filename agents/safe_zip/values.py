"""Real objects from the nodes of a pickle: numbers, containers, NumPy's arrays, and what tables of makers add."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.pickles import Made, Name, Node, Pairs

Key: TypeAlias = tuple[str, str]
Maker: TypeAlias = Callable[["Builder", Made], Any]

_DEEPEST = 50
_FEW, _SLACK = 4, 10_000
_LARGEST_BITS = 256  # of an integer; the state of a random generator has 128
_LONGEST_DEQUE = 1_000_000
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_RENAMED = (("numpy.core.", "numpy._core."), ("gym.spaces.", "gymnasium.spaces."), ("__builtin__", "builtins"))


def key_of(name: Name) -> Key:
    """Return a name as the tables have it: today's module for what has moved."""
    for old, new in _RENAMED:
        if name.module.startswith(old):
            return new + name.module.removeprefix(old), name.name
    return name.module, name.name


class Builder:
    """Builds objects from nodes, within limits.

    Args:
        makers: functions by the key of what is called.
        classes: values by the key of a name that stands for itself.
        opcodes: of the pickles. Nodes visited are limited to a few for each; shared ones count each time, so that
            nesting cannot multiply the work.
        most_bytes: of all arrays and tensors that are built.
    """

    def __init__(
        self, makers: Mapping[Key, Maker], classes: Mapping[Key, Any], opcodes: int, most_bytes: int
    ) -> None:
        self._makers, self._classes = makers, classes
        self._steps, self._bytes = _FEW * opcodes + _SLACK, most_bytes
        self._depth = 0

    def allow(self, opcodes: int) -> None:
        """Add a pickle of so many opcodes to those that nodes may come from."""
        self._steps += _FEW * opcodes

    def build(self, node: Node) -> Any:
        """Return the object that a node describes.

        Raises:
            UnsafeZipError: a name that is not in the tables, arguments that do not fit, or a limit.
        """
        self._steps -= 1
        if self._steps < 0 or self._depth > _DEEPEST:
            raise UnsafeZipError("a value in the file is nested or repeated beyond what a saved agent has")
        self._depth += 1
        value = self._build(node)
        self._depth -= 1
        return value

    def _build(self, node: Node) -> Any:
        if node is None or isinstance(node, bool | float | str | bytes | bytearray):
            return node
        if isinstance(node, int):
            return require(node, node.bit_length() <= _LARGEST_BITS, "a smaller integer")
        if isinstance(node, list):
            return [self.build(item) for item in node]
        if isinstance(node, tuple):
            return tuple([self.build(item) for item in node])
        if isinstance(node, Pairs):
            return {self.key(key): self.build(item) for key, item in node.pairs}
        if isinstance(node, Name):
            return found(self._classes, key_of(node))
        if isinstance(node, Made) and isinstance(node.function, Name):
            return found(self._makers, key_of(node.function))(self, node)
        raise UnsafeZipError("a value in the file is called, but is no class or function")

    def key(self, node: Node) -> str | int:
        """Return the key of a dict: text or a small integer, which no file can make collide."""
        small = isinstance(node, int) and not isinstance(node, bool) and 0 <= node < 2**31
        key: str | int = require(node, isinstance(node, str) or small, "text or a small integer as a key")
        return key

    def fields(self, made: Made) -> dict[str, Node]:
        """Return the attributes, as nodes, of an object that was made without arguments and given its state."""
        plain = made.arguments == () and not made.keywords and not made.items and not made.pairs
        require(made.state, plain and isinstance(made.state, Pairs), "the attributes of an object")
        return {require_type(key, str): node for key, node in made.state.pairs}

    def arguments(self, made: Made, *counts: int) -> tuple[Any, ...]:
        """Return the arguments of a call, built, of which there must be one of the given numbers."""
        nodes = require_type(made.arguments, tuple)
        require(len(nodes), len(nodes) in counts and not made.keywords, f"{counts} arguments")
        return tuple([self.build(node) for node in nodes])

    def spend(self, size: int) -> None:
        """Count the bytes of an array before it is made."""
        self._bytes -= size
        if self._bytes < 0:
            raise UnsafeZipError("the arrays in the file say that they have more bytes than the file")


def found(table: Mapping[Key, Any], key: Key) -> Any:
    """Return a table's entry; UnsafeZipError names what is not there."""
    if key not in table:
        name = ".".join(key)
        raise UnsafeZipError(f"{name[:200]} has no place here", [name[:200]])
    return table[key]


def require(value: Any, holds: bool, expected: str) -> Any:
    """Return a value for which a condition holds; UnsafeZipError otherwise, which says no more than its type."""
    if not holds:
        raise UnsafeZipError(f"the file is damaged: expected {expected}, got {type(value).__name__}")
    return value


def require_type(value: Any, *types: type) -> Any:
    """Return a value of one of the types; a bool is no int here."""
    fits = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    return require(value, fits, " or ".join(kind.__name__ for kind in types))


def require_choice(value: Any, *choices: str) -> Any:
    """Return a text that is one of the given."""
    return require(value, isinstance(value, str) and value in choices, f"one of {', '.join(choices)}")


def require_shape(value: Any) -> tuple[int, ...]:
    """Return a shape: a tuple of few integers, none negative."""
    sizes: tuple[int, ...] = require_type(value, tuple)
    fits = len(sizes) <= 32 and all(type(size) is int and 0 <= size < 2**48 for size in sizes)
    require(sizes, fits, "a shape")
    return sizes


def numpy_dtype(_: Builder, made: Made) -> np.dtype[Any]:
    """Return the dtype of ``numpy.dtype("f4", False, True)`` and its state, which holds the byte order."""
    nodes = require_type(made.arguments, tuple)
    code = nodes[0] if nodes else None
    require(code, isinstance(code, str) and code in _DTYPES, "a dtype of numbers")
    order = made.state[1] if isinstance(made.state, tuple) and len(made.state) > 1 else "="
    return np.dtype(code).newbyteorder(require_choice(order, "<", ">", "|", "="))


def from_buffer(builder: Builder, made: Made) -> np.ndarray:
    """Return the array of ``numpy._core.numeric._frombuffer(bytes, dtype, shape, order)``."""
    raw, dtype, shape, order = builder.arguments(made, 4)
    return array_of(builder, raw, dtype, shape, order)


def array_of(builder: Builder, raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Return an array of the given bytes, which must fit its shape."""
    require_type(dtype, np.dtype)
    sizes = require_shape(shape)
    require_choice(order, "C", "F")
    count = math.prod(sizes)
    require(raw, isinstance(raw, bytes | bytearray) and len(raw) == count * dtype.itemsize, "the bytes of an array")
    builder.spend(len(raw))
    # A bytearray is the array's own already; bytes would make it read-only.
    flat = np.frombuffer(raw if isinstance(raw, bytearray) else bytearray(raw), dtype)
    if dtype.kind == "b":  # other bytes than 0 and 1 are no booleans
        flat = flat.view(np.uint8) != 0
    return flat.reshape(sizes, order=order)


def reconstructed(builder: Builder, made: Made) -> np.ndarray:
    """Return the array of ``numpy._core.multiarray._reconstruct`` and its state."""
    state = require_type(made.state, tuple)
    require(state, len(state) == 5, "the state of an array")
    _, shape, dtype, fortran, raw = state
    require_type(fortran, bool)
    return array_of(builder, builder.build(raw), builder.build(dtype), builder.build(shape), "FC"[not fortran])


def scalar(builder: Builder, made: Made) -> Any:
    """Return the scalar of ``numpy._core.multiarray.scalar(dtype, bytes)``."""
    dtype, raw = builder.arguments(made, 2)
    require_type(dtype, np.dtype)
    require(raw, isinstance(raw, bytes) and len(raw) == dtype.itemsize, "the bytes of a number")
    return np.frombuffer(raw, dtype)[0]


def no_bytes(builder: Builder, made: Made) -> bytes:
    """Return the empty bytes of ``bytes()``, as pickles of protocol 2 have them."""
    builder.arguments(made, 0)
    return b""


def encoded(builder: Builder, made: Made) -> bytes:
    """Return the bytes of ``_codecs.encode(text, "latin1")``, as pickles of protocol 2 have them."""
    text, codec = builder.arguments(made, 2)
    require_choice(codec, "latin1")
    fits = isinstance(text, str) and (not text or max(text) < "\u0100")
    require(text, fits, "bytes as text")
    return bytes(text, "latin1")


def ordered_dict(builder: Builder, made: Made) -> OrderedDict[Any, Any]:
    """Return an ordered dict; a state, which torch uses for versions, is left out."""
    builder.arguments(made, 0)
    return OrderedDict((builder.key(key), builder.build(value)) for key, value in made.pairs)


def bounded_deque(builder: Builder, made: Made) -> deque[Any]:
    """Return the deque of ``collections.deque((), maxlen)`` and its items."""
    arguments = builder.arguments(made, 0, 2)
    start, longest = arguments or ((), None)
    require(start, isinstance(start, tuple | list) and not start, "no items before a deque's own")
    if longest is not None:
        require(longest, type(longest) is int and 0 <= longest <= _LONGEST_DEQUE, "a deque's length")
    return deque([builder.build(item) for item in made.items], maxlen=longest)


PLAIN_MAKERS: dict[Key, Maker] = {
    ("_codecs", "encode"): encoded,
    ("builtins", "bytes"): no_bytes,
    ("collections", "OrderedDict"): ordered_dict,
    ("collections", "deque"): bounded_deque,
    ("numpy", "dtype"): numpy_dtype,
    ("numpy._core.multiarray", "_reconstruct"): reconstructed,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("numpy._core.numeric", "_frombuffer"): from_buffer,
}
