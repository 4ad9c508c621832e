"""Command lines to verbs, and tyro's errors as one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import tyro

from entroreg.benchmarks.cli.bench_verbs import BenchVerb, Compare, Report, Resume
from entroreg.benchmarks.cli.verbs import Check, Eval, List, Train, Verb
from entroreg.benchmarks.errors import USAGE, UserError
from entroreg.benchmarks.json_types import is_text
from entroreg.benchmarks.mil.data_verbs import DataVerb
from entroreg.benchmarks.mil.mil_verb import MILVerb
from entroreg.benchmarks.options import TrainDiscreteSAC, TrainSAC

_Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[BenchVerb, tyro.conf.subcommand("bench")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[DataVerb, tyro.conf.subcommand("data")]
    | Annotated[MILVerb, tyro.conf.subcommand("mil")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Check, tyro.conf.subcommand("check")]
)
_DESCRIPTION = """Entropy-regularised agents and their benchmarks.

Example: entroreg train sac --env InvertedPendulum-v5 --steps 16000 --net 64 64 --batch-size 64"""
_CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}  # tyro's words for what a flag takes


def parse(arguments: Sequence[str]) -> Verb | None:
    """Return the verb of a command line, or None where only help was asked for.

    Raises:
        UserError: the command line is wrong.
    """
    _require_text(arguments)
    command = _parsed(arguments)
    if not isinstance(command, Train) or not isinstance(command.agent, TrainSAC | TrainDiscreteSAC):
        return command
    if command.agent.run.hyperparameters is None:
        return command
    from entroreg.benchmarks.tuned import with_hyperparameters

    return _parsed(arguments, Train(with_hyperparameters(command.agent)))


def _parsed(arguments: Sequence[str], default: Verb | None = None) -> Verb | None:
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), _wide_lines(arguments):
            command: Verb = tyro.cli(
                _Command,
                prog="entroreg",
                description=_DESCRIPTION,
                args=list(arguments),
                config=_CONFIG,
                default=tyro.MISSING_NONPROP if default is None else default,
            )
            return command
    except SystemExit as stop:
        if stop.code == 0:
            return None
        raise UserError(_one_line(shown.getvalue(), arguments), USAGE) from None


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse what no file can be called and no log can show."""
    for number, argument in enumerate(arguments, 1):
        if not is_text(argument):
            raise UserError(f"argument {number} must be text in UTF-8 without a zero byte, got {argument!r}")


@contextlib.contextmanager
def _wide_lines(arguments: Sequence[str]) -> Iterator[None]:
    """Keep tyro from wrapping its errors, which go to one line, but not its help, which goes to a terminal."""
    if {"-h", "--help"} & set(arguments):
        yield
        return
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _one_line(box: str, arguments: Sequence[str]) -> str:
    """Return what tyro's error box says first as one line, with its first suggestion; the frame is dropped."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:
        text = re.sub(r"[╭╮╰╯│─]+|-{3,}", " ", line).strip()
        if text:
            paragraphs[-1].append(text)
        elif paragraphs[-1]:
            paragraphs.append([])
    message = " ".join(paragraphs[0])
    of_flag = re.match(r"Error parsing (--[a-z-]+): ", message)
    if of_flag:
        return _of_value(of_flag[1], box, arguments)
    message = re.sub(r"^Error parsing \S+: ", "", message)
    for paragraph in paragraphs[1:]:
        if paragraph and paragraph[0].startswith("Perhaps you meant"):
            return f"{message}: did you mean {paragraph[1].split()[0]}?"
    return f"{message}; see --help"


def _of_value(flag: str, box: str, arguments: Sequence[str]) -> str:
    """Return the error for a flag whose value is not of its kind."""
    takes = re.search(rf"{flag} ([^│]*)", box.partition("Argument helptext")[2])
    names = re.findall(r"[A-Za-z_]+", takes[1]) if takes else []
    wanted = " or ".join(dict.fromkeys(_KINDS.get(name, name) for name in names if name != "None"))
    got = " ".join(repr(value if len(value) < 100 else f"{value[:50]}...") for value in _given(flag, arguments))
    return f"{flag} must be {wanted or 'of another kind'}, got {got}; see --help"


def _given(flag: str, arguments: Sequence[str]) -> list[str]:
    """Return the values that stand behind a flag on the command line."""
    found: list[str] = []
    for at, argument in enumerate(arguments):
        if argument == flag:
            found = list(itertools.takewhile(lambda word: not word.startswith("--"), arguments[at + 1 :]))
        elif argument.startswith(f"{flag}="):
            found = [argument.partition("=")[2]]
    return found
