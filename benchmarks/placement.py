"""Where a benchmark's cells run, as flags of the command."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.ranges import require_at_least_zero, require_threads, require_whole

__all__ = ["Placement", "executor"]

_MOST_JOBS = 10_000


@dataclass(frozen=True)
class Placement:
    """Where cells run."""

    jobs: int = 1
    """Cells that run at once."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Processes of this machine, tasks of a Ray cluster, or Slurm jobs."""
    threads: int | None = None
    """CPU cores of each cell; this machine's shared out if left out, with slurm 1."""
    gpus: float = 0.0
    """With ray and slurm: GPUs of each cell. Local cells share out those of CUDA_VISIBLE_DEVICES."""
    address: str | None = None
    """With ray: of a cluster that runs, such as auto; one is started here if left out."""
    partition: str | None = None
    """With slurm: the partition."""
    minutes: int | None = None
    """With slurm: after which a cell's job is ended; a day if left out."""

    def __post_init__(self) -> None:
        require_whole("jobs", self.jobs, 1, _MOST_JOBS)
        require_threads(self.threads)
        require_at_least_zero("gpus", self.gpus)
        if self.minutes is not None:
            require_whole("minutes", self.minutes, 1)
        foreign = {
            "gpus": self.gpus and self.executor == "local",
            "address": self.address is not None and self.executor != "ray",
            "minutes": self.minutes is not None and self.executor != "slurm",
            "partition": self.partition is not None and self.executor != "slurm",
        }
        for name, is_foreign in foreign.items():
            if is_foreign:
                raise ValueError(f"{name} has no meaning with --executor {self.executor}: leave it out")


def executor(place: Placement, jobs: int, out: Path) -> Executor:
    """Return the executor that a placement asks for.

    Args:
        place: what was asked for.
        jobs: cells at once.
        out: folder of all runs, which every machine sees.

    Raises:
        UserError: a package, the cluster or Slurm is not there.
        ValueError: ``jobs`` is less than 1.
    """
    if place.executor == "ray":
        from entroreg.benchmarks.ray_tasks import ray_executor

        return ray_executor(jobs, place.address, threads=place.threads, gpus=place.gpus)
    if place.executor == "slurm":
        from entroreg.benchmarks.slurm_jobs import slurm_executor

        if place.gpus != int(place.gpus):
            raise UserError(f"gpus must be a whole number with slurm, got {place.gpus}")
        return slurm_executor(
            jobs,
            out.absolute() / ".submitit",
            threads=place.threads or 1,
            gpus=int(place.gpus),
            minutes=place.minutes or 24 * 60,
            partition=place.partition,
        )
    from entroreg.benchmarks.local_processes import local_executor

    return local_executor(jobs, place.threads)
