"""The worker processes as their parent sees them: started one after the other, and asked one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("worker.py")
_PATIENCE = 900  # seconds for an answer: a compiler takes a minute or two, a round seconds
_TAIL = 8  # lines of a dead worker's stderr


class Worker:
    """A method in a process of its own, which works only while it is asked to.

    Args:
        method: its name.
        process: the process, with unbuffered pipes.
        log: where its stderr goes.

    Raises:
        RuntimeError: the process ended, or gave no answer in time.
    """

    def __init__(self, method: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.method = method
        self._process = process
        self._log = log
        started = time.perf_counter()
        self.actions: list[str] = self._answer("be ready")
        """What it can be asked for."""
        self.start_seconds = time.perf_counter() - started
        """Seconds from its start until it was ready: imports, compilation and warm-up."""

    def ask(self, action: str, count: int) -> Any:
        """Return the answer to an action.

        Args:
            action: one of ``actions``.
            count: how many steps or updates.

        Raises:
            RuntimeError: the process ended, or gave no answer in time.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which the missing answer tells
            self._process.stdin.write(f"{json.dumps([action, count])}\n".encode())
        return self._answer(f"answer {action} {count}")

    def _answer(self, deed: str) -> Any:
        assert self._process.stdout is not None
        asked = time.monotonic()
        limit = threading.Timer(_PATIENCE, self._process.kill)
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if not line:
            late = time.monotonic() - asked > _PATIENCE
            ended = f"no answer in {_PATIENCE} s" if late else f"exit code {self._process.wait()}"
            lines = self._log.read_text(errors="replace").splitlines()[-_TAIL:]
            raise RuntimeError(
                f"the worker of {self.method} must {deed}, got {ended}: mend what {self._log.name} in this folder "
                "says and run again; its last lines:\n" + "\n".join(lines)
            )
        return json.loads(line)


@contextmanager
def started(
    method: str, interpreter: str, *, threads: int, warmup: int, folder: Path, script: Path = SCRIPT
) -> Iterator[Worker]:
    """Start a worker and wait until it is ready; it ends with the block.

    Args:
        method: a name of ``worker.BUILDERS``.
        interpreter: the Python that has the method's packages.
        threads: how many threads and cores it may use.
        warmup: updates before it is ready.
        folder: gets its stderr as METHOD.log.
        script: what it runs.

    Yields:
        The worker.

    Raises:
        RuntimeError: it ended before it was ready.
    """
    log = folder / f"{method}.log"
    command = [interpreter, str(script), method, str(threads), str(warmup)]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(threads),
        ) as process,
    ):
        yield Worker(method, process, log)


def _environment(threads: int) -> dict[str, str]:
    pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    # All libraries work on the processor, also where there is a GPU.
    devices = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    if threads == 1:
        devices["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return {**os.environ, **pools, **devices}
