"""Exit codes of the command, and the one exception that carries one."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

OK = 0
RUN_FAILED = 1
USAGE = 2
MISSING = 3  # also data, a checkpoint or a result that is there and damaged
STOPPED = 75
INTERRUPTED = 130


BAD_PATH = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.EACCES, errno.EPERM, errno.EROFS),
    }
)
"""What the system says of a path that is no good; anything else, such as a full disk, is a failure."""

_LONGEST = 1_000  # characters of a line
_TAIL = 300


class UserError(Exception):
    """A mistake the user can mend: shown as one line on stderr, without a stack trace.

    Args:
        message: what was expected, what came, what to do.
        exit_code: of the process.
    """

    def __init__(self, message: str, exit_code: int = USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest ones that do.

    Args:
        kind: what the name stands for, such as "environment".
        name: what was given.
        known: what there is.

    Returns:
        The error, to be raised.

    Example:
        >>> str(unknown_name("suite", "sacc", ["sac", "mil"]))
        "unknown suite 'sacc': did you mean 'sac'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    advice = f"did you mean {', '.join(map(repr, near))}?" if near else f"there is {', '.join(names[:20])}"
    return UserError(f"unknown {kind} {name!r}: {advice}")


def as_line(text: str) -> str:
    """Return a message as one line of printable characters; of a very long one the beginning and the end.

    Args:
        text: with whatever the user gave in it.
    """
    line = " ".join(text.split())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST - _TAIL]} ... {line[-_TAIL:]}"
    shown = (mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in line)
    return "".join(shown)
