"""From plain data back into a live environment, which nothing in the data can make another program.

Objects stay and take attributes; functions, classes and MuJoCo's objects stay as they are. Arrays, lists and the
like are made anew, since the live ones may be shared with what is no part of the environment, such as a constant.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from entroreg.envs.saving import arrays, constants, leaves, mujoco_state
from entroreg.envs.saving.classes import is_named_tuple, is_python_object, is_rebuilt, left_out, name_of
from entroreg.envs.saving.errors import malformed, of_another_kind
from entroreg.envs.saving.generators import generator_of
from entroreg.envs.saving.live import (
    rebuild,
    require_data,
    require_new_attribute,
    require_replaceable_by,
    require_same_place,
)
from entroreg.envs.saving.nodes import DEEPEST, PLAIN, part
from entroreg.envs.saving.seeded_episodes import SeededEpisodes

_SEQUENCES: dict[str, type] = {cls.__name__: cls for cls in (list, tuple, deque, set, frozenset)}
_DICTS: dict[str, type] = {cls.__name__: cls for cls in (dict, OrderedDict, Counter, defaultdict)}
_THREE: dict[str, type] = {cls.__name__: cls for cls in (range, slice, complex)}


class LoadWalk:
    """One walk through a live environment and a saved one; ``load`` begins it, ``finish`` ends it."""

    def __init__(self) -> None:
        self._loaded: dict[int, Any] = {}  # by number
        self._before: dict[int, Any] = {}  # what stood in their places
        self._taken: dict[int, Any] = {}  # live objects that have got their values, by identity
        self._windows: list[tuple[np.ndarray, dict[str, Any], str]] = []
        self._depth = 0

    def load(self, live: Any, node: Any, path: str) -> Any:
        """Return what stands at a path from now on: the live object with its saved values, or a new one."""
        if type(node) in PLAIN:
            require_replaceable_by(node, live, path)
            return node
        if type(node) is list and all(type(item) in PLAIN for item in node):
            require_data(live, path, "a tuple")
            return tuple(node)
        if type(node) is not dict:
            raise malformed(path, "plain data or a node", type(node).__name__)
        kind = part(node, "kind", str, path)
        if kind in leaves.LEAVES:
            return self._note(node, leaves.LEAVES[kind](live, node, path), live, path)
        if kind not in _LOADERS or self._depth == DEEPEST:
            raise malformed(path, f"of a known kind, at most {DEEPEST} deep", repr(kind)[:100])
        self._depth += 1
        loaded = self._note(node, _LOADERS[kind](self, live, node, path), live, path)
        self._depth -= 1
        return loaded

    def finish(self) -> None:
        """Refuse live arrays that look at another part of MuJoCo's memory than the saved ones did."""
        owners = [(number, value) for number, value in self._loaded.items() if mujoco_state.holds(value)]
        for live, node, path in self._windows:
            found = mujoco_state.window(live, owners)
            if found is None or any(repr(node.get(name)) != repr(value) for name, value in found.items()):
                raise of_another_kind(path, f"a part of MuJoCo's {node.get('member')}", live)

    def _note(self, node: dict[str, Any], loaded: Any, live: Any, path: str) -> Any:
        if "number" in node:  # others refer to it, perhaps its own parts
            number = part(node, "number", int, path)
            self._loaded[number], self._before[number] = loaded, live
        return loaded

    def _take(self, live: Any, path: str) -> Any:
        if id(live) in self._taken:
            raise of_another_kind(path, "an object of its own", live)
        self._taken[id(live)] = live
        return live

    def _seen(self, live: Any, node: dict[str, Any], path: str) -> Any:
        number = part(node, "of", int, path)
        if number not in self._loaded:
            raise malformed(path, "one of something that came before", f"number {number}")
        require_same_place(self._loaded[number], live, self._before[number], path)
        return self._loaded[number]

    def _view(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not arrays.is_window(live):
            require_data(live, path, "an array")
        root = arrays.root_of(live) if isinstance(live, np.ndarray) and live.base is not None else None
        root = self.load(root, node.get("of"), f"{path}.base")
        if type(root) is not np.ndarray:
            raise malformed(path, "a part of an array", f"of a {type(root).__name__}")
        return arrays.view_of(root, node, path)

    def _window(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not arrays.is_window(live):
            raise of_another_kind(path, f"a part of MuJoCo's {node.get('member')}", live)
        self._windows.append((live, node, path))
        return live

    def _objects(self, live: Any, node: dict[str, Any], path: str) -> Any:
        nodes, shape = part(node, "items", list, path), part(node, "shape", list, path)
        olds = self._matched(live, live.flat if isinstance(live, np.ndarray) else (), np.ndarray, nodes, path)
        array = np.empty(len(nodes), dtype=object)
        for index, (old, item) in enumerate(zip(olds, nodes, strict=True)):
            array[index] = self.load(old, item, f"{path}.flat[{index}]")
        try:
            return array.reshape(shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise malformed(path, f"{len(nodes)} objects", repr(shape)[:100]) from error

    def _tensor(self, live: Any, node: dict[str, Any], path: str) -> Any:
        value = part(node, "value", torch.Tensor, path)
        if type(live) is torch.nn.Parameter:  # an optimiser may hold it
            if (live.shape, live.dtype) != (value.shape, value.dtype):
                raise of_another_kind(path, f"a parameter of {value.dtype} and shape {tuple(value.shape)}", live)
            self._take(live, path).data.copy_(value)
            return live
        require_data(live, path, "a tensor")
        new = value.detach().clone().to(live.device if type(live) is torch.Tensor else value.device)
        return new.requires_grad_(part(node, "requires_grad", bool, path) and new.is_floating_point())

    def _generator(self, live: Any, node: dict[str, Any], path: str) -> Any:
        # One generator here may have been two there.
        generator = generator_of(None if id(live) in self._taken else live, node, path)
        self._taken[id(generator)] = generator
        return generator

    def _matched(self, live: Any, items: Any, kind: type, nodes: list[Any], path: str) -> list[Any]:
        """Return the live items that belong to saved ones; none of them may get lost unless they are data."""
        if type(live) is kind and len(items) == len(nodes):
            return [*items]
        require_data(live, path, f"a {kind.__name__} of {len(nodes)}")
        return [None] * len(nodes)

    def _sequence(self, live: Any, node: dict[str, Any], path: str) -> Any:
        kind, nodes = _SEQUENCES[node["kind"]], part(node, "items", list, path)
        olds = self._matched(live, live, kind, nodes, path)
        made: Any = deque(maxlen=leaves.maxlen_of(node, path)) if kind is deque else []
        if kind in (list, deque):
            self._note(node, made, live, path)
        for index, (old, item) in enumerate(zip(olds, nodes, strict=True)):
            made.append(self.load(old, item, f"{path}[{index}]"))
        if kind in (set, frozenset):
            leaves.require_hashable(made, path)
        return made if kind in (list, deque) else kind(made)

    def _three(self, live: Any, node: dict[str, Any], path: str) -> Any:
        require_data(live, path, node["kind"])
        items = [self.load(None, item, path) for item in part(node, "items", list, path)]
        try:
            return _THREE[node["kind"]](*items)
        except (TypeError, ValueError, OverflowError) as error:
            raise malformed(path, f"the parts of a {node['kind']}", repr(items)[:100]) from error

    def _dict(self, live: Any, node: dict[str, Any], path: str) -> Any:
        kind: Any = _DICTS[node["kind"]]
        pairs = part(node, "items", list, path)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise malformed(path, "a node whose items are pairs", "others")
        if type(live) is not kind:
            require_data(live, path, f"a {kind.__name__}")
        old: Any = live if type(live) is kind else {}
        made = kind()
        if kind is defaultdict:
            factory = getattr(old, "default_factory", None)
            made.default_factory = self.load(factory, node.get("factory"), f"{path}.default_factory")
        self._note(node, made, live, path)
        old_keys = [*old] if len(old) == len(pairs) else [None] * len(pairs)
        for old_key, (saved, item) in zip(old_keys, pairs, strict=True):
            key = self.load(old_key, saved, f"a key of {path}")
            leaves.require_hashable([key], path)
            made[key] = self.load(old.get(key), item, f"{path}[{key!r}]" if path else str(key))
        for key in old.keys() - made.keys():
            require_data((key, old[key]), f"{path}[{key!r}]", "absent")
        return made

    def _constant(self, live: Any, node: dict[str, Any], path: str) -> Any:
        text, nodes = part(node, "text", str, path), part({"parts": [], **node}, "parts", list, path)
        if not constants.is_constant(live) or constants.text_of(live) != text:
            raise of_another_kind(path, text, live)
        parts = constants.parts_of(live)
        if len(parts) != len(nodes):
            raise of_another_kind(path, f"{text} with {len(nodes)} parts", live)
        self._note(node, live, live, path)
        loaded = [self.load(old, item, f"{path}.{name}") for (name, old), item in zip(parts, nodes, strict=True)]
        return constants.with_parts(live, loaded, path) if loaded else live

    def _named(self, live: Any, node: dict[str, Any], path: str) -> Any:
        name, nodes = part(node, "type", str, path), part(node, "items", list, path)
        if not is_named_tuple(live) or name_of(live) != name or len(live) != len(nodes):
            raise of_another_kind(path, f"{name} of {len(nodes)}", live)
        triples = zip(live._fields, live, nodes, strict=True)
        return tuple.__new__(type(live), [self.load(old, item, f"{path}.{field}") for field, old, item in triples])

    def _mujoco(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not mujoco_state.holds(live):
            raise of_another_kind(path, "MuJoCo's model or data", live)
        mujoco_state.put_node(self._take(live, path), node, path)
        return live

    def _episode(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not isinstance(live, SeededEpisodes):
            raise of_another_kind(path, "SeededEpisodes", live)
        self._take(live, path).go_to(part(node, "place", dict, path))
        return live

    def _object(self, live: Any, node: dict[str, Any], path: str) -> Any:
        name, attributes = part(node, "type", str, path), part(node, "attributes", dict, path)
        if not is_python_object(live) or name_of(live) != name:
            raise of_another_kind(path, name, live)
        self._note(node, self._take(live, path), live, path)
        if is_rebuilt(live):
            rebuild(live, node.get("rebuilt"), path)
        values, left = vars(live), left_out(live)
        if not all(type(attribute) is str and attribute not in left for attribute in attributes):
            raise malformed(path, "an object with attributes that are state", repr([*attributes])[:100])
        for attribute in sorted(attributes):
            if attribute not in values:
                require_new_attribute(live, attribute, path)
            values[attribute] = self.load(values.get(attribute), attributes[attribute], f"{path}.{attribute}")
        for attribute in values.keys() - attributes.keys() - left:
            require_data(values[attribute], f"{path}.{attribute}", "absent")
            del values[attribute]
        return live


_LOADERS: dict[str, Callable[..., Any]] = {
    "seen": LoadWalk._seen,
    "view": LoadWalk._view,
    "window": LoadWalk._window,
    "objects": LoadWalk._objects,
    "tensor": LoadWalk._tensor,
    "random": LoadWalk._generator,
    **dict.fromkeys(_SEQUENCES, LoadWalk._sequence),
    **dict.fromkeys(_THREE, LoadWalk._three),
    **dict.fromkeys(_DICTS, LoadWalk._dict),
    "constant": LoadWalk._constant,
    "named": LoadWalk._named,
    "mujoco": LoadWalk._mujoco,
    "episode": LoadWalk._episode,
    "object": LoadWalk._object,
}
