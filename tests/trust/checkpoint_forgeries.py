"""Checkpoints that mean harm, under manifests that are right about them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

from checkpoint_damage import Damage, any_file, harmful_pickle

MANIFEST, METADATA, TENSORS = "manifest.json", "metadata.json", "tensors.safetensors"
DEEP = 100_000
HUGE = 10**400
DTYPES = "F64 F32 F16 BF16 I64 I8 U8 U16 U64 BOOL C64 F4 F8_E4M3 F8_E5M2 F6_E2M3 X".split()
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, -1, 2**31, 2**63, 2**64, -(2**63), HUGE, 1.5, -0.0, 1e308),
    *("", "x", "..", "../../etc/passwd", "\ud800", "\0", "x" * 100_000, "F32", "float32", "__metadata__"),
    *([], [0], [[]], [1, [2, [3]]], [2**62, 2**62], {}, {"": 0}, {"a": {"b": []}}, list(range(5000))),
)
TEXTS: tuple[bytes, ...] = (
    *(b"[" * DEEP, b'{"a":' * DEEP, b"[" * 900 + b"]" * 900, b"[" * DEEP + b"]" * DEEP, b"9" * DEEP, b"1e999"),
    *(
        b"NaN",
        b"-Infinity",
        b'{"metadata": {"x": Infinity}, "tables": {}}',
        b'{"a": 1, "a": 2}',
        b"",
        b"null",
        b"{",
    ),
    *(
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"\xff\xff\xff",
        b'"\\ud800"',
        b"[0," * DEEP,
        b"[" + b"{}," * DEEP + b"{}]",
    ),
)


def write(folder: Path, name: str, data: bytes) -> None:
    """Write a file and tell the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _replace_somewhere(rng: random.Random, tree: Any) -> Any:
    """Return a JSON tree with one of its values, keys or items changed, removed or doubled."""
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        tree = copy.copy(tree)
        key = rng.choice(list(tree))
        action = rng.random()
        if action < 0.7:
            tree[key] = _replace_somewhere(rng, tree[key])
        elif action < 0.85:
            del tree[key]
        else:
            tree[rng.choice(["", "more", "../x", f"{key}x", "\ud800"])] = copy.copy(tree[key])
        return tree
    if isinstance(tree, list) and tree and rng.random() < 0.6:
        index = rng.randrange(len(tree))
        return [*tree[:index], _replace_somewhere(rng, tree[index]), *tree[index + rng.choice([0, 1, 1]) :]]
    return rng.choice(VALUES)


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _manifest(rng: random.Random, folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(_dumps(_replace_somewhere(rng, manifest)))


def _manifest_text(rng: random.Random, folder: Path) -> None:
    text = (folder / MANIFEST).read_bytes()
    doubled = text.replace(b'"schema_version"', b'"schema_version": 1, "schema_version"')
    (folder / MANIFEST).write_bytes(rng.choice([*TEXTS, doubled, text + text, harmful_pickle(rng, folder)]))


def _large_manifest(rng: random.Random, folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if rng.random() < 0.5:
        os.truncate(folder / MANIFEST, rng.choice([(16 << 20) + 1, 1 << 40]))
    else:
        names = [f"replay-{index:05d}.safetensors" for index in range(rng.choice([20, 20_000]))]
        manifest["files"] |= {name: {"bytes": 0, "sha256": "0" * 64} for name in names}
        for name in names[:20]:
            (folder / name).write_bytes(b"")
        (folder / MANIFEST).write_bytes(_dumps(manifest))


def _path_traversal(rng: random.Random, folder: Path) -> None:
    """The manifest lists files elsewhere, with the right size and hash."""
    secret = folder.parent / "secret"
    secret.write_bytes(b"a password")
    name = rng.choice(
        ["../secret", str(secret), "./../secret", f"../{folder.name}/{TENSORS}", f"./{TENSORS}", "..\\secret", "~"]
    )
    manifest = json.loads((folder / MANIFEST).read_bytes())
    entry = {"bytes": 10, "sha256": hashlib.sha256(b"a password").hexdigest()}
    if rng.random() < 0.5:
        del manifest["files"][rng.choice(list(manifest["files"]))]
    manifest["files"][name] = entry
    (folder / MANIFEST).write_bytes(_dumps(manifest))
    if rng.random() < 0.5:
        saved = json.loads((folder / METADATA).read_bytes())
        table = {"dtype": "uint8", "row_shape": [], "rows": 1, "block_rows": 1}
        if isinstance(saved.get("tables"), dict):
            saved["tables"]["../secret"] = table
        write(folder, METADATA, _dumps(saved))


def _lying_size(rng: random.Random, folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    name = rng.choice(list(manifest["files"]))
    manifest["files"][name]["bytes"] = rng.choice([0, 1, 2**40, 2**63, 2**70, HUGE])
    if rng.random() < 0.3:
        os.truncate(folder / name, min(manifest["files"][name]["bytes"], 1 << 28))
    (folder / MANIFEST).write_bytes(_dumps(manifest))


def _metadata(rng: random.Random, folder: Path) -> None:
    write(folder, METADATA, _dumps(_replace_somewhere(rng, json.loads((folder / METADATA).read_bytes()))))


def _metadata_text(rng: random.Random, folder: Path) -> None:
    text = rng.choice(TEXTS)
    wrapped = b'{"metadata": {"x": ' + text + b'}, "tables": {}}'
    write(folder, METADATA, rng.choice([text, wrapped, wrapped, harmful_pickle(rng, folder)]))


def _large_metadata(rng: random.Random, folder: Path) -> None:
    name = rng.choice([METADATA, METADATA, TENSORS])
    size = rng.choice([(64 << 20) + 1, 1 << 27])
    write(folder, name, b"")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = {"bytes": size, "sha256": "0" * 64}
    (folder / MANIFEST).write_bytes(_dumps(manifest))
    os.truncate(folder / name, size)


def _descriptions(rng: random.Random, folder: Path) -> None:
    """Tables of absurd sizes, or whose blocks are others than those that are there."""
    saved = json.loads((folder / METADATA).read_bytes())
    table = {"dtype": "float32", "row_shape": [3], "rows": 55, "block_rows": 10}
    changes: dict[str, tuple[Any, ...]] = {
        "dtype": ("float64", "complex64", "object", "O", "", 4),
        "row_shape": ([], [2**62], [HUGE], [-3], [3, 0], [3, 2**40], "3", [True], list(range(3000))),
        "rows": (0, 54, 56, 10**18, HUGE, -1, 55.0, True),
        "block_rows": (0, 1, 11, 2**63, HUGE, -10, None),
    }
    for key in rng.sample(list(changes), rng.choice([1, 1, 2])):
        table[key] = rng.choice(changes[key])
    tables = saved.get("tables") or {}
    saved["tables"] = {**tables, rng.choice(["replay", "replay", "other", "", "../x"]): table}
    write(folder, METADATA, _dumps(saved))


def _safetensors(rng: random.Random, folder: Path) -> None:
    """A header that lies, in the tensors or in a block."""
    name = rng.choice([path.name for path in folder.glob("*.safetensors")] or [TENSORS])
    data = (folder / name).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    header = rng.choice([_changed_header, _replace_somewhere, _many_tensors])(rng, header)
    text = rng.choice([_dumps(header)] * 9 + [*TEXTS[:6]])
    length = rng.choice([len(text)] * 9 + [0, 1, len(text) - 1, 10**8, 10**8 + 1, 2**40, 2**63, 2**64 - 1])
    write(folder, name, length.to_bytes(8, "little") + text + rng.choice([rest] * 9 + [b"", rest[:-1], rest * 2]))


def _changed_header(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    header = copy.deepcopy(header)
    entry = header[rng.choice([key for key in header if key != "__metadata__"])]
    change = rng.randrange(3)
    if change == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif change == 1:
        shapes = ([2**63, 0], [2**62, 2**62, 0], [2**64, 0], [0] * 5000, [2**40], [-1], [1] * 70, [2**32, 2**32])
        entry["shape"] = rng.choice(shapes)
    else:
        entry["data_offsets"] = rng.choice([[0, 2**40], [8, 0], [0, 0], [-8, 8], [0, 2**64], [2**63, 2**63], [0]])
    return header


def _many_tensors(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    count, shape = rng.choice([(20_000, [0]), (1, [2**63, 0]), (1, [2**63 - 1, 0]), (1, [0] * 70), (1, [0] * 5000)])
    empty = {"dtype": rng.choice(DTYPES), "shape": shape, "data_offsets": [0, 0]}
    return {**{str(index): empty for index in range(count)}, **header}


def _other_contents(rng: random.Random, folder: Path) -> None:
    """A file in the place of another, or a pickle or an archive, under its own hash."""
    names = [path.name for path in folder.iterdir() if path.name != MANIFEST]
    data = rng.choice([any_file(rng, folder).read_bytes(), harmful_pickle(rng, folder), rng.randbytes(300)])
    write(folder, rng.choice(names), data)


FORGERIES: tuple[Damage, ...] = (
    _manifest,
    _manifest_text,
    _large_manifest,
    _path_traversal,
    _lying_size,
    _metadata,
    _metadata_text,
    _large_metadata,
    _descriptions,
    _safetensors,
    _safetensors,
    _other_contents,
)
