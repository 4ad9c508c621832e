"""The folder of a training run: held by one process, and never overwritten by accident."""

from __future__ import annotations

import fcntl
import glob
import json
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from entroreg.atomic import write_json
from entroreg.benchmarks import cells, provenance
from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.json_types import require_types
from entroreg.benchmarks.small_files import read_small
from entroreg.checkpoint import CheckpointError, load_checkpoint
from entroreg.checkpoint.names import older_ones

CHECKPOINT = Path("checkpoints", "last")
KINDS = ("sac", "discrete-sac", "qarl", "rarl", "rlvr", "mil", "distill")
Options = TypeVar("Options")


def set_threads(threads: int | None) -> None:
    """Give torch the number of threads that was asked for; None leaves it to torch."""
    if threads is not None:
        torch.set_num_threads(threads)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has a checkpoint to go on from; a crash in a save can leave only the one before the last."""
    return (folder / CHECKPOINT).exists() or bool(older_ones(folder / CHECKPOINT))


def saved_run(folder: Path, agent: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and the metadata of a run's checkpoint, None where the run begins.

    Args:
        folder: of the run.
        agent: what the checkpoint must say that it is of.

    Raises:
        UserError: it is damaged, or of something else.
    """
    try:
        tensors, metadata = load_checkpoint(folder / CHECKPOINT)
    except FileNotFoundError:
        return None
    except CheckpointError as error:
        raise UserError(str(error), MISSING) from error
    if metadata.get("agent") != agent:
        raise UserError(
            f"{folder / CHECKPOINT} must be of a run of {agent}, got one of {metadata.get('agent')}: it belongs to "
            "another run",
            MISSING,
        )
    return tensors, metadata


def write_head(folder: Path, config: Mapping[str, Any]) -> None:
    """Write down what is run, and where."""
    write_json(folder / "meta.json", provenance.collect())
    write_json(folder / "config.json", dict(config))  # last: a run that goes on takes it that both are there


def read_config(folder: Path) -> dict[str, Any]:
    """Return what ``write_head`` wrote down of a run.

    Raises:
        UserError: the folder is no run of ``entroreg train``.
    """
    try:
        config = json.loads(read_small(folder / "config.json"))
    except OSError as error:
        raise UserError(f"{folder} must be a run folder with config.json, got: {error}") from error
    except (ValueError, RecursionError) as error:
        raise _not_ours(folder, str(error)) from error
    if not isinstance(config, dict):
        raise _not_ours(folder, repr(config))
    if config.get("kind") not in KINDS:
        raise _not_ours(folder, f"the kind {config.get('kind')!r}, not one of {', '.join(KINDS)}")
    return config


def parsed_config(folder: Path, config: dict[str, Any], parse: Callable[[dict[str, Any]], Options]) -> Options:
    """Return the options of a run, as ``parse`` makes them of its config.

    Raises:
        UserError: the config is not of ``entroreg train``.
    """
    grouped = config.get("kind") != "rlvr"
    for name, value in config.items():
        if grouped and name != "kind" and not isinstance(value, dict):
            raise _not_ours(folder, f"{value!r} for {name!r}")
    try:
        options = parse(config)
        require_types(options)
    except KeyError as error:
        raise _not_ours(folder, f"nothing for {error}") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise _not_ours(folder, str(error)) from error
    return options


def require_same_run(folder: Path, wanted: Mapping[str, Any], may_differ: Collection[str]) -> None:
    """Refuse to go on with a run that was asked for something else.

    Args:
        folder: of the run.
        wanted: what is asked for now, groups of settings as in config.json, or settings without groups.
        may_differ: settings of the group ``run``, or without a group, that do not change what is computed.

    Raises:
        UserError: another setting differs.
    """
    found = read_config(folder)
    for group, settings in wanted.items():
        if group == "kind":
            continue
        grouped = isinstance(settings, Mapping)
        of_group = found.get(group, {}) if grouped else found
        if not isinstance(of_group, Mapping):
            raise _not_ours(folder, f"{of_group!r} for {group!r}")
        for name, value in settings.items() if grouped else ((group, settings),):
            of_run = of_group.get(name)
            if of_run != value and not (group in ("run", name) and name in may_differ):
                raise UserError(
                    f"{name} must be {of_run!r} to go on with the run in {folder}, got {value!r}: give the options "
                    "that it was started with"
                )


def _not_ours(folder: Path, found: str) -> UserError:
    path = folder / "config.json"
    return UserError(f"{path} must be written by 'entroreg train', got something else: {found}")


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
        file = lock.open("a")  # an old one stays as it is
    except OSError as error:
        raise UserError(f"the run folder must be writable, got: {error}: choose another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder} is being written by another process: choose another --out or --seed"
            ) from error
        if resume and folder.exists():
            _remove_unfinished(folder)
        else:
            _empty(folder, overwrite=overwrite)
        yield


def _empty(folder: Path, *, overwrite: bool) -> None:
    kept = "a finished run" if cells.is_done(folder) else "the checkpoint of a run that was stopped"
    if (cells.is_done(folder) or has_checkpoint(folder)) and not overwrite:
        raise UserError(f"{folder} holds {kept}: choose another --out or --seed, or replace it with --overwrite")
    try:
        # A rename, so that a crash never leaves the checkpoint of this run without its config.json.
        if folder.exists():
            folder.rename(folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.removed"))
        for removed in folder.parent.glob(f".{glob.escape(folder.name)}.*.removed"):
            shutil.rmtree(removed)
        folder.mkdir()
    except OSError as error:
        raise UserError(f"the run folder must be writable, got: {error}: choose another --out") from error


def _remove_unfinished(folder: Path) -> None:
    """Remove what writes and saves that were killed have left: nobody reads it, and the next ones begin anew."""
    for path in (*folder.glob(".*.tmp"), *(folder / CHECKPOINT.parent).glob(".*.saving")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
