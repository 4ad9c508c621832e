"""Run folders with a damaged config.json."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from cases import Case
from good_ground import configs
from run_copies import copied_run

_WRONG: dict[type, tuple[Any, ...]] = {
    str: (3, None, ["a"], {"a": 1}, "nul\0byte"),
    int: ("text", [1], {"a": 1}, True, math.nan, 1.5, "1", -(10**40)),
    float: ("text", [1], {"a": 1}, True, math.nan, math.inf, "0.5"),
    bool: ("yes", 3, None, []),
    type(None): ({"a": 1}, [[1]]),
    list: ("ab", 3, None, [{"a": 1}], {"a": 1}),
}
"""By the type of what is right."""
_TEXTS = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"3",
    "not JSON": b"kind = sac",
    "binary": bytes(range(256)),
    "UTF-16": '{"kind": "sac"}'.encode("utf-16"),
    "nested": b"[" * 200_000,
    "nested objects": b'{"kind":' * 100_000,
    "huge": b'{"kind": "' + b"x" * 3_000_000 + b'"}',
    "long number": b'{"kind": "sac", "run": ' + b"9" * 5_000 + b"}",
    "no kind": b"{}",
    "another kind": b'{"kind": "ppo"}',
    "a kind in a list": b'{"kind": ["sac"]}',
    "kind alone": b'{"kind": "sac"}',
    "line feeds": b'{"kind": "a\\nb\\u0000"}',
}


def config_cases() -> Iterator[Case]:
    """Yield damaged config.json files of every kind of run, to be evaluated and resumed."""
    for kind, config in configs().items():
        for verb in ("eval", "resume"):
            for where, changed in _changed(config):
                yield copied_run(verb, kind, f"config of {kind}: {where}", partial(_write_config, changed))
            for half in (0.3, 0.6, 0.95):
                yield copied_run(verb, kind, "config that is cut", partial(_cut, "config.json", half))
    for verb in ("eval", "resume"):
        for name, damage in _PLACES.items():
            yield copied_run(verb, "sac", f"config that is {name}", damage)
        for name, text in _TEXTS.items():
            yield copied_run(verb, "sac", f"config that is {name}", partial(_write_text, text))
    yield copied_run("resume", "sac", "run in another place", lambda _copy: None, Path("elsewhere"))


def _changed(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield config files with one value of another type, one group or value too few, or one too many."""
    groups = [name for name, value in config.items() if isinstance(value, dict)]
    for group in groups:
        for wrong in (None, [], "text", 3):
            yield f"group {group}", {**config, group: wrong}
        yield f"group {group}", {name: value for name, value in config.items() if name != group}
        yield "one more", {**config, group: {**config[group], "no_such_option": 1}}
        yield "one more", {**config, group: {**config[group], "__class__": "os.system"}}
    for at in groups or [None]:
        values = config if at is None else config[at]
        for name, value in values.items():
            if name == "kind":
                continue
            for wrong in _WRONG[type(value)]:
                changed = copy.deepcopy(config)
                (changed if at is None else changed[at])[name] = wrong
                yield name, changed


def _write_config(config: dict[str, Any], folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def _write_text(text: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(text)


def _cut(name: str, share: float, folder: Path) -> None:
    text = (folder / name).read_bytes()
    (folder / name).write_bytes(text[: int(share * len(text))])


def _linked(target: str, folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(target)


def _as_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


_PLACES: dict[str, Callable[[Path], None]] = {
    "absent": lambda folder: (folder / "config.json").unlink(),
    "a folder": _as_folder,
    "a loop of links": partial(_linked, "config.json"),
    "a link to nothing": partial(_linked, "gone"),
    "/dev/null": partial(_linked, os.devnull),
    "/dev/zero": partial(_linked, "/dev/zero"),
}
