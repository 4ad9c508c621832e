"""The folder of a training run: held by one process, and never overwritten by accident."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from entroreg.atomic import write_json
from entroreg.benchmarks import cells, provenance
from entroreg.benchmarks.errors import UserError

CHECKPOINT = Path("checkpoints", "last")
Options = TypeVar("Options")


def set_threads(threads: int | None) -> None:
    """Give torch the number of threads that was asked for; None leaves it to torch."""
    if threads is not None:
        torch.set_num_threads(threads)


def write_head(folder: Path, config: Mapping[str, Any]) -> None:
    """Write down what is run, and where."""
    write_json(folder / "config.json", dict(config))
    write_json(folder / "meta.json", provenance.collect())


def read_config(folder: Path) -> dict[str, Any]:
    """Return what ``write_head`` wrote down of a run.

    Raises:
        UserError: the folder is no run of ``entroreg train``.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except OSError as error:
        raise UserError(f"{folder} must be a run folder with config.json, got: {error}") from error
    except ValueError as error:
        raise _not_ours(folder, error) from error
    if not isinstance(config, dict):
        raise _not_ours(folder, config)
    return config


def parsed_config(folder: Path, config: dict[str, Any], parse: Callable[[dict[str, Any]], Options]) -> Options:
    """Return the options of a run, as ``parse`` makes them of its config.

    Raises:
        UserError: the config is not of ``entroreg train``.
    """
    try:
        return parse(config)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(folder, error) from error


def require_same_run(folder: Path, wanted: Mapping[str, Any], may_differ: Collection[str]) -> None:
    """Refuse to go on with a run that was asked for something else.

    Args:
        folder: of the run.
        wanted: what is asked for now, groups of settings as in config.json.
        may_differ: settings of the group ``run`` that do not change what is computed.

    Raises:
        UserError: another setting differs.
    """
    found = read_config(folder)
    for group, settings in wanted.items():
        if group == "kind":
            continue
        for name, value in settings.items():
            of_run = found.get(group, {}).get(name)
            if of_run != value and not (group == "run" and name in may_differ):
                raise UserError(
                    f"{name} must be {of_run!r} to go on with the run in {folder}, got {value!r}: give the options "
                    "that it was started with"
                )


def _not_ours(folder: Path, found: object) -> UserError:
    path = folder / "config.json"
    return UserError(f"{path} must be written by 'entroreg train', got something else: {found!r}")


@contextmanager
def claimed(folder: Path, *, overwrite: bool, resume: bool = False) -> Iterator[None]:
    """Hold a run's folder, empty unless the run goes on, for this process alone.

    Args:
        folder: of the run.
        overwrite: whether what another run left there may be replaced.
        resume: whether what is there stays, because this run goes on with it.

    Raises:
        UserError: another process writes it, it holds results or a checkpoint, or it cannot be written.
    """
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise UserError(f"the run folder must be writable, got: {error}: choose another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process: choose another --out or --seed"
            ) from error
        if not (resume and folder.exists()):
            _empty(folder, overwrite=overwrite)
        yield


def _empty(folder: Path, *, overwrite: bool) -> None:
    kept = "a finished run" if cells.is_done(folder) else "the checkpoint of a run that was stopped"
    if (cells.is_done(folder) or (folder / CHECKPOINT).exists()) and not overwrite:
        raise UserError(f"{folder} holds {kept}: choose another --out or --seed, or replace it with --overwrite")
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
    except OSError as error:
        raise UserError(f"the run folder must be writable, got: {error}: choose another --out") from error
