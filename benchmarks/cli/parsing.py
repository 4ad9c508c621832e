"""Command lines to verbs, and tyro's errors as one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import tyro

from entroreg.benchmarks.cli.verbs import BenchVerb, Check, Eval, List, Train, Verb
from entroreg.benchmarks.errors import USAGE, UserError
from entroreg.benchmarks.mil.data_verbs import DataVerb
from entroreg.benchmarks.mil.mil_verb import MILVerb

_Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Eval, tyro.conf.subcommand("eval")]
    | Annotated[BenchVerb, tyro.conf.subcommand("bench")]
    | Annotated[DataVerb, tyro.conf.subcommand("data")]
    | Annotated[MILVerb, tyro.conf.subcommand("mil")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Check, tyro.conf.subcommand("check")]
)
_DESCRIPTION = """Entropy-regularised agents and their benchmarks.

Example: entroreg train sac --env InvertedPendulum-v5 --steps 16000 --net 64 64 --batch-size 64"""
_CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)


def parse(arguments: Sequence[str]) -> Verb | None:
    """Return the verb of a command line, or None where only help was asked for.

    Raises:
        UserError: the command line is wrong.
    """
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), _wide_lines(arguments):
            return tyro.cli(
                _Command,
                prog="entroreg",
                description=_DESCRIPTION,
                args=list(arguments),
                config=_CONFIG,
            )
    except SystemExit as stop:
        if stop.code == 0:
            return None
        raise UserError(_one_line(shown.getvalue()), USAGE) from None


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


def _one_line(box: str) -> str:
    """Return what tyro's error box says first as one line, with its first suggestion; the frame is dropped."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:
        text = re.sub(r"[╭╮╰╯│─]+|-{3,}", " ", line).strip()
        if text:
            paragraphs[-1].append(text)
        elif paragraphs[-1]:
            paragraphs.append([])
    message = re.sub(r"^Error parsing \S+: ", "", " ".join(paragraphs[0]))
    for paragraph in paragraphs[1:]:
        if paragraph and paragraph[0].startswith("Perhaps you meant"):
            return f"{message}: did you mean {paragraph[1].split()[0]}?"
    return f"{message}; see --help"
