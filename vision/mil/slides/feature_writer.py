"""A feature file in TRIDENT's layout, filled batch by batch and renamed into place when it is whole."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from entroreg import atomic

_STORED = np.dtype("<f4")


class FeatureWriter:
    """An HDF5 file whose features are yet to come; made by `feature_file`."""

    def __init__(
        self, path: Path, corners: NDArray[np.int64], of_coords: Mapping[str, Any], of_features: Mapping[str, Any]
    ) -> None:
        self._path, self._corners = path, corners
        self._of_coords, self._of_features = of_coords, of_features
        self._width, self._written = 0, 0
        self._file: IO[bytes] | None = None

    def append(self, features: Tensor) -> None:
        """Write the features of the next tiles.

        Args:
            features: (n, D) floating; written as float32.

        Raises:
            ValueError: their width is another than before, or they are more than there are tiles.
            OSError: they could not be written.
        """
        if self._file is None:
            self._file, self._width = self._created(features.shape[-1]), features.shape[-1]
        left = len(self._corners) - self._written
        if features.dim() != 2 or features.shape[1] != self._width or len(features) > left:
            raise ValueError(
                f"features must have shape (n, {self._width}) with n at most {left}, got {tuple(features.shape)}"
            )
        self._file.write(features.detach().float().cpu().numpy().astype(_STORED, copy=False).tobytes())
        self._written += len(features)

    def close(self) -> None:
        """Close the file, whole or not; what was appended is on disk then."""
        if self._file is not None:
            with self._file as file:
                file.flush()
                os.fsync(file.fileno())

    def require_whole(self) -> None:
        """Refuse a file that lacks features.

        Raises:
            ValueError: fewer were appended than there are tiles.
        """
        if self._written != len(self._corners):
            raise ValueError(f"features must be of {len(self._corners)} tiles, got {self._written}")

    def _created(self, width: int) -> IO[bytes]:
        """Return the file with all but the features, open where the first one goes.

        HDF5 sets aside one block for the features, which a reader can map into memory. They are written there as
        plain bytes, because HDF5 takes the whole process down when it runs out of disk.
        """
        import h5py

        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        try:
            with h5py.File(self._path, "x") as file:
                coords = file.create_dataset("coords", data=self._corners.astype("<i8"))
                coords.attrs.update(self._of_coords)
                data = file.create_dataset("features", (len(self._corners), width), _STORED, dcpl=plan)
                data.attrs.update(self._of_features)
                offset = data.id.get_offset()
        except RuntimeError as error:  # some of h5py's errors of writing
            raise OSError(f"{self._path} cannot be written: {error}") from error
        opened = self._path.open("r+b")
        opened.seek(offset)
        return opened


@contextmanager
def feature_file(
    path: Path, corners: NDArray[np.int64], of_coords: Mapping[str, Any], of_features: Mapping[str, Any]
) -> Iterator[FeatureWriter]:
    """Return a context that writes a feature file: after it the file is there as a whole, or as it was before.

    Args:
        path: of the file; its folder must exist.
        corners: (N, 2), x and y of each tile's top left corner, in pixels of level 0.
        of_coords: attributes of the data set ``coords``.
        of_features: attributes of the data set ``features``.

    Raises:
        ValueError: features are missing at the end.
        OSError: the file could not be written.
        ModuleNotFoundError: h5py is not installed.
    """
    try:
        import h5py  # noqa: F401  (needed at the first batch, but asked for before it is computed)
    except ModuleNotFoundError as error:
        message = "writing .h5 files needs h5py: pip install 'entroreg[slides]'"
        raise ModuleNotFoundError(message, name="h5py") from error
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    writer = FeatureWriter(temporary, corners, of_coords, of_features)
    try:
        try:
            yield writer
        finally:
            writer.close()
        writer.require_whole()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # there only if something stopped the writing
    atomic.fsync_folder(path.parent)
