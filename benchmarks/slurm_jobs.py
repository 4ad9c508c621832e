"""Calls as jobs of a Slurm cluster, by submitit."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from entroreg.benchmarks.errors import MISSING, UserError
from entroreg.benchmarks.executors import WaitingExecutor, WorkerDiedError

__all__ = ["SlurmJobs", "slurm_executor"]


def slurm_executor(
    jobs: int,
    folder: Path,
    *,
    threads: int = 1,
    gpus: int = 0,
    minutes: int = 24 * 60,
    partition: str | None = None,
    cluster: Literal["slurm", "local"] = "slurm",
) -> WaitingExecutor:
    """An executor of Slurm jobs, each a call.

    Args:
        jobs: in the queue or running at once, from 1.
        folder: for submitit's files, which every node sees.
        threads: CPU cores of each.
        gpus: of each.
        minutes: after which Slurm ends a job.
        partition: of the cluster; its default if None.
        cluster: ``local`` runs the jobs as processes of this machine, to try things out.

    Raises:
        ValueError: ``jobs`` is less than 1.
        UserError: submitit is not installed, or there is no Slurm here.
    """
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise UserError(
            "Slurm runs cells past one machine by submitit: pip install 'entroreg[cluster]'", MISSING
        ) from error
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise UserError("executor slurm needs sbatch, which is not here: run this on a login node", MISSING)
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    executor.update_parameters(timeout_min=minutes, cpus_per_task=threads, gpus_per_node=gpus, name="entroreg")
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    return WaitingExecutor(SlurmJobs(executor), jobs)


class SlurmJobs:
    """The backend; see `slurm_executor`.

    Args:
        executor: of submitit.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._lock = threading.Lock()  # submitit's executors are for one thread
        self._running: set[Any] = set()
        self._stopping = False

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Run a call as a job."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        with self._lock:
            if self._stopping:
                raise WorkerDiedError("stopped before it began")
            job = self._executor.submit(function, *arguments)
            self._running.add(job)
        try:
            return job.result()
        except (FailedJobError, UncompletedJobError) as error:
            raise WorkerDiedError(f"job {job.job_id} ended without an answer: {_last_line(error)}") from error
        finally:
            with self._lock:
                self._running.discard(job)

    def stop(self) -> None:
        """Cancel all jobs; Slurm sends SIGTERM first and SIGKILL after its own time."""
        self._stopping = True
        with self._lock:
            running = list(self._running)
        for job in running:
            job.cancel(check=False)

    def close(self) -> None:
        """Hold nothing: jobs are the cluster's."""


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
