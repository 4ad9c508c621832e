"""Which interpreter measures which method: ours runs most, peers may live in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from entroreg.benchmarks.errors import UserError, unknown_name

VARIABLE = "ENTROREG_PEERS"
_EXAMPLE = "sbx=/path/to/python,rltools=/path/to/python"
_ABSENT = """
import importlib.metadata, json, sys

def is_absent(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False

print(json.dumps([name for name in sys.argv[1:] if is_absent(name)]))
"""


@dataclass(frozen=True)
class Peer:
    """A library that we are compared with where it is installed."""

    packages: tuple[str, ...]
    """The distributions it needs."""
    remedy: str
    """What installs it."""
    beside_torch: bool
    """Whether this interpreter may have it; if not, it is measured only when its interpreter is named."""


PEERS = {
    "sbx": Peer(("sbx-rl",), "pip install sbx-rl", beside_torch=True),
    # With torch in its process RLtools refuses MKL, without which it is another library.
    "rltools": Peer(
        ("rltools", "mkl", "mkl-include", "gymnasium", "mujoco"),
        f'pip install "rltools[mkl]" "gymnasium[mujoco]" in an environment of its own, and name its interpreter: '
        f"{VARIABLE}=rltools=/path/to/python",
        beside_torch=False,
    ),
}


def named_interpreters() -> dict[str, str]:
    """Return the interpreters that the environment variable ENTROREG_PEERS names.

    Its form is ``sbx=/path/to/python,rltools=/path/to/python``.

    Raises:
        UserError: it is spelled wrongly, or names an unknown peer or no interpreter.
    """
    found: dict[str, str] = {}
    for entry in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, equals, path = entry.partition("=")
        if not equals or name in found:
            raise UserError(f"{VARIABLE} must name each peer once, as NAME=PATH, got {entry!r}: write {_EXAMPLE}")
        if name not in PEERS:
            raise unknown_name("peer", name, PEERS)
        if not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise UserError(
                f"{VARIABLE} must name a Python interpreter for {name}, got {path!r}, which is no program: "
                "give the bin/python of the environment that has it"
            )
        found[name] = path
    return found


def interpreters(methods: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the interpreter of each method that is installed, and for each other what installs it.

    Args:
        methods: names; all but those of ``PEERS`` run in this interpreter.

    Raises:
        UserError: as `named_interpreters`, or a named program is no Python interpreter.
    """
    named = named_interpreters()
    present: dict[str, str] = {}
    absent: dict[str, str] = {}
    for method in methods:
        interpreter = named.get(method, sys.executable)
        peer = PEERS.get(method)
        if peer is None or (
            (peer.beside_torch or method in named) and not _absent_packages(method, peer, interpreter)
        ):
            present[method] = interpreter
        else:
            absent[method] = peer.remedy
    return present, absent


def _absent_packages(method: str, peer: Peer, interpreter: str) -> list[str]:
    command = [interpreter, "-c", _ABSENT, *peer.packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        absent: list[str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UserError(
            f"{VARIABLE} must name a Python interpreter for {method}, got {interpreter}, which fails ({error}): "
            "give the bin/python of the environment that has it"
        ) from error
    return absent
