"""The verbs around benchmarks: run, resume, look, compare and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from entroreg.benchmarks.cli.running import note, print_table
from entroreg.benchmarks.errors import OK, RUN_FAILED, STOPPED, UserError, as_line
from entroreg.benchmarks.placement import Placement
from entroreg.benchmarks.selection import Selection

if TYPE_CHECKING:
    from entroreg.benchmarks.bench_folder import Launch

EVERY = "all"


@dataclass(frozen=True)
class BenchRun:
    """Run the cells of a suite that are not done, and summarise all of them.

    Running again goes on with what is missing; a cell that failed is tried again.

    Example: entroreg bench run sac --preset smoke --jobs 2
    """

    suite: tyro.conf.Positional[str]
    """Name of the suite, see entroreg bench list; all for each of them; or a module of your own."""
    preset: Literal["smoke", "small", "paper"] = "smoke"
    """Size of the run: under a minute, a few hours on two cores, or as published."""
    seeds: int | None = None
    """Seeds of each method; the preset's own number if left out."""
    only: Selection = field(default_factory=Selection)
    place: Placement = field(default_factory=Placement)
    out: Path = Path("runs")
    """Folder of all runs; this suite goes to OUT/SUITE."""
    json: bool = False
    """Print the summary as JSON, with all a list of them."""

    def execute(self) -> int:
        """Run and summarise."""
        return _until_stopped(self._run)

    def _run(self) -> int:
        from entroreg.benchmarks import bench
        from entroreg.benchmarks.suites import SUITES

        chosen = self.only != Selection()
        if self.suite != EVERY:
            summary = self._summary(self.suite, self.place.jobs)
            print(json.dumps(summary)) if self.json else print(bench.as_text(summary))
            return _code(summary, chosen=chosen)
        if chosen:
            raise UserError("task, method and seed are of one suite: name it in place of all")
        return _all_shown(
            [partial(self._summary, name, int(min(self.place.jobs, bench.most_jobs(name)))) for name in SUITES],
            as_json=self.json,
        )

    def _summary(self, name: str, jobs: int) -> dict[str, Any]:
        from entroreg.benchmarks import bench
        from entroreg.benchmarks.placement import executor

        return bench.run_suite(
            name,
            self.preset,
            jobs,
            self.out,
            note=note,
            seeds=self.seeds,
            only=None if self.only == Selection() else self.only,
            start=partial(executor, self.place, out=self.out),
        )


@dataclass(frozen=True)
class BenchStatus:
    """Say where the cells of a folder stand: done, running, failed, stopped, waiting, and how long the rest takes.

    Example: entroreg bench status runs
    """

    out: tyro.conf.Positional[Path] = Path("runs")
    """Folder of all runs."""
    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """Look; exit code 1 if a cell failed."""
        from entroreg.benchmarks.status import as_text, status

        found = status(self.out)
        print(json.dumps(found)) if self.json else print(as_text(found))
        return RUN_FAILED if any("failed" in suite["states"] for suite in found) else OK


@dataclass(frozen=True)
class BenchList:
    """List the suites.

    Example: entroreg bench list
    """

    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """List."""
        from entroreg.benchmarks.suites import SUITES

        print(json.dumps(SUITES)) if self.json else print_table(SUITES)
        return OK


@dataclass(frozen=True)
class BenchVerb:
    """Benchmarks: tasks x methods x seeds, with statistics.

    Example: entroreg bench run sac --preset smoke
    """

    verb: (
        Annotated[BenchRun, tyro.conf.subcommand("run")]
        | Annotated[BenchStatus, tyro.conf.subcommand("status")]
        | Annotated[BenchList, tyro.conf.subcommand("list")]
    )

    def execute(self) -> int:
        """Hand on to the sub-verb."""
        return self.verb.execute()


def _all_shown(runs: Sequence[Callable[[], dict[str, Any]]], *, as_json: bool) -> int:
    """Run suite after suite, also where one cannot be run, print the summaries and return the worst exit code."""
    from entroreg.benchmarks.bench import as_text

    summaries, codes = [], [OK]
    for run in runs:
        try:
            summary = run()
        except UserError as error:
            note(f"entroreg: error: {as_line(str(error))}")
            codes.append(error.exit_code)
            continue
        summaries.append(summary)
        codes.append(_code(summary))
        if not as_json:
            print(as_text(summary))
    if as_json:
        print(json.dumps(summaries))
    return max(codes)


