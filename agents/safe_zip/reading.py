"""A zip of Stable-Baselines3 or entroreg, checked and written anew for Stable-Baselines3's own ``load``."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from entroreg.agents.safe_zip.archive import read_members
from entroreg.agents.safe_zip.attributes import LEARNING_RATE, check_attribute, read_attributes
from entroreg.agents.safe_zip.errors import UnsafeZipError
from entroreg.agents.safe_zip.rehearsal import check_variables, rehearse
from entroreg.agents.safe_zip.tensors import read_tensors
from entroreg.agents.safe_zip.values import require_type

_DATA, _VERSION, _SYSTEM = "data", "_stable_baselines3_version", "system_info.txt"
_VARIABLES = ("pytorch_variables.pth", "tensors.pth")  # the second before Stable-Baselines3 0.9
_SUFFIX = ".pth"
_LONGEST_TEXT = 10_000


class Parts(NamedTuple):
    """What a zip holds, read without running any of it.

    Attributes:
        values: attributes by name.
        params: state dicts by name.
        variables: tensors beside them, or None.
        texts: versions and the like.
    """

    values: dict[str, Any]
    params: dict[str, Any]
    variables: dict[str, Any] | None
    texts: dict[str, str]


class Checked(NamedTuple):
    """A zip that is safe to give to Stable-Baselines3.

    Attributes:
        file: without any pickle but torch's, of tensors and plain values.
        custom_objects: all attributes, the caller's among them.
    """

    file: io.BytesIO
    custom_objects: dict[str, Any]


def read_parts(members: Mapping[str, bytes], custom_objects: Mapping[str, Any]) -> Parts:
    """Return what the members of an agent's zip hold.

    Args:
        members: by name.
        custom_objects: attributes of the caller's, which replace those of the file.

    Raises:
        UnsafeZipError: damaged, or not to be loaded without trust; it lists everything that was refused.
    """
    if _DATA not in members:
        raise UnsafeZipError("the zip is of no agent: it has no member 'data'")
    found = read_attributes(members[_DATA], custom_objects)
    if found.refused:
        raise UnsafeZipError(_advice(found.refused), found.refused)
    params, variables = read_params(members)
    values = {**found.values, **{name: value for name, value in custom_objects.items() if name in found.names}}
    if found.learning_rate_is_code:  # until it is given, it stays what it was when the agent was saved
        values |= {LEARNING_RATE: _last_learning_rate(params), "_learning_rate_is_code": True}
    texts = {name: _readable(members[name]) for name in (_VERSION, _SYSTEM) if name in members}
    _modernise(values)
    return Parts(values, params, variables, texts)


def read_params(members: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the state dicts by name, and the tensors beside them.

    Raises:
        UnsafeZipError: a damaged member, or one with something else inside.
    """
    read = {name: read_tensors(raw) for name, raw in members.items() if name.endswith(_SUFFIX)}
    variables = next((read.pop(name) for name in _VARIABLES if name in read), None)
    if variables is not None:
        require_type(variables, dict)
    return {name.removesuffix(_SUFFIX): state for name, state in read.items()}, variables


def check_zip(cls: type[OffPolicyAlgorithm], content: bytes, custom_objects: Mapping[str, Any]) -> Checked:
    """Return a zip of the same agent that is safe to load.

    Args:
        cls: of the agent.
        content: of the zip.
        custom_objects: attributes of the caller's, which replace those of the file.

    Raises:
        UnsafeZipError: damaged, or not to be loaded without trust; it lists everything that was refused.
    """
    parts = read_parts(read_members(content), custom_objects)
    agent = rehearse(cls, parts.values, custom_objects, parts.params)
    check_variables(parts.variables or {}, agent)
    for name in agent._excluded_save_params():
        if parts.values.get(name) is not None and name not in custom_objects:
            raise UnsafeZipError(_advice([f"{name}: is never read"]), [f"{name}: is never read"])
    return Checked(_written(parts), parts.values)


def _written(parts: Parts) -> io.BytesIO:
    """Return a zip whose attributes are all to be found in ``custom_objects``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(_DATA, json.dumps(dict.fromkeys(parts.values)))
        states = {f"{name}{_SUFFIX}": state for name, state in parts.params.items()}
        if parts.variables is not None:
            states[_VARIABLES[0]] = parts.variables
        for name, state in states.items():
            with file.open(name, "w", force_zip64=True) as member:
                torch.save(state, member)
        for name, text in parts.texts.items():
            file.writestr(name, text)
    buffer.seek(0)
    return buffer


def _advice(refused: list[str]) -> str:
    names = sorted({word.partition(":")[0] for word in refused})
    objects = ", ".join(f'"{name}": ...' for name in names)
    return (
        f"the zip holds code, or classes that are not known to be harmless: {'; '.join(refused)}. Pass these "
        f"yourself as load(..., custom_objects={{{objects}}}), or load with trust=True if you trust whoever made "
        "the file: that runs what is in it"
    )


def _last_learning_rate(params: Mapping[str, Any]) -> float:
    """Return the learning rate with which the agent was saved."""
    groups = params.get("actor.optimizer", {})
    groups = groups.get("param_groups") if isinstance(groups, dict) else None
    rate = groups[0].get("lr") if isinstance(groups, list) and groups and isinstance(groups[0], dict) else None
    if isinstance(rate, torch.Tensor) and rate.numel() == 1:
        rate = rate.item()
    check_attribute(LEARNING_RATE, rate)
    return float(rate)  # type: ignore[arg-type]


def _modernise(values: dict[str, Any]) -> None:
    """Change arguments of old versions as Stable-Baselines3 does, before the rehearsal sees them."""
    arguments = values["policy_kwargs"] if isinstance(values["policy_kwargs"], dict) else {}
    arguments.pop("device", None)
    nets = arguments.get("net_arch")
    if isinstance(nets, list) and nets and isinstance(nets[0], dict):
        arguments["net_arch"] = nets[0]


def _readable(raw: bytes) -> str:
    text = raw[:_LONGEST_TEXT].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
