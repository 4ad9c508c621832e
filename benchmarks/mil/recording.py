"""What a run writes down after each epoch: metrics.jsonl, TensorBoard's files, and the progress on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from entroreg.benchmarks.progress import Progress
from entroreg.benchmarks.row_file import METRICS, RowFile


class Recorder:
    """Writes the rows of a run's epochs; a context that closes what it has opened.

    Args:
        folder: of the run.
        epochs: of each fold, at most.
        progress: where to show how far the run is.
        rows: of an earlier part of the run, to go on after; what it wrote beyond them is cut off.

    Raises:
        UserError: there are fewer rows.
    """

    def __init__(self, folder: Path, epochs: int, progress: Progress, rows: int) -> None:
        self._folder, self._epochs, self._progress = folder, epochs, progress
        self._writer: tuple[int, SummaryWriter] | None = None
        self._file = RowFile(folder / METRICS, rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows so far."""
        return self._file.rows

    def __enter__(self) -> Recorder:
        """Return the recorder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._file.close()
        if self._writer is not None:
            self._writer[1].close()

    def write(self, fold: int, row: Mapping[str, Any]) -> None:
        """Write an epoch's row."""
        self._file.write({"fold": fold, **row})
        writer = self._writer_of(fold, row["epoch"])
        for name, value in row.items():
            if "/" in name and value is not None:
                writer.add_scalar(name, value, row["epoch"])
        self._progress.advance(fold * self._epochs + row["epoch"], [])

    def sync(self) -> None:
        """Wait until all rows are on disk, as a checkpoint that counts them must."""
        self._file.sync()

    def end_fold(self, fold: int, words: str) -> None:
        """Show that a fold is done, however many epochs it took, and what came of it."""
        self._progress.note(words)
        self._progress.advance((fold + 1) * self._epochs, [])

    def _writer_of(self, fold: int, epoch: int) -> SummaryWriter:
        """Return the fold's own writer: its curves lie over those of the other folds."""
        if self._writer is None or self._writer[0] != fold:
            if self._writer is not None:
                self._writer[1].close()
            # What an earlier part of the run wrote from this epoch on is not shown.
            self._writer = fold, SummaryWriter(str(self._folder / "tb" / f"fold-{fold}"), purge_step=epoch)
        return self._writer[1]
