"""Where a result came from: versions, commit, machine and command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["collect"]

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


def collect(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Collect what is needed to repeat a run here and now; all of it fits in JSON, unknown values are None.

    Args:
        command: the command line to record; this process's own if None.

    Returns:
        ``command``, ``started`` (UTC), ``commit``, ``dirty``, ``packages``, ``python``, ``platform``, ``cpu``,
        ``cpus`` (those this process may use), ``torch_threads`` and ``gpu``.
    """
    import torch  # here, so that importing the runner is fast

    commit, dirty = _commit()
    if commit is None and (stated := os.environ.get("ENTROREG_COMMIT")):
        commit, dirty = stated, False  # a copy without history, made of this commit
    program, *arguments = sys.argv if command is None else command
    return {
        "command": [Path(program).name, *arguments],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str | None:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
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
    try:
        text = importlib.metadata.distribution("entroreg").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    return None if commit is None else str(commit)
