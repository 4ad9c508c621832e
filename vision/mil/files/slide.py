"""One slide of a feature file: its features, coordinates and labels, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.stored import H5Array, StoredFeatures

H5_ENDINGS = (".h5", ".hdf5")
TORCH_ENDINGS = (".pt", ".pth")
_SLIDE_ENDINGS = (
    *(".ome.tiff", ".ome.tif", ".ome.zarr", ".svs", ".tiff", ".tif", ".ndpi", ".mrxs", ".scn", ".bif", ".czi"),
    *(".vms", ".vmu", ".qptiff", ".svslide", ".isyntax", ".dcm", ".png", ".jpg", ".jpeg"),
)
_BLOCK_BYTES = 16 * 2**20


def slide_name(file_name: str) -> str:
    """Return the slide's name from the name of its image or feature file, with or without its ending.

    Only endings of images and feature files are cut off, because names of slides have dots of their own.

    Args:
        file_name: without folders.

    Example:
        >>> slide_name("TCGA-A1-A0SB.B34C267B.svs"), slide_name("TCGA-A1-A0SB.B34C267B.h5")
        ('TCGA-A1-A0SB.B34C267B', 'TCGA-A1-A0SB.B34C267B')
    """
    for endings in (H5_ENDINGS + TORCH_ENDINGS, _SLIDE_ENDINGS):
        for ending in endings:
            if file_name.lower().endswith(ending) and len(file_name) > len(ending):
                file_name = file_name[: -len(ending)]
                break
    return file_name


@dataclass(frozen=True)
class FeatureSlide:
    """What a file says of one slide; made by `feature_files.read_slides`."""

    slide: str
    """Its name: the file's without its ending, or the group's in a file of many slides."""
    where: str
    """The file, and the slide where the file holds many, for messages."""
    features: StoredFeatures
    """(N, D) in the file."""
    coords_at: H5Array | None = None
    """(N, 2) in the file."""
    instance_labels_at: H5Array | None = None
    """(N,) in the file."""
    tile_size: int | None = None
    """Side of a tile in the unit of the coordinates: pixels of level 0, but micrometres in STAMP's files."""
    label: str | None = None
    """The class that the file itself gives."""

    def coords(self) -> Tensor | None:
        """Return (N, 2) int64, x and y of each tile's top left corner, or None where there are none.

        STAMP's micrometres are rounded to whole ones.

        Raises:
            DataError: a coordinate is NaN or infinite, or the file cannot be read any more.
        """
        if self.coords_at is None:
            return None
        coords = self.coords_at.read().reshape(-1, 2)
        finite = np.isfinite(coords).all(axis=1)
        if not finite.all():
            raise DataError(
                f"{self.where}: coords must be finite, got {coords[finite.argmin()].tolist()} for instance "
                f"{finite.argmin()}: extract the features again"
            )
        return torch.from_numpy(np.rint(coords).astype(np.int64))

    def instance_labels(self) -> Tensor | None:
        """Return (N,) boolean, True for the instances that make the bag positive, or None if unknown.

        Raises:
            DataError: a label is neither 0 nor 1, or the file cannot be read any more.
        """
        if self.instance_labels_at is None:
            return None
        marks = self.instance_labels_at.read().reshape(-1)
        fitting = (marks == 0) | (marks == 1)
        if not fitting.all():
            raise DataError(
                f"{self.where}: instance_labels must be 0 or 1, got {marks[fitting.argmin()]} for instance "
                f"{fitting.argmin()}: write them again"
            )
        return torch.from_numpy(marks == 1)

    def check(self, into: Tensor | None = None) -> None:
        """Read everything once, in blocks of at most 16 MiB, and refuse what could not be trained on.

        Args:
            into: (N, D) of the features' dtype, which is filled with them, if they are wanted.

        Raises:
            DataError: a feature or a coordinate is NaN or infinite, an instance label is neither 0 nor 1, or the
                file cannot be read any more.
        """
        self.coords()
        self.instance_labels()
        instances, width = self.features.shape
        step = max(1, _BLOCK_BYTES // (width * self.features.dtype.itemsize))
        for start in range(0, instances, step):
            stop = min(start + step, instances)
            if into is None:
                rows = self.features.rows(start, stop)
            else:
                rows = into[start:stop]
                self.features.read_into(rows, start)
            self._require_finite(rows, start)

    def _require_finite(self, rows: Tensor, start: int) -> None:
        # The extremes show NaN and infinities far faster than isfinite, which writes a mask of all rows.
        low, high = torch.aminmax(rows)
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            return
        row, column = torch.nonzero(~torch.isfinite(rows))[0].tolist()
        raise DataError(
            f"{self.where}: features must be finite, got {float(rows[row, column])} in instance {start + row}, "
            f"feature {column}: extract the features again or drop the instance"
        )
