"""Controllers as files: what an agent's zip stores beside Stable-Baselines3's own members.

The members are not ``.pth``, so Stable-Baselines3 ignores them, and they hold no pickle.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from entroreg import schedules
from entroreg.agents.safe_zip import UnsafeZipError, check_optimizer, read_file, read_members
from entroreg.controllers import Dual, Fixed, FromObservation, PerStateDual, Scheduled
from entroreg.state_tree import join_state, split_state

PerObservation: TypeAlias = PerStateDual | FromObservation
AnyController: TypeAlias = Fixed | Scheduled | Dual | PerObservation

_JSON_MEMBER = "entroreg/controller.json"
_TENSOR_MEMBER = "entroreg/controller.safetensors"
_VERSION = 1


def describe(controller: AnyController) -> dict[str, Any]:
    """Return a controller's constructor arguments as JSON data; code in them (modules, lambdas) becomes None."""
    kind = type(controller).__name__
    if isinstance(controller, Fixed):
        return {"kind": kind, "value": float(controller.value)}
    if isinstance(controller, Scheduled):
        return {"kind": kind, "schedule": schedules.to_json(controller.schedule)}
    if isinstance(controller, FromObservation):
        return {"kind": kind, "index": controller.index}
    problem = controller.problem
    description = {
        "kind": kind,
        "target": schedules.to_json(problem.target),
        "bound": problem.bound,
        "loss": problem.loss,
        "minimum": problem.minimum,
        "maximum": problem.maximum,
        "learning_rate": controller.learning_rate,
    }
    return description if isinstance(controller, Dual) else {**description, "log_alpha": None}


def rebuild(description: dict[str, Any]) -> AnyController | None:
    """Return the controller that ``describe`` described, or None where code would be needed."""
    arguments = dict(description)
    kind = arguments.pop("kind")
    if kind not in _REBUILDABLE or any(arguments[name] is None for name in _CODE[kind]):
        return None
    for name in _CODE[kind]:
        arguments[name] = schedules.from_json(arguments[name])
    if kind == "Dual":  # the stored state replaces it, but the constructor wants it between the clamps
        arguments["initial"] = min(max(1.0, arguments["minimum"] or 0.0), arguments["maximum"] or math.inf)
    controller: AnyController = _REBUILDABLE[kind](**arguments)
    return controller


def restore(description: dict[str, Any], state: dict[str, Any]) -> AnyController | None:
    """Return the controller of a zip with its state, or None where code would be needed.

    Args:
        description: from ``describe``.
        state: from its ``state_dict``.

    Raises:
        UnsafeZipError: they are of no controller.
    """
    try:
        controller = rebuild(description)
        if controller is not None:
            if isinstance(controller, Dual):
                check_optimizer(state["optimizer"], controller.optimizer)
            controller.load_state_dict(state)
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise UnsafeZipError(f"the zip is damaged: its controller cannot be built ({str(error)[:200]})") from error
    return controller


_REBUILDABLE: dict[str, Any] = {
    "Dual": Dual,
    "Fixed": Fixed,
    "FromObservation": FromObservation,
    "Scheduled": Scheduled,
}
_CODE: dict[str, tuple[str, ...]] = {
    "Dual": ("target",),
    "Fixed": (),
    "FromObservation": (),
    "Scheduled": ("schedule",),
}


class StoredController(NamedTuple):
    """A controller as found in a zip.

    Attributes:
        description: from ``describe``.
        state: its state dict.
        follows_learning_rate: whether alpha's learning rate is the agent's schedule.
    """

    description: dict[str, Any]
    state: dict[str, Any]
    follows_learning_rate: bool


def append_to_zip(archive: io.BytesIO, stored: StoredController) -> None:
    """Add a controller's description and state to the zip of an agent."""
    tensors, state = split_state(stored.state)
    payload = {
        "version": _VERSION,
        "description": stored.description,
        "state": state,
        "follows_learning_rate": stored.follows_learning_rate,
    }
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(_JSON_MEMBER, json.dumps(payload, indent=1))
        file.writestr(_TENSOR_MEMBER, save_tensors({name: t.cpu().contiguous() for name, t in tensors.items()}))


def read_from_zip(path: str | Path | io.BufferedIOBase) -> StoredController | None:
    """Return a stored controller, or None for a zip of Stable-Baselines3.

    Args:
        path: what ``load`` was given; a file object is read from its present position and put back there.

    Raises:
        UnsafeZipError: the zip is damaged.
        ValueError: the members were written by a later version.
    """
    return _read(read_members(read_file(path, "zip")))


def saved_controller_state(path: str | Path) -> dict[str, Any]:
    """Return the state of the controller in an agent's zip, for ``controller.load_state_dict``.

    Needed only where the controller holds code (a per-state module, a lambda as schedule), which is never stored:
    build it again, load this state into it, and pass it to ``load`` as ``ent_coef``.

    Args:
        path: of the zip; the suffix may be left out.

    Returns:
        The state dict.

    Raises:
        UnsafeZipError: the zip is damaged.
        ValueError: the zip holds no controller (it was saved by Stable-Baselines3).
    """
    stored = read_from_zip(path)
    if stored is None:
        raise ValueError(f"{path} holds no entroreg controller: it was saved by Stable-Baselines3")
    return stored.state


def _read(members: dict[str, bytes]) -> StoredController | None:
    if _JSON_MEMBER not in members:
        return None
    try:
        payload = json.loads(members[_JSON_MEMBER])
        version, description = int(payload["version"]), dict(payload["description"])
        follows = bool(payload["follows_learning_rate"])
        if version <= _VERSION:
            state = dict(join_state(load_tensors(members[_TENSOR_MEMBER]), payload["state"]))
            return StoredController(description, state, follows)
    except (SafetensorError, LookupError, RecursionError, TypeError, ValueError, OverflowError) as error:
        raise UnsafeZipError(f"the zip is damaged: its controller cannot be read ({str(error)[:200]})") from error
    raise ValueError(
        f"the controller was stored in format {version}, this entroreg reads up to {_VERSION}: upgrade entroreg"
    )
