"""A pickle read as a description: no class is looked up, no function is called, no attribute is set.

An allow-list in ``Unpickler.find_class`` is not enough. Whatever it lets through can be called with any arguments,
be given any state, and have its attributes replaced, classes included; ``numpy.zeros`` alone takes all memory. So
the opcodes are interpreted here into a tree of a few kinds of inert nodes, and ``values`` builds real objects from
the nodes that it knows, of arguments that it has checked. Each opcode makes one node of constant size, so memory is
bounded by the length of the pickle; nothing is hashed, compared or printed while reading.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from entroreg.agents.safe_zip.errors import UnsafeZipError


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """A class or function that the pickle names."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Pairs:
    """A dict, as its keys and values in order."""

    pairs: Sequence[tuple[Any, Any]] = ()


@dataclass(eq=False, slots=True)
class Made:
    """What the pickle wants made: a call, and what is to be put into the result."""

    function: Any
    arguments: Any
    keywords: Any = None
    state: Any = None
    items: Sequence[Any] = ()
    pairs: Sequence[tuple[Any, Any]] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Persistent:
    """A reference to something beside the pickle: torch's storages."""

    key: Any


Node: TypeAlias = Any  # one of the above, a list or a tuple of nodes, or a plain value


class _Mark:
    """Where a run of values begins on the stack."""


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_TEXT = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_VALUES = _NUMBERS | _BYTES | _TEXT
_NOTHING = {"PROTO", "FRAME", "STOP"}


def read_pickle(content: bytes, most_steps: int) -> tuple[Node, int]:
    """Return the root of what a pickle describes, and the number of opcodes that it has.

    Args:
        content: of the pickle, protocols 2 to 5.
        most_steps: opcodes allowed.

    Raises:
        UnsafeZipError: it is no whole pickle, has too many opcodes, or has opcodes that no pickler of today writes.
    """
    machine = _Machine()
    steps = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            steps += 1
            if steps > most_steps:
                raise UnsafeZipError(f"a pickle in the file has more than {most_steps} opcodes")
            machine.step(opcode.name, argument)
    except UnsafeZipError:
        raise
    except (ValueError, IndexError, UnicodeError) as error:  # genops on bytes that are no pickle
        raise UnsafeZipError(f"a pickle in the file is damaged: {error}") from error
    return machine.pop(), steps


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _NOTHING:
            raise UnsafeZipError(f"a pickle in the file has the opcode {opcode}, which no saved agent has")

    def pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise UnsafeZipError("a pickle in the file is damaged: its stack is empty")
        return self.stack.pop()

    def pop_run(self) -> list[Any]:
        """Return what stands above the last mark, and take it and the mark off."""
        run: list[Any] = []
        while self.stack:
            value = self.stack.pop()
            if isinstance(value, _Mark):
                return run[::-1]
            run.append(value)
        raise UnsafeZipError("a pickle in the file is damaged: it has no mark")

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def push_tuple(self, length: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(length)][::-1]))

    def get(self, place: int) -> None:
        if place not in self.memo:
            raise UnsafeZipError("a pickle in the file is damaged: it refers to what it does not have")
        self.stack.append(self.memo[place])

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Made):
            target.items = _longer(target.items, items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise UnsafeZipError("a pickle in the file adds items to what is no list")

    def update(self, run: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Made | Pairs) or len(run) % 2:
            raise UnsafeZipError("a pickle in the file adds keys to what is no dict")
        target.pairs = _longer(target.pairs, list(zip(run[::2], run[1::2], strict=True)))

    def build(self, state: Any) -> None:
        target = self.top()
        if not isinstance(target, Made) or target.state is not None:
            raise UnsafeZipError("a pickle in the file sets the state of something that it has not made")
        target.state = state

    def push_name(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnsafeZipError("a pickle in the file names a class by something else than text")
        self.stack.append(Name(module, name))

    def call(self, keywords: Any = None) -> None:
        arguments = self.pop()
        self.stack.append(Made(self.pop(), arguments, keywords))


def _longer(values: Sequence[Any], more: list[Any]) -> list[Any]:
    """Return a list with more values: the list itself, where there is one already."""
    if isinstance(values, list):
        values.extend(more)
        return values
    return more


_STEPS: dict[str, Any] = {
    "MARK": lambda m, _: m.stack.append(_Mark()),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.pop_run(),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_run())),
    "TUPLE1": lambda m, _: m.push_tuple(1),
    "TUPLE2": lambda m, _: m.push_tuple(2),
    "TUPLE3": lambda m, _: m.push_tuple(3),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append(Pairs()),
    "EMPTY_SET": lambda m, _: m.stack.append(Made(Name("builtins", "set"), ())),
    "FROZENSET": lambda m, _: m.stack.append(Made(Name("builtins", "frozenset"), tuple(m.pop_run()))),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_run()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_run()),
    "SETITEM": lambda m, _: m.update([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.pop_run()),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.top()),
    "BINPUT": lambda m, place: m.memo.__setitem__(place, m.top()),
    "LONG_BINPUT": lambda m, place: m.memo.__setitem__(place, m.top()),
    "BINGET": lambda m, place: m.get(place),
    "LONG_BINGET": lambda m, place: m.get(place),
    "GLOBAL": lambda m, name: m.stack.append(Name(*name.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: m.push_name(),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "NEWOBJ_EX": lambda m, _: m.call(m.pop()),
    "BUILD": lambda m, _: m.build(m.pop()),
    "BINPERSID": lambda m, _: m.stack.append(Persistent(m.pop())),
}
