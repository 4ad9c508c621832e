"""The state of an environment: everything that its Python objects hold, MuJoCo's arrays and random generators.

An environment is walked from wrapper to wrapper through the attributes of its objects. What is known to be plain
data is saved; what cannot change an episode (functions, classes, renderers) is left; all else is refused by name,
since state that is not seen would be a trajectory that is silently another one.
"""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from entroreg.envs.saving import mujoco_state
from entroreg.envs.saving.classes import CannotSaveError, is_constant, is_python_object
from entroreg.envs.saving.seeded_episodes import SeededEpisodes

# Of constructors and renderers, or overwritten by the next step before anyone reads them.
_LEFT_OUT = frozenset(
    {
        *("_ezpickle_args", "_ezpickle_kwargs", "_saved_kwargs", "_cached_spec", "spec", "metadata"),
        *("mujoco_renderer", "buf_infos", "reset_infos"),
    }
)
_LONG = 16  # items of a list of numbers from which on it is an array, such as a Monitor's of all returns
_PLAIN = (bool, int, float, str, bytes, np.generic)
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)


def environment_state(env: Any) -> dict[str, Any]:
    """Return the state of an environment, or of a vector of environments in this process, as a tree of plain data.

    Args:
        env: of Gymnasium or Stable-Baselines3, with all its wrappers, at any step of an episode.

    Returns:
        Dicts and lists of numbers, strings and arrays, for ``split_state``. Arrays are copies.

    Raises:
        CannotSaveError: it holds something whose state cannot be seen, named by its path.
    """
    return _Walk().save(env, "env")  # type: ignore[no-any-return]


def load_environment_state(env: Any, state: dict[str, Any]) -> None:
    """Put a saved state into an environment made and reset as the saved one was; it steps on exactly from there.

    MuJoCo's contacts are not put back: the next step computes them, as it would have anyway.

    Args:
        env: of the same kind; its objects stay, with other values.
        state: from ``environment_state``.

    Raises:
        ValueError: the environment is of another kind, named by the path where it differs.
    """
    _Walk().load(env, state, "env")


