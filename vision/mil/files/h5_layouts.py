"""The layouts of HDF5 feature files, told apart by the data sets inside."""

from __future__ import annotations

import math
import numbers
from pathlib import Path
from typing import Any

import numpy as np
import torch

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.slide import FeatureSlide, slide_name
from entroreg.vision.mil.files.stored import H5Array, StoredFeatures, open_h5, stored_h5

_ONE_SLIDE = ("features", "feats")
_MANY_SLIDES = "feat"
_DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


def read_h5(path: Path, slide: str) -> list[FeatureSlide]:
    """Return the slides of an HDF5 file, in the order of their names; features are not read.

    Args:
        path: the file. TRIDENT and CLAM: ``features`` (N, D) or (1, N, D), ``coords`` (N, 2), and the tile size in
            the attributes of ``coords``. STAMP: ``feats`` (N, D), ``coords`` in micrometres. AEM: a group for each
            slide with ``feat``, ``coords`` and the attribute ``label``. In all of them ``coords``,
            ``instance_labels`` (N,) of 0 and 1 and the attribute ``label`` of the file or group may be left out.
        slide: name of the slide, where the file holds one.

    Raises:
        DataError: the file is truncated, of none of these layouts, or its shapes or types do not fit.
    """
    with open_h5(path) as file:
        for name in _ONE_SLIDE:
            if name in file:
                return [_slide(path, slide, str(path), file, name)]
        groups = {name: item for name, item in file.items() if _is_group(item)}
        if not any(_MANY_SLIDES in group for group in groups.values()):
            raise DataError(
                f"{path} must hold 'features' (TRIDENT, CLAM), 'feats' (STAMP) or groups with 'feat' (AEM), "
                f"got {', '.join(map(repr, list(file)[:8])) or 'nothing'}: is it a file of coordinates only?"
            )
        return [
            _slide(path, slide_name(name), f"{path}, slide '{name}'", group, _MANY_SLIDES)
            for name, group in groups.items()
        ]


def _slide(path: Path, slide: str, where: str, group: Any, name: str) -> FeatureSlide:
    data = _dataset(group, name, where)
    shape = matrix_shape(where, data.shape)
    return FeatureSlide(
        slide,
        where,
        _features(path, where, data, shape),
        _beside(path, where, group, "coords", (shape[0], 2)),
        _beside(path, where, group, "instance_labels", (shape[0],)),
        _tile_size(group),
        _label(where, group),
    )


def matrix_shape(where: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (N, D) of features stored as (N, D) or (1, N, D).

    Args:
        where: the file, for messages.
        shape: as stored.

    Raises:
        DataError: the shape is another, or there is no instance or no feature.
    """
    matrix = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(matrix) != 2:
        raise DataError(
            f"{where}: features must have shape (instances, features), got {shape}: "
            "features of whole slides cannot be used, extract those of their tiles"
        )
    if 0 in matrix:
        raise DataError(f"{where}: the bag is empty, its features have shape {shape}: leave the slide out")
    return matrix[0], matrix[1]


def _features(path: Path, where: str, data: Any, shape: tuple[int, int]) -> StoredFeatures:
    if data.dtype.name not in _DTYPES:
        raise DataError(f"{where}: features must be one of {', '.join(_DTYPES)}, got {data.dtype}: convert them")
    return stored_h5(path, data, shape, _DTYPES[data.dtype.name])


def _beside(path: Path, where: str, group: Any, name: str, shape: tuple[int, ...]) -> H5Array | None:
    if name not in group:
        return None
    data = _dataset(group, name, where)
    if data.shape not in (shape, (1, *shape)):
        raise DataError(
            f"{where}: {name} must have shape {shape}, one for each instance, got {data.shape}: "
            "extract the features again"
        )
    if data.dtype.kind not in "biuf":
        raise DataError(f"{where}: {name} must be numbers, got {data.dtype}: extract the features again")
    return H5Array(path, data.name)


def _tile_size(group: Any) -> int | None:
    coords = group["coords"].attrs if "coords" in group else {}
    level0 = _number(coords, "patch_size_level0")
    if level0 is not None:
        return round(level0)
    patch_size = _number(coords, "patch_size")
    if patch_size is not None:  # CLAM counts it in pixels of its level, and the coordinates in those of level 0
        return round(patch_size * (_number(coords, "downsample") or 1.0))
    for name in ("tile_size_um", "tile_size"):
        microns = _number(group.attrs, name)
        if microns is not None:
            return round(microns)
    return None


def _number(attributes: Any, name: str) -> float | None:
    # TRIDENT writes the text "None" for what it does not know, and CLAM's downsample is a pair for x and y.
    values = np.ravel(attributes.get(name, ()))
    number = float(values[0]) if values.size and isinstance(values[0], numbers.Real) else math.nan
    return number if math.isfinite(number) else None


def _label(where: str, group: Any) -> str | None:
    value = group.attrs.get("label")
    if value is None:
        return None
    if np.size(value) != 1:
        raise DataError(f"{where}: the attribute label must be one value, got {np.size(value)}: write it again")
    value = np.ravel(value)[0]
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isnan(number):  # what pandas makes of a field left empty
            return None
        return str(int(number)) if number.is_integer() else str(number)
    return (value.decode() if isinstance(value, bytes) else str(value)) or None


def _dataset(group: Any, name: str, where: str) -> Any:
    if not hasattr(group.get(name), "shape"):
        found = ", ".join(map(repr, list(group)[:8])) or "nothing"
        raise DataError(f"{where} must hold a data set {name!r}, got {found}: extract the features again")
    return group[name]


def _is_group(item: Any) -> bool:
    return hasattr(item, "keys")  # a link to nothing is None
