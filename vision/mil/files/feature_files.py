"""Reading one feature file, whatever tool wrote it."""

from __future__ import annotations

from pathlib import Path

import torch

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.h5_layouts import matrix_shape, read_h5
from entroreg.vision.mil.files.slide import TORCH_ENDINGS, FeatureSlide, slide_name
from entroreg.vision.mil.files.stored import MappedTensor, map_torch

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_slides(path: Path) -> list[FeatureSlide]:
    """Return the slides of one feature file, in the order of their names; features are not read.

    Args:
        path: an HDF5 file of TRIDENT, CLAM, STAMP or AEM, told apart by what is inside (see `h5_layouts.read_h5`),
            or a torch file with one tensor (N, D) or (1, N, D), as CLAM writes beside its HDF5 files.

    Raises:
        DataError: the file is truncated, of none of these layouts, or its shapes or types do not fit.
        ModuleNotFoundError: an HDF5 file is to be read and h5py is not installed.
    """
    if path.suffix.lower() in TORCH_ENDINGS:
        return [_read_torch(path)]
    return read_h5(path, slide_name(path.name))


def _read_torch(path: Path) -> FeatureSlide:
    features = map_torch(path)
    shape = matrix_shape(str(path), tuple(features.shape))
    if features.dtype not in _DTYPES or features.layout != torch.strided:
        raise DataError(
            f"{path}: features must be a dense tensor of float16, bfloat16, float32 or float64, got "
            f"{features.dtype} ({features.layout}): convert it"
        )
    return FeatureSlide(slide_name(path.name), str(path), MappedTensor(path, shape, features.dtype))
