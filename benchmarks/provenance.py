"""Where a result came from: versions, commit, machine and command."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["collect", "collect_again", "cores"]

_PACKAGES = (
    "entroreg",
    "torch",
    "numpy",
    "scipy",
    "safetensors",
    "gymnasium",
    "mujoco",
    "stable-baselines3",
    "torchmetrics",
)


def collect(
    command: Sequence[str] | None = None, code: tuple[str | None, bool | None] | None = None
) -> dict[str, Any]:
    """Collect what is needed to repeat a run here and now; all of it fits in JSON, unknown values are None.

    Args:
        command: the command line to record; this process's own if None.
        code: commit and ``dirty``, where they are known; git is asked if None.

    Returns:
        ``command``, ``started`` (UTC), ``commit``, ``dirty``, ``packages``, ``python``, ``platform``, ``cpu``,
        ``cpus`` (those this process may use), ``torch_threads`` (those it will have where torch is not loaded yet)
        and ``gpu``.
    """
    commit, dirty = _commit() if code is None else code
    if commit is None and (stated := os.environ.get("ENTROREG_COMMIT")):
        commit, dirty = stated, False  # a copy without history, made of this commit
    cpus = cores()
    program, *arguments = sys.argv if command is None else command
    return {
        "command": [Path(program).name, *arguments],
        "started": _now(),
        "commit": commit,
        "dirty": dirty,
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": cpus,
        "torch_threads": _torch_threads(cpus),
        "gpu": _gpu(),
    }


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect_again(collected: Mapping[str, Any]) -> dict[str, Any]:
    """Collect for a further process on the same machine; what cannot have changed since is not asked again.

    Args:
        collected: by the process that launched this one.
    """
    return {**collected, "started": _now(), "torch_threads": _torch_threads(collected["cpus"])}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _torch_threads(cpus: int) -> int:
    if "torch" not in sys.modules:  # a cell that needs no torch shall not pay for its import
        first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
        return int(first) if first.isdigit() else cpus
    import torch

    return torch.get_num_threads()


def _gpu() -> str | None:
    if "torch" not in sys.modules and not Path("/dev/nvidiactl").exists():
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _cpu() -> str | None:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
    import importlib.metadata  # here and below: a cell of a launch that has collected shall not pay for it

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> tuple[str | None, bool | None]:
    """The commit of the code that runs, and whether its tracked files differ from it."""
    source = Path(__file__).resolve()
    # Installed into an environment inside another project, this file lies in a repository that does not track it.
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is not None:
        changes = _git(source.parent, "status", "--porcelain", "--untracked-files=no")
        return _git(source.parent, "rev-parse", "HEAD"), None if changes is None else changes != ""
    return _installed_commit(), None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet
        return None
    return done.stdout.strip()


def _installed_commit() -> str | None:
    """The commit that pip recorded when it installed from a repository's address."""
    import importlib.metadata

    try:
        text = importlib.metadata.distribution("entroreg").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    return None if commit is None else str(commit)
