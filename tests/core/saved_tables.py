"""A small table of ten blocks, saved into a checkpoint and loaded from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from entroreg.checkpoint import Table, load_checkpoint, save_checkpoint

N, ROW, BLOCK = 100, 3, 10  # rows, numbers in each, rows of a block


def new_table(filled: int = 0, seed: int = 0) -> Table:
    """A table of random numbers."""
    rows = np.random.default_rng(seed).standard_normal((N, ROW)).astype(np.float32)
    table = Table(rows, block_bytes=BLOCK * ROW * 4)
    table.filled = filled
    return table


def save_table(folder: Path, table: Table, keep: int = 1) -> None:
    """Save it beside a tensor."""
    save_checkpoint(folder, {"weight": torch.ones(2)}, {"step": 1}, tables={"replay": table}, keep=keep)


def load_table(folder: Path, **settings: Any) -> Table:
    """A table of nines into which a saved one was loaded."""
    table = Table(np.full((N, ROW), 9, np.float32), **{"block_bytes": BLOCK * ROW * 4, **settings})
    load_checkpoint(folder, tables={"replay": table})
    return table


def inodes_of(folder: Path) -> dict[str, int]:
    """The inodes of a checkpoint's blocks."""
    return {path.name: path.stat().st_ino for path in sorted(folder.glob("replay-*"))}


def written_blocks(folder: Path) -> list[int]:
    """Which blocks are not those of the checkpoint before."""
    before = inodes_of(folder.with_name(f"{folder.name}.previous"))
    return [index for index, (name, inode) in enumerate(inodes_of(folder).items()) if before.get(name) != inode]
