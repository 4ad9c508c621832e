"""A large array of rows, most of which do not change between two saves, as the blocks that it is saved in."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from entroreg.checkpoint.contents import Contents

__all__ = ["DTYPES", "Table"]

# The names of NumPy, and those of safetensors.
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bool": "BOOL",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
}


class Table:
    """Rows of a large array, saved in blocks: a save writes only the blocks that changed since the last one.

    The table cannot see when the array is written to: say so with `mark`. It remembers what the blocks held when
    they were last saved or loaded. A block that was not marked since is linked, not looked at; one that was marked
    is linked too where it holds what it held then.

    Args:
        rows: (N, ...), the whole array, C-contiguous and of a boolean, integer or floating dtype; it is not copied.
        block_bytes: about how large a block is; at least one row.

    Raises:
        TypeError: rows is no array of such a dtype.
        ValueError: rows has no dimension or is not C-contiguous, or block_bytes is not positive.

    Example:
        >>> import tempfile
        >>> from entroreg.checkpoint import load_checkpoint, save_checkpoint
        >>> table = Table(np.zeros((1000, 3), np.float32))
        >>> table.rows[:2] = [[1, 2, 3], [4, 5, 6]]
        >>> table.filled = 2
        >>> fresh = Table(np.zeros((1000, 3), np.float32))
        >>> with tempfile.TemporaryDirectory() as root:
        ...     save_checkpoint(f"{root}/last", {}, {}, tables={"replay": table})
        ...     _ = load_checkpoint(f"{root}/last", tables={"replay": fresh})
        >>> fresh.rows[: fresh.filled].tolist()
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    """

    def __init__(self, rows: np.ndarray, *, block_bytes: int = 4 << 20) -> None:
        if not isinstance(rows, np.ndarray):
            raise TypeError(f"rows must be a NumPy array, got {type(rows).__name__}: use tensor.numpy()")
        if rows.dtype not in [np.dtype(name) for name in DTYPES]:
            raise TypeError(f"rows must be real, integer or boolean, got {rows.dtype}: convert it first")
        if rows.ndim == 0 or not rows.flags.c_contiguous:
            raise ValueError(
                f"rows must be C-contiguous and have a dimension, got shape {rows.shape}, strides {rows.strides}: "
                "use np.ascontiguousarray"
            )
        if block_bytes < 1:
            raise ValueError(f"block_bytes must be positive, got {block_bytes}")
        self._rows = rows
        self._filled = 0
        self._block_rows = max(1, block_bytes // max(1, self.row_bytes))
        self._known: list[Contents | None] = [None] * self._blocks_of(len(rows))

    @property
    def rows(self) -> np.ndarray:
        """The caller's array itself."""
        return self._rows

    @property
    def filled(self) -> int:
        """How many rows are saved, from the first; 0 to N. Rows between its old and its new value are marked."""
        return self._filled

    @filled.setter
    def filled(self, filled: int) -> None:
        filled = operator.index(filled)
        if not 0 <= filled <= len(self._rows):
            raise ValueError(f"filled must be 0 to {len(self._rows)}, the number of rows, got {filled}")
        self.mark(*sorted((self._filled, filled)))
        self._filled = filled

    def mark(self, start: int, stop: int) -> None:
        """Say that rows ``start`` to ``stop``, the latter excluded, were written to.

        Args:
            start: 0 to N.
            stop: ``start`` to N; a ring that wraps needs two calls.

        Raises:
            ValueError: the rows are not such.
        """
        if not 0 <= start <= stop <= len(self._rows):
            raise ValueError(
                f"rows must be marked from a start to a stop in 0 to {len(self._rows)}, got {start} to {stop}: "
                "mark the two parts of a range that wraps one by one"
            )
        if start < stop:
            changed = range(start // self._block_rows, self._blocks_of(stop))
            self._known[changed.start : changed.stop] = [None] * len(changed)

    def mark_all(self) -> None:
        """Say that any row may have been written to: the next save looks at every block."""
        self.mark(0, len(self._rows))

    @property
    def row_bytes(self) -> int:
        """The size of a row."""
        return int(np.prod(self._rows.shape[1:], dtype=np.int64)) * self._rows.dtype.itemsize

    @property
    def block_rows(self) -> int:
        """How many rows a block has; the last has what is left."""
        return self._block_rows

    def block(self, index: int) -> np.ndarray:
        """Return the filled rows of a block, a view."""
        return self._rows[index * self._block_rows : min((index + 1) * self._block_rows, self._filled)]

    def known(self) -> list[Contents | None]:
        """Return what the file of each filled block holds, None for one that changed since."""
        return self._known[: self._blocks_of(self._filled)]

    def remember(self, blocks: Sequence[Contents]) -> None:
        """Take note that each filled block is now saved so; for save and load."""
        self._known[: len(blocks)] = blocks

    def _blocks_of(self, rows: int) -> int:
        return -(-rows // self._block_rows)
