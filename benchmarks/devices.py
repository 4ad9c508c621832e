"""The device that a run asks for."""

from __future__ import annotations

import torch

from entroreg.benchmarks.errors import UserError


def device_of(name: str) -> torch.device:
    """Return a torch device that is here.

    Args:
        name: auto, which takes CUDA where it is, cpu, cuda or such as cuda:1.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:
        raise _unknown(name) from error
    if device.type not in ("cpu", "cuda"):
        raise _unknown(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r} is not here: torch finds no CUDA device, see 'entroreg check'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device {name!r} is not here: torch finds {torch.cuda.device_count()} CUDA devices, from 0"
        )
    return device


def _unknown(name: str) -> UserError:
    return UserError(f"device must be auto, cpu or cuda, got {name!r}")
