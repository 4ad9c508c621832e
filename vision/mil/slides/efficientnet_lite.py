"""EfficientNet-Lite0, the frozen network that turns tiles into features."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from entroreg.vision.data.errors import DataError

FEATURES = 1280
_MEAN, _DEVIATION = 127.0, 128.0  # of all channels; the Lite networks were not trained with ImageNet's own moments
_CLASSES = 1000
# What a damaged file raises there, found by damaging some: an archive that is none, then whatever its program does.
_OF_TORCH_LOAD = (
    *(OSError, RuntimeError, EOFError, pickle.UnpicklingError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError, struct.error),
)


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: an odd row or column goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(functional.pad(input, padding) if any(padding) else input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a skip connection where the shape stays."""

    def __init__(self, inputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        if stage.expansion > 1:
            self._expand_conv = _SameConv(inputs, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _SameConv(inner, inner, stage.kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = _SameConv(inner, stage.channels, 1)
        self._bn2 = _norm(stage.channels)
        self._expands = stage.expansion > 1
        self._skips = stride == 1 and inputs == stage.channels

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = functional.relu6(self._bn0(self._expand_conv(images))) if self._expands else images
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return images + hidden if self._skips else hidden


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its pooled features: no squeeze-and-excitation, ReLU6, stem and head of fixed width.

    Its parameters are named as in the checkpoint ``efficientnet-lite0-57934424.pth``, the classifier among them,
    which `forward` leaves out.

    Reference: Tan and Le 2019, EfficientNet, table 1; Liu 2020, EfficientNet-Lite.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, _STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(_STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            for place in range(stage.blocks):
                self._blocks.append(_InvertedResidual(channels, stage, stage.stride if place == 0 else 1))
                channels = stage.channels
        self._conv_head = _SameConv(channels, FEATURES, 1)
        self._bn1 = _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 1280) >= 0, the mean over all places of the last feature maps.

        Args:
            images: (n, 3, h, w) floating, normalised as in `embed_tiles`.
        """
        hidden = functional.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            hidden = block(hidden)
        return functional.relu6(self._bn1(self._conv_head(hidden))).mean(dim=(2, 3))


def load_efficientnet_lite0(path: str | os.PathLike[str]) -> nn.Module:
    """Return the network with the weights of a checkpoint, frozen and in evaluation mode, on the CPU.

    Args:
        path: the file ``efficientnet-lite0-57934424.pth``; what it holds is not executed.

    Raises:
        DataError: there is no such file, it is damaged, or its weights are those of another network.
    """
    if not Path(path).is_file():
        raise DataError(
            f"{path} must be a file with the weights of EfficientNet-Lite0, got none: "
            "get it with 'entroreg data fetch efficientnet-lite0'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of damaged files stands in the error below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _OF_TORCH_LOAD as error:
        raise DataError(
            f"{path} must be a torch checkpoint, got a file that torch.load(weights_only=True) refuses "
            f"({type(error).__name__}): get it again with 'entroreg data fetch efficientnet-lite0'"
        ) from error
    model = EfficientNetLite0()
    _require_same_weights(str(path), state, model.state_dict())
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def embed_tiles(model: nn.Module, tiles: Tensor, batch_size: int = 32) -> Tensor:
    """Return (n, 1280) float32, the features of tiles, on the tiles' device.

    Args:
        model: from `load_efficientnet_lite0`; its device does the work.
        tiles: (n, h, w, 3) uint8, RGB; the network was trained at 224 x 224.
        batch_size: tiles that go through the network at once.

    Raises:
        TypeError: the tiles are not uint8.
        ValueError: there is no tile, they have another shape, or the batch size is below 1.

    Example:
        >>> embed_tiles(EfficientNetLite0().eval(), torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape
        torch.Size([2, 1280])
    """
    if tiles.dtype is not torch.uint8:
        raise TypeError(f"tiles must be uint8, got {tiles.dtype}: give the pixels as they are, 0 to 255")
    if tiles.dim() != 4 or tiles.shape[-1] != 3 or not tiles.numel():
        raise ValueError(f"tiles must have shape (n, h, w, 3) with no 0, got {tuple(tiles.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    device = next(model.parameters()).device
    features = []
    with torch.no_grad():  # not inference_mode: a model may train on these features
        for start in range(0, len(tiles), batch_size):
            images = (tiles[start : start + batch_size].to(device).permute(0, 3, 1, 2).float() - _MEAN) / _DEVIATION
            features.append(model(images).float().to(tiles.device))
    return torch.cat(features)


def _require_same_weights(path: str, found: object, expected: dict[str, Tensor]) -> None:
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(
            f"{path} must hold the weights of EfficientNet-Lite0 by their names, got a {type(found).__name__}: "
            "get them with 'entroreg data fetch efficientnet-lite0'"
        )
    for name in [*expected, *(name for name in found if name not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else "nothing" for state in (expected, found)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{path} must hold the weights of EfficientNet-Lite0 with {name} {shapes[0]}, got {shapes[1]}: "
                "get them with 'entroreg data fetch efficientnet-lite0'"
            )
