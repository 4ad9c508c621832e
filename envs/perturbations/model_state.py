"""What has been changed in a compiled MuJoCo model, to be undone to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import mujoco
import numpy as np

_SCALARS = ("meaninertia", "meanmass", "meansize", "extent")


class ModelState:
    """A model's changes.

    Whatever moves in any array while it is being changed is noted, not only what a perturbation names: derived
    constants move with it. What others write into the model at other times, such as a goal, is theirs.

    Args:
        model: compiled; it is restored in place, so whoever refers to it sees the restored one.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._kept = copy.copy(model)
        names = [name for name in dir(model) if not name.startswith("_")]
        self._arrays = [name for name in names if isinstance(getattr(model, name), np.ndarray)]
        self._before, self._changed = self._kept, list[str]()

    @property
    def kept(self) -> mujoco.MjModel:
        """The model as it was at first, a copy to be read only."""
        return self._kept

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Note what is changed meanwhile; what was noted before is forgotten."""
        self._before = copy.copy(self._model)
        try:
            yield
        finally:
            pairs = ((name, getattr(self._before, name), getattr(self._model, name)) for name in self._arrays)
            self._changed = [name for name, before, after in pairs if before.tobytes() != after.tobytes()]

    def restore(self) -> None:
        """Undo what was noted."""
        for name in self._changed:
            getattr(self._model, name)[...] = getattr(self._before, name)
        self._model.opt.gravity[:] = self._before.opt.gravity
        self._model.stat.center[:] = self._before.stat.center
        for name in _SCALARS:
            setattr(self._model.stat, name, getattr(self._before.stat, name))