def _code(summary: dict[str, Any], *, chosen: bool = False) -> int:
    """Return 1 if a cell failed or, unless only some were asked for, is not done."""
    failed = [cell for cell in summary["failed"] if cell["error"] is not None or not chosen]
    return RUN_FAILED if failed else OK


def _until_stopped(run: Callable[[], int]) -> int:
    from entroreg.benchmarks.signals import Terminated, terminate_as_exception

    try:
        with terminate_as_exception():
            return run()
    except Terminated:
        note("stopped; run the same command again to go on with the cells that are not done")
        return STOPPED


@dataclass(frozen=True)
class Compare:
    """Compare two runs of the same suites: better, worse, faster, slower, or no difference shown.

    Example: entroreg compare runs-before runs-after --fail-on regression
    """

    a: tyro.conf.Positional[Path]
    """Folder of all runs before, or one with summaries as files."""
    b: tyro.conf.Positional[Path]
    """The same after."""
    fail_on: Literal["nothing", "regression"] = "nothing"
    """Whether exit code 1 says that something got worse, slower or failed."""
    tolerance: float = 0.0
    """Share of the value before, below which a change is not shown; 0.05 on a machine with other work."""
    json: bool = False
    """Print as JSON."""

    def execute(self) -> int:
        """Compare."""
        from entroreg.benchmarks.bench import summaries_in
        from entroreg.benchmarks.comparison import as_text, changes, is_regression, to_json

        found = changes(summaries_in(self.a), summaries_in(self.b), self.tolerance)
        print(json.dumps(to_json(found))) if self.json else print(as_text(found))
        return RUN_FAILED if self.fail_on == "regression" and any(map(is_regression, found)) else OK


@dataclass(frozen=True)
class Report:
    """Write a report of all suites of a folder: one HTML file for offline reading, Markdown and JSON.

    Example: entroreg report runs
    """

    folder: tyro.conf.Positional[Path]
    """Folder of all runs, or one with summaries as files."""
    out: Path | None = None
    """Where report.html, report.md and results.json go; the folder itself if left out."""
    json: bool = False
    """Print the paths as JSON."""

    def execute(self) -> int:
        """Write; exit code 1 if the report tells of cells that are not done."""
        from entroreg.benchmarks.bench import pictures_in, summaries_in
        from entroreg.benchmarks.report_page.write import write_report

        summaries = summaries_in(self.folder)
        paths = write_report(
            list(summaries.values()), pictures_in(self.folder), self.out or self.folder, titles=list(summaries)
        )
        shown = {name: str(path) for name, path in paths.items()}
        print(json.dumps(shown)) if self.json else print_table(shown)
        return RUN_FAILED if any(summary["failed"] for summary in summaries.values()) else OK


@dataclass(frozen=True)
class Resume:
    """Go on with what was stopped: the suites of a benchmark folder, or a training run.

    Example: entroreg resume runs --jobs 2
    """

    folder: tyro.conf.Positional[Path]
    """Folder of all runs of a benchmark, or the run folder of a training."""
    place: Placement = field(default_factory=Placement)
    json: bool = False
    """Print the result as JSON, of a benchmark folder a list of summaries."""

    def execute(self) -> int:
        """Go on."""
        from entroreg.benchmarks.bench_folder import launches_in
        from entroreg.benchmarks.cli.resuming import resumed

        launches = launches_in(self.folder)
        if not launches:
            return resumed(self.folder, as_json=self.json).execute()
        runs = [partial(self._summary, launch) for launch in launches.values()]
        return _until_stopped(lambda: _all_shown(runs, as_json=self.json))

    def _summary(self, launch: Launch) -> dict[str, Any]:
        from entroreg.benchmarks import bench
        from entroreg.benchmarks.placement import executor

        jobs = int(min(self.place.jobs, bench.most_jobs(launch.suite)))
        start = partial(executor, self.place, out=self.folder)
        return bench.run_launch(launch, jobs, self.folder, note, start)
