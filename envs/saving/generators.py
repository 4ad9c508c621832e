"""Random generators of NumPy, Python and torch as plain data."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from entroreg.envs.saving.errors import malformed, of_another_kind
from entroreg.envs.saving.nodes import part

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
_BITS = {
    cls.__name__: cls
    for cls in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
}
_HIGHEST = {"pos": 624, "buffer_pos": 4}  # NumPy reads from there without looking
_POOL = 4  # words, NumPy's default


def generator_node(generator: Any) -> dict[str, Any]:
    """Return all that the draws of a generator depend on, and those of the generators that it spawns."""
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        return {"of": "Generator", "state": bits.state, **_seeds(bits.seed_seq)}
    if isinstance(generator, np.random.RandomState):
        return {"of": "RandomState", "state": generator.get_state(legacy=False)}
    if isinstance(generator, torch.Generator):
        return {"of": "torch", "state": generator.get_state()}
    version, words, gauss = generator.getstate()
    return {"of": "Random", "state": {"version": version, "words": np.array(words, np.uint32), "gauss": gauss}}


def generator_of(live: Any, node: dict[str, Any], path: str) -> Any:
    """Return a generator with a saved state: the live one, where others may draw from it too, or a new one.

    Raises:
        ValueError: the live one is of another kind, or the state is of none.
    """
    of, state = part(node, "of", str, path), node.get("state")
    if of not in _MADE:
        raise malformed(path, f"a generator of {', '.join(_MADE)}", repr(of)[:100])
    kind, make, put = _MADE[of]
    if live is not None and type(live) is not kind:
        raise of_another_kind(path, f"a random generator ({of})", live)
    try:
        generator = make(node, path) if live is None or of == "Generator" else live
        put(generator, state)
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise malformed(path, f"one of a random generator ({of})", repr(state)[:100]) from error
    return generator


def _seeds(sequence: Any) -> dict[str, Any]:
    if type(sequence) is not np.random.SeedSequence or sequence.pool_size != _POOL:
        return {}
    entropy: Any = sequence.entropy
    return {
        "entropy": int(entropy) if np.ndim(entropy) == 0 else [int(word) for word in entropy],
        "spawn_key": [int(word) for word in sequence.spawn_key],
        "spawned": sequence.n_children_spawned,
    }


def _new_generator(node: dict[str, Any], path: str) -> np.random.Generator:
    seeds: Any = 0
    if "entropy" in node:
        key, spawned = part(node, "spawn_key", list, path), part(node, "spawned", int, path)
        seeds = np.random.SeedSequence(node["entropy"], spawn_key=key, n_children_spawned=spawned)
    return np.random.Generator(_BITS[node["state"]["bit_generator"]](seeds))


def _new_random_state(node: dict[str, Any], path: str) -> np.random.RandomState:
    return np.random.RandomState(_BITS[node["state"]["bit_generator"]](0))


def _put_numpy(generator: Any, state: dict[str, Any]) -> None:
    for name, highest in _HIGHEST.items():
        for place in (state, state["state"]):
            if name in place and not (type(place[name]) is int and 0 <= place[name] <= highest):
                raise ValueError(f"{name} must be an integer from 0 to {highest}, got {place[name]}")
    if isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def _put_python(generator: random.Random, state: dict[str, Any]) -> None:
    generator.setstate((state["version"], tuple(state["words"].tolist()), state["gauss"]))


def _put_torch(generator: torch.Generator, state: Any) -> None:
    generator.set_state(state)


_MADE: dict[str, Any] = {
    "Generator": (np.random.Generator, _new_generator, _put_numpy),
    "RandomState": (np.random.RandomState, _new_random_state, _put_numpy),
    "Random": (random.Random, lambda node, path: random.Random(), _put_python),
    "torch": (torch.Generator, lambda node, path: torch.Generator(), _put_torch),
}
