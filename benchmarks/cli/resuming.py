"""A run that was stopped, as the verb that goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from entroreg.benchmarks import options as agents
from entroreg.benchmarks.cli.verbs import Train
from entroreg.benchmarks.distillation import options as distill
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.mil import options as mil
from entroreg.benchmarks.rlvr import options as rlvr
from entroreg.benchmarks.robust import options as robust

_PARSERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mil": mil.from_json,
    "distill": distill.from_json,
    "rlvr": rlvr.from_json,
    **dict.fromkeys(agents.KINDS, agents.from_json),
    **dict.fromkeys(robust.KINDS, robust.from_json),
}


def resumed(folder: Path, *, as_json: bool) -> Train:
    """Return the training of a run folder as a verb that goes on with it.

    Args:
        folder: of a run, in its place beneath the folder of all runs, wherever that is now.
        as_json: whether to print the result as JSON.

    Raises:
        UserError: the folder is no run, or not in its place, where another run would begin.
    """
    from entroreg.benchmarks.run_folder import parsed_config, read_config

    config = read_config(folder)
    options = parsed_config(folder, config, _PARSERS[config["kind"]])
    here = folder.resolve()
    out = here.parents[min(3, len(here.parents) - 1)]
    changed: dict[str, Any] = {"out": out, "resume": True, "overwrite": False, "json": as_json}
    flat = isinstance(options, rlvr.TrainRLVR)
    going_on = replace(options, **(changed if flat else {"run": replace(options.run, **changed)}))
    place = _folder_of(going_on)
    if place != here:
        raise UserError(
            f"{folder} must be where it was made, at OUT/{place.relative_to(out)}, to go on: move it back there"
        )
    return Train(going_on)


def _folder_of(options: Any) -> Path:
    """Return the run folder of a training."""
    if isinstance(options, rlvr.TrainRLVR):
        from entroreg.benchmarks.rlvr.training import run_folder as of_rlvr

        return of_rlvr(options)
    if isinstance(options, mil.TrainMIL):
        from entroreg.benchmarks.mil.training import run_folder as of_mil

        return of_mil(options)
    if isinstance(options, distill.TrainDistill):
        from entroreg.benchmarks.distillation.training import run_folder as of_distill

        return of_distill(options)
    if isinstance(options, robust.TrainQARL | robust.TrainRARL):
        from entroreg.benchmarks.robust.training import run_folder as of_adversarial

        return of_adversarial(options)
    from entroreg.benchmarks.training import run_folder

    return run_folder(options)
