"""Runs bad command lines in this process, one after the other, and prints what came of each as a line of JSON.

python run_lines.py FOLDER COUNT FIRST [PATTERN]: the cases from number FIRST on of a sample of COUNT; FOLDER gets
the ground that they stand on. PATTERN chooses from all cases instead, by verb and what is wrong, as the shell does.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bad_lines import all_cases, sample
from cases import Case
from good_ground import lay_out

from entroreg.benchmarks.cli import main

SECONDS = 20
_BYTES = 6 << 30  # beyond what the process has: what asks for more gets an error, not the whole machine
_SHOWN = 2_000  # characters of an error


def run_line(case: Case, here: Path) -> dict[str, Any]:
    """Return what came of a command line in a folder: exit code, both streams, files that are new or changed."""
    if case.prepare is not None:
        case.prepare(here)
    before = _files(here)
    code = None
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with contextlib.chdir(here), _captured(out, err):
            signal.alarm(SECONDS)  # which ends this process
            try:
                code = main(case.arguments)
            except BaseException:  # whatever leaves the command is a traceback on a terminal
                traceback.print_exc()
            signal.alarm(0)
        shown, told = (_text_of(file) for file in (out, err))
    left = sorted(name for name, state in _files(here).items() if before.get(name) != state)
    return {
        "code": code,
        "out": shown[:_SHOWN],
        "err": told[-_SHOWN:],
        "lines": len(told.splitlines()),
        "left": left,
    }


def fault_of(found: dict[str, Any]) -> str:
    """Return what is wrong with what came of a bad line: a word, or nothing."""
    if found["code"] is None:
        return "traceback"
    if found["left"]:
        return "files left"
    if found["code"] not in (2, 3):
        return "exit code"
    if found["lines"] != 1 or not found["err"].startswith("entroreg: error: ") or found["out"]:
        return "more than one line"
    return ""


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _files(here: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything in a folder and in its goods, to which a link leads."""
    found = {}
    for root in (here, here / "goods"):
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = os.path.join(folder, name)
                state = os.lstat(path)
                found[path] = (state.st_size, state.st_mtime_ns) if name in files else (0, 0)
    return found


@contextlib.contextmanager
def _captured(out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    """Send both streams to files, also what C prints, and show the warnings that Python shows by itself."""
    with contextlib.ExitStack() as stack:
        for number, name, file in ((1, "stdout", out), (2, "stderr", err)):
            shown, kept = getattr(sys, name), os.dup(number)
            os.dup2(file.fileno(), number)
            errors = "strict" if number == 1 else "backslashreplace"
            stream = os.fdopen(os.dup(number), "w", encoding="utf-8", errors=errors)
            setattr(sys, name, stream)
            for last in ((os.close, kept), (os.dup2, kept, number), (setattr, sys, name, shown), (stream.close,)):
                stack.callback(*last)
        stack.enter_context(warnings.catch_warnings())
        warnings.resetwarnings()
        for unseen in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", unseen)
        yield


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _cases(count: int, pattern: str | None) -> list[Case]:
    if pattern is None:
        return sample(count)
    return [case for case in all_cases() if fnmatch.fnmatch(f"{case.verb}: {case.about}", pattern)]


def _run_all(folder: Path, cases: list[Case], first: int) -> None:
    here = folder / "here"
    for number, case in enumerate(cases[first:], first):
        print(json.dumps({"case": number}), flush=True)
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        (here / "goods").symlink_to(folder / "goods")
        found = run_line(case, here)
        line = shlex.join(word if len(word) < 100 else f"{word[:50]}..." for word in case.arguments)
        names = {"verb": case.verb, "about": case.about, "line": line.encode(errors="backslashreplace").decode()}
        print(json.dumps({"case": number, **names, "fault": fault_of(found), **found}), flush=True)


if __name__ == "__main__":
    import torch  # noqa: F401  (so that no line is charged for it)

    ground = Path(sys.argv[1]).absolute()
    ground.mkdir(exist_ok=True)
    os.environ |= {
        "ENTROREG_DATA": str(ground / "no-data"),
        "PIP_INDEX_URL": "http://127.0.0.1:1",
        "PATH": "/nowhere",
    }
    if not (ground / "goods").exists():
        lay_out(ground)
    _limit_memory()
    _run_all(ground, _cases(int(sys.argv[2]), *sys.argv[4:] or [None]), int(sys.argv[3]))