class _Walk:
    """One walk through the objects, which meets each of them once."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of objects by their identity, while saving
        self._kept: list[Any] = []  # so that no identity is given to another object during the walk
        self._loaded: dict[int, Any] = {}  # objects by number, while loading
        self._taken: set[int] = set()  # identities of live objects that have got their values

    def save(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, _PLAIN):
            return value
        if is_constant(value):
            return {"kind": "constant"}
        if id(value) in self._numbers:
            return {"kind": "seen", "number": self._numbers[id(value)]}
        number = self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        return {**self._save_new(value, path), "number": number}

    def _save_new(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, np.ndarray | torch.Tensor):
            return self._save_array(value, path)
        if isinstance(value, _GENERATORS):
            return {"kind": "random", "state": _random_state(value)}
        if type(value) is list and len(value) > _LONG and {type(item) for item in value} in ({float}, {int}):
            numbers = np.array(value)
            if numbers.dtype.kind in "if":  # not too large for that
                return {"kind": "numbers", "value": numbers}
        if type(value) in (list, tuple, deque, set):
            items = [self.save(item, f"{path}[{index}]") for index, item in enumerate(value)]
            return {"kind": type(value).__name__, "items": items}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"kind": "named", "type": _name(value), "items": [self.save(item, path) for item in value]}
        if type(value) in (dict, OrderedDict, defaultdict):
            pairs = [[self.save(key, path), self.save(item, f"{path}[{key!r}]")] for key, item in value.items()]
            return {"kind": "dict", "items": pairs}
        if mujoco_state.holds(value):
            return {"kind": "mujoco", "arrays": mujoco_state.arrays_of(value, path)}
        if isinstance(value, SeededEpisodes):
            return {"kind": "episode", "place": value.place()}
        if not is_python_object(value):
            raise CannotSaveError(
                f"{path} must hold plain data, got {_name(value)}, whose state cannot be seen: put SeededEpisodes "
                "around the environment, which is then saved between episodes"
            )
        # As pairs, because JSON sorts dicts, and an object is saved where it is met first.
        attributes = [
            [name, self.save(item, f"{path}.{name}")] for name, item in vars(value).items() if name not in _LEFT_OUT
        ]
        return {"kind": "object", "type": _name(value), "attributes": attributes}

    def _save_array(self, value: np.ndarray | torch.Tensor, path: str) -> dict[str, Any]:
        if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
            items = [self.save(item, f"{path}.flat[{index}]") for index, item in enumerate(value.flat)]
            return {"kind": "objects", "dtype": value.dtype.str, "shape": list(value.shape), "items": items}
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
            raise CannotSaveError(f"{path} must be an array of numbers, got one of {value.dtype}")
        return {"kind": "array", "value": value.copy() if isinstance(value, np.ndarray) else value.detach().clone()}

    def load(self, live: Any, node: Any, path: str) -> Any:
        """Return what stands at a path from now on: the live object with its saved values, or a new one."""
        if not isinstance(node, dict):
            return node
        kind = node["kind"]
        if kind == "constant":
            return live
        if kind == "seen":
            return self._loaded[node["number"]]
        # What is one object here may have been two there: each live one takes values once.
        loaded = self._LOADERS[kind](self, None if id(live) in self._taken else live, node, path)
        self._loaded[node["number"]] = loaded
        self._kept.append(loaded)
        self._taken.add(id(loaded))
        return loaded

    def _load_array(self, live: Any, node: dict[str, Any], path: str) -> Any:
        value = node["value"]
        fits = type(live) is type(value) and live.shape == value.shape and live.dtype == value.dtype
        if fits and isinstance(live, torch.Tensor):
            live.data.copy_(value)
        elif fits and live.flags.writeable:
            live[...] = value  # in place, for whoever else holds it
        else:
            return value
        return live

    def _load_numbers(self, live: Any, node: dict[str, Any], path: str) -> Any:
        items = node["value"].tolist()
        if type(live) is not list:
            return items
        live[:] = items
        return live

    def _load_objects(self, live: Any, node: dict[str, Any], path: str) -> Any:
        array = np.empty(len(node["items"]), dtype=node["dtype"])
        for index, item in enumerate(node["items"]):
            array[index] = self.load(None, item, f"{path}.flat[{index}]")
        return array.reshape(node["shape"])

    def _load_random(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if live is None and node["state"]["of"] == "Generator":  # made when first used
            live = np.random.Generator(np.random.PCG64())
        _set_random_state(live, node["state"], path)
        return live

    def _load_items(self, live: Any, node: dict[str, Any], path: str) -> Any:
        old = list(live) if isinstance(live, list | tuple | deque) and len(live) == len(node["items"]) else None
        items = [
            self.load(None if old is None else old[index], item, f"{path}[{index}]")
            for index, item in enumerate(node["items"])
        ]
        if node["kind"] == "tuple":
            return tuple(items)
        if type(live).__name__ != node["kind"]:
            return {"list": list, "deque": deque, "set": set}[node["kind"]](items)
        live.clear()
        live.update(items) if node["kind"] == "set" else live.extend(items)
        return live

    def _load_named(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if _name(live) != node["type"] or len(live) != len(node["items"]):
            raise _differs(path, node["type"], live)
        return type(live)(*[self.load(old, item, path) for old, item in zip(live, node["items"], strict=True)])

    def _load_dict(self, live: Any, node: dict[str, Any], path: str) -> Any:
        into = live if isinstance(live, dict) else {}
        pairs = {}
        for saved_key, item in node["items"]:
            key = self.load(None, saved_key, path)
            pairs[key] = self.load(into.get(key), item, f"{path}[{key!r}]")
        into.clear()
        into.update(pairs)
        return into

    def _load_mujoco(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not mujoco_state.holds(live):
            raise _differs(path, "MuJoCo's model or data", live)
        mujoco_state.load_arrays(live, node["arrays"], path)
        return live

    def _load_episode(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if not isinstance(live, SeededEpisodes):
            raise _differs(path, "SeededEpisodes", live)
        live.go_to(node["place"])
        return live

    def _load_object(self, live: Any, node: dict[str, Any], path: str) -> Any:
        if live is None or _name(live) != node["type"]:
            raise _differs(path, node["type"], live)
        self._loaded[node["number"]] = live  # its attributes may refer to it
        values = vars(live)
        for name, item in node["attributes"]:
            values[name] = self.load(values.get(name), item, f"{path}.{name}")
        for name in set(values) - {name for name, _ in node["attributes"]} - _LEFT_OUT:
            del values[name]
        return live

    _LOADERS: Mapping[str, Any] = {
        "array": _load_array,
        "numbers": _load_numbers,
        "objects": _load_objects,
        "random": _load_random,
        **dict.fromkeys(("list", "tuple", "deque", "set"), _load_items),
        "named": _load_named,
        "dict": _load_dict,
        "mujoco": _load_mujoco,
        "episode": _load_episode,
        "object": _load_object,
    }


def _random_state(generator: Any) -> dict[str, Any]:
    if isinstance(generator, np.random.Generator):
        return {"of": "Generator", "state": generator.bit_generator.state}
    if isinstance(generator, np.random.RandomState):
        return {"of": "RandomState", "state": generator.get_state(legacy=False)}
    if isinstance(generator, torch.Generator):
        return {"of": "torch", "state": generator.get_state()}
    return {"of": "random", "state": generator.getstate()}


def _set_random_state(generator: Any, saved: dict[str, Any], path: str) -> None:
    try:
        if saved["of"] == "Generator":
            generator.bit_generator.state = saved["state"]
        elif saved["of"] == "random":
            generator.setstate(saved["state"])
        else:
            generator.set_state(saved["state"])
    except (AttributeError, TypeError, ValueError) as error:
        raise _differs(path, f"a random generator ({saved['of']})", generator) from error


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _differs(path: str, expected: str, live: Any) -> ValueError:
    return ValueError(
        f"{path} must be {expected}, as when it was saved, got {_name(live)}: make the environment as it was made "
        "then"
    )
