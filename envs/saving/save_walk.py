"""From an environment to plain data: one walk through all that its objects hold."""

from __future__ import annotations

import copy
import enum
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from entroreg.envs.saving import arrays, constants, mujoco_state
from entroreg.envs.saving.classes import is_named_tuple, is_python_object, is_rebuilt, left_out, name_of
from entroreg.envs.saving.errors import unseen
from entroreg.envs.saving.generators import GENERATORS, generator_node
from entroreg.envs.saving.nodes import DEEPEST, PLAIN
from entroreg.envs.saving.seeded_episodes import SeededEpisodes


class SaveWalk:
    """One walk, which saves each object where it is met first; ``node_of`` begins it."""

    def __init__(self) -> None:
        self._nodes: dict[int, dict[str, Any]] = {}  # of objects by their identity
        self._kept: list[Any] = []  # so that no identity is given to another object during the walk
        self._count = 0  # of nodes that others refer to
        self._depth = 0
        self._mujoco: list[Any] = []
        self._memory: list[tuple[int, int, str]] = []  # extents of arrays and tensors, with their paths
        self._foreign: list[tuple[np.ndarray, dict[str, Any], str]] = []  # arrays in memory that is not NumPy's

    def node_of(self, value: Any, path: str) -> Any:
        """Return a value as a tree of plain data."""
        node = self._save(value, path)
        owners = [(self._number(self._nodes[id(owner)]), owner) for owner in self._mujoco if self._foreign]
        for array, foreign, place in self._foreign:
            window = mujoco_state.window(array, owners)
            if window is None:
                self._memory.append((*arrays.extent(array), place))
            else:
                for part in foreign.keys() - {"number"}:
                    del foreign[part]
                foreign |= {"kind": "window", **window}
        self._require_own_memory()
        return node

    def _save(self, value: Any, path: str) -> Any:
        if type(value) in PLAIN:
            return value
        if type(value) is tuple and len(value) < arrays.LONG and all(type(item) in PLAIN for item in value):
            return [*value]  # which no list is saved as; tables of a task have thousands of them
        if id(value) in self._nodes:
            return {"kind": "seen", "of": self._number(self._nodes[id(value)])}
        if self._depth == DEEPEST:
            raise unseen(path, f"at most {DEEPEST} objects within each other", "more")
        node: dict[str, Any] = {}
        if not _is_fixed(value):
            self._nodes[id(value)] = node
            self._kept.append(value)
        self._depth += 1
        node.update(self._new(value, path))
        self._depth -= 1
        return node

    def _number(self, node: dict[str, Any]) -> int:
        if "number" not in node:
            node["number"], self._count = self._count, self._count + 1
        return int(node["number"])

    def _new(self, value: Any, path: str) -> dict[str, Any]:
        save = _BY_TYPE.get(type(value))
        if save is None:
            save = next((found for fits, found in _BY_KIND if fits(value)), None)
        if save is None:
            raise unseen(path, "plain data", f"{name_of(value)}, whose state cannot be seen")
        node: dict[str, Any] = save(self, value, path)
        return node

    def _array(self, value: np.ndarray, path: str) -> dict[str, Any]:
        root = arrays.root_of(value)
        if type(root) is not np.ndarray:
            raise unseen(path, "an ordinary array", f"a part of a {name_of(root)}")
        if arrays.is_view(value):
            return {"kind": "view", "of": self._save(root, f"{path}.base"), **arrays.view_place(value)}
        if value.dtype.kind != "O" and value.base is not None and value.size:
            self._foreign.append((value, self._nodes[id(value)], path))
        elif value.size:
            self._memory.append((*arrays.extent(value), path))
        if value.dtype.kind != "O":
            return {"kind": "array", **arrays.array_node(value, path)}
        items = [self._save(item, f"{path}.flat[{index}]") for index, item in enumerate(value.flat)]
        return {"kind": "objects", "shape": [*value.shape], "items": items}

    def _scalar(self, value: np.generic, path: str) -> dict[str, Any]:
        return {"kind": "scalar", **arrays.scalar_node(value, path)}

    def _tensor(self, value: torch.Tensor, path: str) -> dict[str, Any]:
        if value.grad_fn is not None or value.layout != torch.strided or value.grad is not None:
            raise unseen(path, "a tensor without gradients", "one with a history")
        storage = value.untyped_storage()
        if value.device.type == "cpu":
            self._memory.append((storage.data_ptr(), storage.data_ptr() + storage.nbytes(), path))
        return {"kind": "tensor", "value": value.detach().clone(), "requires_grad": value.requires_grad}

    def _generator(self, value: Any, path: str) -> dict[str, Any]:
        return {"kind": "random", **generator_node(value)}

    def _sequence(self, value: Any, path: str) -> dict[str, Any]:
        kind = type(value).__name__
        extra = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
        numbers = arrays.numbers_node(value)
        if numbers is not None:
            return {"kind": "numbers", "in": kind, **numbers, **extra}
        items = [self._save(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return {"kind": kind, "items": items, **extra}

    def _set(self, value: Any, path: str) -> dict[str, Any]:
        again = type(value)([*value])
        if [*again] != [*value] or sys.getsizeof(again) != sys.getsizeof(value):
            raise unseen(path, "a set as it would be when made anew", "one ordered by what it once held")
        return {"kind": type(value).__name__, "items": [self._save(item, path) for item in value]}

    def _range(self, value: Any, path: str) -> dict[str, Any]:
        items = [self._save(item, path) for item in (value.start, value.stop, value.step)]
        return {"kind": type(value).__name__, "items": items}

    def _complex(self, value: complex, path: str) -> dict[str, Any]:
        return {"kind": "complex", "items": [value.real, value.imag]}

    def _dict(self, value: Any, path: str) -> dict[str, Any]:
        node: dict[str, Any] = {"kind": type(value).__name__}
        if isinstance(value, defaultdict):
            node["factory"] = self._save(value.default_factory, f"{path}.default_factory")
        node["items"] = [
            [self._save(key, f"a key of {path}"), self._save(item, f"{path}[{key!r}]" if path else str(key))]
            for key, item in value.items()
        ]
        return node

    def _enum(self, value: enum.Enum, path: str) -> dict[str, Any]:
        if value.name not in type(value).__members__:
            raise unseen(path, "a single member", str(value))
        return {"kind": "enum", "type": name_of(value), "name": value.name}

    def _constant(self, value: Any, path: str) -> dict[str, Any]:
        parts = [self._save(part, f"{path}.{name}") for name, part in constants.parts_of(value)]
        return {"kind": "constant", "text": constants.text_of(value), **({"parts": parts} if parts else {})}

    def _named(self, value: Any, path: str) -> dict[str, Any]:
        items = [self._save(item, f"{path}.{name}") for name, item in zip(value._fields, value, strict=True)]
        return {"kind": "named", "type": name_of(value), "items": items}

    def _mujoco_object(self, value: Any, path: str) -> dict[str, Any]:
        self._mujoco.append(value)
        return {"kind": "mujoco", **mujoco_state.mujoco_node(value, path)}

    def _episode(self, value: SeededEpisodes, path: str) -> dict[str, Any]:
        return {"kind": "episode", "place": value.place()}

    def _object(self, value: Any, path: str) -> dict[str, Any]:
        # In the order of the names, in which JSON has them too: an object is saved where it is met first.
        names = sorted(vars(value).keys() - left_out(value))
        attributes = {name: self._save(vars(value)[name], f"{path}.{name}") for name in names}
        node = {"kind": "object", "type": name_of(value), "attributes": attributes}
        return node | {"rebuilt": copy.deepcopy(value.state())} if is_rebuilt(value) else node

    def _require_own_memory(self) -> None:
        self._memory.sort()
        for (_, end, path), (begin, _, other) in zip(self._memory, self._memory[1:], strict=False):
            if begin < end:
                raise unseen(path, "an array with memory of its own", f"some of {other}")


def _is_fixed(value: Any) -> bool:
    """Whether nothing can change a value, so that it does not matter who shares it."""
    if isinstance(value, tuple | enum.Enum | np.generic):
        return True
    return constants.is_constant(value) and not constants.parts_of(value)


_BY_TYPE: dict[type, Callable[..., dict[str, Any]]] = {
    np.ndarray: SaveWalk._array,
    **dict.fromkeys((torch.Tensor, torch.nn.Parameter), SaveWalk._tensor),
    **dict.fromkeys(GENERATORS, SaveWalk._generator),
    **dict.fromkeys((list, tuple, deque), SaveWalk._sequence),
    **dict.fromkeys((set, frozenset), SaveWalk._set),
    **dict.fromkeys((range, slice), SaveWalk._range),
    complex: SaveWalk._complex,
    **dict.fromkeys((dict, OrderedDict, Counter, defaultdict), SaveWalk._dict),
}
_BY_KIND: tuple[tuple[Callable[[Any], bool], Callable[..., dict[str, Any]]], ...] = (
    (lambda value: isinstance(value, np.generic), SaveWalk._scalar),
    (constants.is_constant, SaveWalk._constant),
    (lambda value: isinstance(value, enum.Enum), SaveWalk._enum),
    (is_named_tuple, SaveWalk._named),
    (mujoco_state.holds, SaveWalk._mujoco_object),
    (lambda value: isinstance(value, SeededEpisodes), SaveWalk._episode),
    (is_python_object, SaveWalk._object),
)
