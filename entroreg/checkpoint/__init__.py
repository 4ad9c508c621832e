"""The checkpoint: a folder of safetensors and JSON, replaced in one step and verified when it is read.

A checkpoint ``<name>/`` holds ``tensors.safetensors``, ``metadata.json``, the blocks of its tables and, written
last, ``manifest.json`` with the size and SHA-256 of all the others. The one it replaced is kept as
``<name>.previous/``, older ones as ``<name>.previous.2/`` and so on. One process at a time may write a checkpoint;
any number may read it meanwhile. Unchanged blocks of a table are hard links to those of the checkpoint before, so
a checkpoint's files must be replaced, never changed in place.
"""

from __future__ import annotations

from entroreg.checkpoint.errors import CheckpointError, UnfitCheckpointError, refusing_unfit
from entroreg.checkpoint.reading import load_checkpoint
from entroreg.checkpoint.saving import save_checkpoint
from entroreg.checkpoint.table import Table

__all__ = [
    "CheckpointError",
    "Table",
    "UnfitCheckpointError",
    "load_checkpoint",
    "refusing_unfit",
    "save_checkpoint",
]
