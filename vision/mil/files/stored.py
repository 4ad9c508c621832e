"""Where the numbers of a feature file lie, and how rows of them come into memory; no file stays open."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.data.errors import DataError

# What h5py makes of HDF5's own errors.
_OF_H5PY = (OSError, RuntimeError, KeyError)
# What a damaged file raises there, found by damaging some: an archive that is none, then whatever its program does.
_OF_TORCH_LOAD = (
    *(OSError, RuntimeError, EOFError, pickle.UnpicklingError),
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error),
)


class StoredFeatures(Protocol):
    """The features of one slide in a file."""

    @property
    def shape(self) -> tuple[int, int]:
        """Instances and features of each, (N, D)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """As stored, floating."""
        ...

    @property
    def mapped(self) -> bool:
        """Whether `rows` returns a view of the file, which the system drops when memory is short."""
        ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, D), a view of the file or a copy.

        Raises:
            DataError: the file cannot be read any more.
        """
        ...

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill ``out``, (n, D) of the same dtype, with the rows from ``start``.

        Raises:
            DataError: the file cannot be read any more.
        """
        ...


@dataclass(frozen=True)
class MappedH5:
    """A data set that lies in the file as a memory-mapped array would."""

    path: Path
    shape: tuple[int, int]
    dtype: torch.dtype
    offset: int
    """Bytes before the first feature."""

    mapped = True

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, D), a view of the file; writing into it changes this view only."""
        numpy_dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        # mode "c": a private mapping is writable, as torch wants its memory, and the file stays as it is.
        array = np.memmap(self.path, numpy_dtype, "c", self.offset, self.shape)
        return torch.from_numpy(array[start:stop])

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill ``out``, (n, D) of the same dtype, with the rows from ``start``."""
        out.copy_(self.rows(start, start + len(out)))


@dataclass(frozen=True)
class ReadH5:
    """A data set in chunks, compressed or of foreign bytes, which is read at every access."""

    path: Path
    shape: tuple[int, int]
    dtype: torch.dtype
    dataset: str
    """Its name in the file."""

    mapped = False

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, D), a copy."""
        out = torch.empty((stop - start, self.shape[1]), dtype=self.dtype)
        self.read_into(out, start)
        return out

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill ``out``, (n, D) of the same dtype, with the rows from ``start``, without a second copy in memory."""
        with open_h5(self.path) as file:
            data = file[self.dataset]
            data.read_direct(out.numpy(), (0,) * (data.ndim - 2) + (slice(start, start + len(out)),))


@dataclass(frozen=True)
class MappedTensor:
    """The tensor of a torch file."""

    path: Path
    shape: tuple[int, int]
    dtype: torch.dtype

    mapped = True

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (stop - start, D), a view of the file; writing into it changes this view only."""
        return map_torch(self.path).reshape(self.shape)[start:stop]

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill ``out``, (n, D) of the same dtype, with the rows from ``start``."""
        out.copy_(self.rows(start, start + len(out)))


@dataclass(frozen=True)
class H5Array:
    """A small array of an HDF5 file."""

    path: Path
    dataset: str

    def read(self) -> NDArray[Any]:
        """Return a copy of the whole array.

        Raises:
            DataError: the file cannot be read any more.
        """
        with open_h5(self.path) as file:
            return np.asarray(file[self.dataset][()])


@contextmanager
def open_h5(path: Path) -> Iterator[Any]:
    """Return a context with an `h5py.File`, read-only.

    Args:
        path: the file.

    Raises:
        DataError: it is no HDF5 file, or truncated or damaged, whether that shows at once or while reading from it.
        ModuleNotFoundError: h5py is not installed.
    """
    h5py = _h5py()
    try:
        # No chunk is read twice, so HDF5's cache of chunks would only cost time.
        with h5py.File(path, "r", rdcc_nbytes=0) as file:
            yield file
    except _OF_H5PY as error:
        raise DataError(
            f"{path} must be a whole HDF5 file, got one that cannot be read ({_first_line(error)}): "
            "copy it again or extract its features again"
        ) from error


def stored_h5(path: Path, data: Any, shape: tuple[int, int], dtype: torch.dtype) -> StoredFeatures:
    """Return where the features of a data set lie, mappable if its bytes are those of an array.

    Args:
        path: the file.
        data: an `h5py.Dataset` (N, D) or (1, N, D).
        shape: (N, D).
        dtype: that of the data set.
    """
    contiguous = data.id.get_create_plist().get_layout() == _h5py().h5d.CONTIGUOUS and not data.external
    if contiguous and data.dtype.isnative and not data.file.userblock_size:
        offset = data.id.get_offset()
        # torch wants its numbers aligned, which HDF5 does not promise.
        if offset is not None and offset % data.dtype.itemsize == 0:
            return MappedH5(path, shape, dtype, offset)
    return ReadH5(path, shape, dtype, data.name)


def map_torch(path: Path) -> Tensor:
    """Return the tensor of a file that torch saved, memory-mapped.

    Args:
        path: the file; what it holds is not executed.

    Raises:
        DataError: the file is damaged, of torch before 1.6, or holds anything but one tensor.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _OF_TORCH_LOAD as error:
        raise DataError(
            f"{path} must hold one tensor saved by torch 1.6 or later, got a file that "
            f"torch.load(weights_only=True) refuses ({type(error).__name__}): copy it again or save it again"
        ) from error
    if not isinstance(value, Tensor):
        raise DataError(f"{path} must hold one tensor (N, D), got {type(value).__name__}: save the tensor alone")
    return value.detach()


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        message = "reading .h5 files needs h5py: pip install 'entroreg[vision]'"
        raise ModuleNotFoundError(message, name="h5py") from error
    return h5py


def _first_line(error: BaseException) -> str:
    return str(error).strip("'\"").partition("\n")[0]
