"""From options to images, networks, teachers and settings, with clear errors where they do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from entroreg.benchmarks.distillation.bars import drawn_bars
from entroreg.benchmarks.distillation.options import StudentOptions, TrainDistill
from entroreg.benchmarks.errors import UserError
from entroreg.benchmarks.memory import require_memory
from entroreg.vision.distillation import (
    Attack,
    BalanceSettings,
    DistillationSettings,
    OptimizerSettings,
    Teacher,
)
from entroreg.vision.distillation.networks import StridedConvNet
from entroreg.vision.images.data import ImageSet, Part, load_images
from entroreg.vision.images.networks import ResNet18, SmallConvNet

STUDENT = "student.safetensors"
_NETWORK, _TRAINING = range(2)  # consumers of random numbers
_WIDTH = 16
_TRAINED = 16  # bytes of a parameter, its gradient and Adam's two moments


def images_of(options: StudentOptions, part: Part) -> ImageSet:
    """Return the images of a run.

    Raises:
        UserError: they cannot be had.
    """
    if options.data == "bars":
        return drawn_bars(part)
    with _user_errors():
        return load_images(options.data, part)


def new_student(options: StudentOptions, images: ImageSet, seed: int) -> nn.Module:
    """Return a freshly initialised student on the CPU, the same for a seed.

    Raises:
        UserError: the network does not fit the images.
    """
    _, channels, side, _ = images.images.shape
    width = options.width or _WIDTH
    with torch.random.fork_rng([]), _user_errors():
        torch.default_generator.manual_seed(_seed(seed, _NETWORK))
        if options.student == "resnet18":
            return ResNet18(channels, images.classes)
        kind = SmallConvNet if options.student == "small-conv" else StridedConvNet
        with torch.device("meta"):  # which takes no memory
            network: nn.Module = kind(channels, side, images.classes, width=width)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        require_memory("width", parameters * _TRAINED, "ask for a narrower network with --width")
        return kind(channels, side, images.classes, width=width)


def settings_of(options: TrainDistill) -> DistillationSettings:
    """Return the settings of a training."""
    fit, attack, teaching = options.fit, options.attack, options.teaching
    step = options.eps / 4 if attack.attack_step is None else attack.attack_step
    return DistillationSettings(
        method=options.model.method,
        attack=Attack(options.eps, step, attack.attack_steps, attack.noise),
        optimizer=OptimizerSettings(
            fit.optimizer,
            fit.learning_rate,
            weight_decay=fit.weight_decay,
            schedule=fit.schedule,
            milestones=fit.milestones or None,
        ),
        balance=BalanceSettings(
            teaching.entropy_balance, teaching.entropy_rate, teaching.loss_balance, teaching.loss_rate
        ),
        epochs=fit.epochs,
        batch=fit.batch,
        warm_up=attack.warm_up,
        crop_and_flip=options.model.data == "cifar10",
        amp=fit.amp,
        channels_last=fit.channels_last,
        log_every=fit.log_every,
        seed=_seed(options.run.seed, _TRAINING),
    )


def teachers_of(options: TrainDistill, images: ImageSet) -> list[Teacher]:
    """Return the teachers of a run, in evaluation mode.

    Raises:
        UserError: a file is missing, is none of a network that is known here, or does not fit the images.
    """
    teaching = options.teaching
    return [
        Teacher(read_network(path, images).eval(), view)
        for path, view in zip(teaching.teachers, teaching.all_views, strict=True)
    ]


def read_network(path: Path, images: ImageSet) -> nn.Module:
    """Return a trained network; which one it is, its tensors say.

    Args:
        path: run folder of ``entroreg train distill``, or a .safetensors or .pt file with a state dict.
        images: that it is for.

    Raises:
        UserError: the file is missing, is none of a network that is known here, or does not fit the images.
    """
    state = _read_state(path / STUDENT if path.is_dir() else path)
    channels, side = images.images.shape[1:3]
    with _user_errors():
        try:
            network = _network_of(state, side)
            network.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path} must hold the state dict of a strided-conv, small-conv or resnet18: {reason}"
            ) from error
    found = _first_kernel(state).shape[1], state["classifier.weight"].shape[0]
    if found != (channels, images.classes):
        raise UserError(
            f"{path} must be of images with {channels} channels and {images.classes} classes, got "
            f"{found[0]} channels and {found[1]} classes: give a teacher of the same data"
        )
    return network


def _first_kernel(state: Mapping[str, Tensor]) -> Tensor:
    return state["stem.0.weight" if "stem.0.weight" in state else "features.0.weight"]


def _network_of(state: Mapping[str, Tensor], side: int) -> nn.Module:
    classes = state["classifier.weight"].shape[0]
    width, channels, kernel, _ = _first_kernel(state).shape
    if "stem.0.weight" in state:
        return ResNet18(channels, classes)
    if kernel == 4:
        return StridedConvNet(channels, side, classes, width=width)
    return SmallConvNet(channels, side, classes, width=width, normalisation="features.1.weight" in state)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"a teacher must be a run folder, .safetensors or .pt file, got: {error}") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} must be a .safetensors file or a .pt file of tensors alone: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} must hold a state dict, names to tensors: save network.state_dict() alone")
    return state


@contextmanager
def _user_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _seed(seed: int, consumer: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(consumer,)).generate_state(1)[0])
