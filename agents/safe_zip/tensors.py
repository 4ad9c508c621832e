"""What ``torch.save`` wrote, read without ``torch.load``: tensors made here, of bytes whose number was checked.

``torch.load(weights_only=True)`` runs no code, but believes what a tensor says of its shape: one that is larger
than its storage makes torch allocate, and the zip inside is read by another reader than ours. So the pickle in it
is read as any other (see ``pickles``), every tensor must lie within its storage, and torch later loads only what
was written anew.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from entroreg.agents.safe_zip.archive import TORCH, read_members
from entroreg.agents.safe_zip.pickles import Made, Name, Pairs, Persistent, read_pickle
from entroreg.agents.safe_zip.values import (
    PLAIN_MAKERS,
    Builder,
    Key,
    Maker,
    found,
    key_of,
    ordered_dict,
    require,
    require_choice,
    require_shape,
    require_type,
    scalar,
)

_MOST_STEPS = 500_000  # a tensor has some thirty
_SLACK = 1 << 20
_SHARED = 4  # times that all bytes may be used: tensors may be views of one storage
_MOST = 1 << 40  # elements of a tensor with none, beside its length of 0
_PICKLE = "/data.pkl"
_STORAGES: dict[Key, torch.dtype] = {
    ("torch", "BFloat16Storage"): torch.bfloat16,
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "CharStorage"): torch.int8,
    ("torch", "DoubleStorage"): torch.float64,
    ("torch", "FloatStorage"): torch.float32,
    ("torch", "HalfStorage"): torch.float16,
    ("torch", "IntStorage"): torch.int32,
    ("torch", "LongStorage"): torch.int64,
    ("torch", "ShortStorage"): torch.int16,
}


def read_tensors(content: bytes) -> Any:
    """Return what a file of ``torch.save`` holds: containers, plain values and tensors on the CPU.

    Args:
        content: of the file, as torch 1.6 and later write it.

    Raises:
        UnsafeZipError: a damaged file, or one with something else inside.
    """
    members = read_members(content, TORCH)
    roots = [name.removesuffix(_PICKLE) for name in members if name.endswith(_PICKLE)]
    require(roots, len(roots) == 1, "one data.pkl in what torch.save wrote")
    order = members.get(f"{roots[0]}/byteorder", b"little")
    require(order, order == b"little", "little-endian tensors")
    node, steps = read_pickle(members[f"{roots[0]}{_PICKLE}"], _MOST_STEPS)
    storages = _Storages({name.removeprefix(f"{roots[0]}/data/"): raw for name, raw in members.items()})

    def tensor(builder: Builder, made: Made) -> Tensor:
        return _tensor(builder, made, storages)

    makers: dict[Key, Maker] = {
        **PLAIN_MAKERS,
        ("collections", "OrderedDict"): _state_dict,
        ("numpy._core.multiarray", "scalar"): _number,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
    }
    return Builder(makers, {}, steps, _SHARED * len(content) + _SLACK).build(node)


class _Storages:
    """The bytes beside the pickle, each as one flat tensor."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self._members = members
        self._flat: dict[tuple[str, torch.dtype], Tensor] = {}

    def find(self, node: Any) -> Tensor:
        """Return the storage of ("storage", class, key, device, number of elements)."""
        parts = require_type(require_type(node, Persistent).key, tuple)
        require(parts, len(parts) == 5, "a storage")
        require_choice(parts[0], "storage")
        dtype = found(_STORAGES, key_of(require_type(parts[1], Name)))
        key, count = require_type(parts[2], str), require_type(parts[4], int)
        raw = self._members.get(key)
        require(parts, raw is not None and len(raw) == count * dtype.itemsize, "a storage of the size that it says")
        if (key, dtype) not in self._flat:
            empty = torch.empty(0, dtype=dtype)
            self._flat[key, dtype] = torch.frombuffer(bytearray(raw), dtype=dtype) if raw else empty
        return self._flat[key, dtype]


def _tensor(builder: Builder, made: Made, storages: _Storages) -> Tensor:
    """Return the tensor of (storage, offset, size, stride, requires_grad, hooks[, metadata])."""
    parts = require_type(made.arguments, tuple)
    require(parts, len(parts) in (6, 7) and not made.keywords, "the arguments of a tensor")
    flat = storages.find(parts[0])
    offset = require(parts[1], type(parts[1]) is int and parts[1] >= 0, "an offset")
    size, stride = require_shape(parts[2]), require_shape(parts[3])
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=False))
    within = len(size) == len(stride) and count <= len(flat) and (count == 0 or last < len(flat))
    require(parts, within and math.prod(max(length, 1) for length in size) < _MOST, "a tensor within its storage")
    builder.spend(count * flat.itemsize)
    return flat.as_strided(size, stride, offset).clone() if count else flat.new_empty(size)


def _number(builder: Builder, made: Made) -> Any:
    """Return NumPy's number as Python's: old schedules left such learning rates, which torch no longer loads."""
    return scalar(builder, made).item()


def _parameter(builder: Builder, made: Made) -> Tensor:
    parts = require_type(made.arguments, tuple)
    require(parts, len(parts) == 3, "the arguments of a parameter")
    inner: Tensor = require_type(builder.build(parts[0]), Tensor)
    return inner


def _state_dict(builder: Builder, made: Made) -> dict[Any, Any]:
    """Return an ordered dict with the versions of its modules, by which batch norm knows old files."""
    values = ordered_dict(builder, made)
    attributes = made.state.pairs if isinstance(made.state, Pairs) else []
    for node in [node for key, node in attributes if isinstance(key, str) and key == "_metadata"]:
        versions = require_type(builder.build(node), dict)
        fits = all(isinstance(name, str) and _is_versions(entry) for name, entry in versions.items())
        values._metadata = require(  # type: ignore[attr-defined]
            versions, fits, "the versions of modules"
        )
    return values


def _is_versions(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(value, int | type(None)) for value in entry.values())
