"""The ``entroreg`` command. Importing it costs no torch: every verb imports what it needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from entroreg.benchmarks.errors import BAD_PATH, INTERRUPTED, MISSING, OK, RUN_FAILED, USAGE, UserError, as_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        The exit code: 0 ok, 1 a run failed, 2 usage, 3 missing extra or data, 75 stopped, 130 interrupted.
    """
    try:
        from entroreg.benchmarks.cli.parsing import parse
        from entroreg.benchmarks.cli.running import warnings_as_lines

        command = parse(sys.argv[1:] if arguments is None else arguments)
        with warnings_as_lines():
            return OK if command is None else command.execute()
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        advice = "" if "pip install" in str(error) else f": {_remedy(error.name or '')}"
        return _fail(f"{error}{advice}", MISSING)
    except FloatingPointError as error:
        return _fail(f"the run failed: {error}", RUN_FAILED)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if error.errno in BAD_PATH:
            return _fail(f"a path cannot be used: {error}: give another one", USAGE)
        return _fail(f"the run failed: {error}", RUN_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(message: str, exit_code: int) -> int:
    print(f"entroreg: error: {as_line(message)}", file=sys.stderr)
    return exit_code


def _remedy(module: str) -> str:
    from entroreg.benchmarks.check import EXTRAS

    package = module.partition(".")[0]
    extras = [extra for extra, modules in EXTRAS.items() if package in modules]
    return f"pip install 'entroreg[{extras[0]}]'" if extras else "see 'entroreg check'"
