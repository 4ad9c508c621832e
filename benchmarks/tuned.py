"""Hyper-parameters in TOML files, under the names of rl_zoo3: one file an environment, one table an agent."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from entroreg.benchmarks.errors import UserError, unknown_name
from entroreg.benchmarks.options import KINDS, TrainDiscreteSAC, TrainOptions, kind_of
from entroreg.benchmarks.small_files import read_small

TUNED = "tuned"
_FOLDER = Path(__file__).with_name("hyperparameters")


def packaged(kind: str) -> dict[str, dict[str, Any]]:
    """Return the packaged hyper-parameters of an agent, in the form of rl_zoo3's ``hyperparams``.

    Args:
        kind: "sac" or "discrete-sac".

    Returns:
        A table for each environment that has one.

    Raises:
        UserError: there is no such agent.

    Example:
        >>> packaged("sac")["Pendulum-v1"]
        {'n_timesteps': 20000, 'policy': 'MlpPolicy', 'learning_rate': 0.001}
    """
    if kind not in KINDS:
        raise unknown_name("agent", kind, KINDS)
    files = {env: _tables(path) for env, path in _packaged_files().items()}
    return {env: tables[kind] for env, tables in files.items() if kind in tables}


def with_hyperparameters(options: TrainOptions) -> TrainOptions:
    """Return options with the values of the file that ``options.run.hyperparameters`` names in place of theirs.

    Args:
        options: with "tuned", for the packaged file of the environment, or the path of a file.

    Returns:
        The options; what the file does not mention stays.

    Raises:
        UserError: there is no such file, it has no table for the agent, or a line of it is wrong.
    """
    source, kind = options.run.hyperparameters, kind_of(options)
    if source is None:
        return options
    path = _packaged_file(options.run.env) if source == TUNED else Path(source)
    tables = _tables(path)
    if kind not in tables:
        raise UserError(
            f"{path} must have a table [{kind}], got {', '.join(f'[{name}]' for name in tables) or 'none'}"
        )
    for key, value in tables[kind].items():
        options = _with(options, path, key, value)
    return options


def _packaged_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def _packaged_file(env: str) -> Path:
    files = _packaged_files()
    if env not in files:
        raise UserError(
            f"there are no tuned hyper-parameters for {env}, only for {', '.join(files)}: give a TOML file"
        )
    return files[env]


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(read_small(path).decode())
    except OSError as error:
        raise UserError(
            f"hyperparameters must be '{TUNED}' or a TOML file, got {str(path)!r}: {error.strerror}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} must be TOML, got: {error}") from error
    for name, table in tables.items():
        if name not in KINDS:
            raise UserError(f"{path}: {unknown_name('table', name, KINDS)}")
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} must be a table, [{name}], got {table!r}")
    return tables


def _with(options: TrainOptions, path: Path, key: str, value: Any) -> TrainOptions:
    known = _DISCRETE_KEYS if isinstance(options, TrainDiscreteSAC) else _KEYS
    if key not in known:
        raise UserError(f"{path}: {unknown_name('hyper-parameter', key, known)}")
    group, field, convert = known[key]
    try:
        converted = convert(value)
        if not field:
            return options
        return replace(options, **{group: replace(getattr(options, group), **{field: converted})})
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: {key}: {error}") from error


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:  # 1e6 is a float in TOML
        raise ValueError(f"must be a whole number, got {value!r}")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, got {value!r}")
    return float(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def _policy(value: Any) -> str:
    if value not in ("MlpPolicy", "MultiInputPolicy"):
        raise ValueError(f"must be 'MlpPolicy' or 'MultiInputPolicy', whichever fits the task, got {value!r}")
    return str(value)


def _coefficient(value: Any) -> str:
    if isinstance(value, str) and not value.startswith("auto"):
        raise ValueError(f"must be 'auto', 'auto_INITIAL' or a number, got {value!r}")
    return value if isinstance(value, str) else str(_number(value))


def _target(value: Any) -> str | float:
    if isinstance(value, str) and value != "auto":
        raise ValueError(f"must be 'auto' or a number, got {value!r}")
    return value if isinstance(value, str) else _number(value)


def _widths(value: Any) -> tuple[int, ...]:
    widths = value.get("net_arch") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(widths, list):
        raise ValueError(f"must be of the form {{ net_arch = [64, 64] }}, got {value!r}")
    return tuple(map(_whole, widths))


# rl_zoo3's name -> the group of options, the option and what makes its value
_Keys = dict[str, tuple[str, str, Callable[[Any], Any]]]
_KEYS: _Keys = {
    "n_timesteps": ("run", "steps", _whole),
    "policy": ("run", "", _policy),  # checked only: the command takes the one that fits the observations
    "learning_rate": ("agent", "learning_rate", _number),
    "buffer_size": ("agent", "buffer_size", _whole),
    "batch_size": ("agent", "batch_size", _whole),
    "learning_starts": ("agent", "learning_starts", _whole),
    "train_freq": ("agent", "train_freq", _whole),
    "gradient_steps": ("agent", "gradient_steps", _whole),
    "gamma": ("agent", "gamma", _number),
    "ent_coef": ("agent", "ent_coef", _coefficient),
    "target_entropy": ("agent", "target_entropy", _target),
    "entropy_backup": ("agent", "entropy_backup", _switch),
    "policy_kwargs": ("agent", "net", _widths),
}
_DISCRETE_KEYS: _Keys = {
    **_KEYS,
    "double_average_q": ("discrete", "double_average_q", _switch),
    "q_clip": ("discrete", "q_clip", _number),
    "entropy_penalty": ("discrete", "entropy_penalty", _number),
}
