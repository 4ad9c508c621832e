from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from entroreg.vision.images.data import as_float, load_images


def _write_digits(folder: Path, part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    monkeypatch.setenv("ENTROREG_DATA", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    _write_digits(tmp_path / "mnist", "train", images, np.arange(6, dtype=np.uint8))
    _write_digits(tmp_path / "mnist", "t10k", images[:2], np.array([7, 11], dtype=np.uint8))
    return images


def test_images_are_those_of_the_files(digits: NDArray[np.uint8]) -> None:
    found = load_images("mnist", "train")
    assert np.array_equal(found.images[:, 0].numpy(), digits)
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.labels.dtype == torch.int64
    assert found.classes == 10
    assert torch.equal(found.first(2).images, found.images[:2])
    assert len(found.first(100).labels) == 6
    found.images[0] = 0  # their own memory, not the read-only bytes of a file


def test_bytes_become_numbers_between_0_and_1() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_float(every), torch.arange(256) / 255)


@pytest.mark.usefixtures("digits")
def test_bad_input() -> None:
    for call, message in (
        (lambda: load_images("mnits", "train"), r"^name must be one of .*'mnist'.*, got 'mnits'$"),  # type: ignore[arg-type]
        (
            lambda: load_images("mnist", "validation"),
            r"^part must be one of .*, got .validation.$",
        ),  # type: ignore[arg-type]
        (lambda: load_images("mnist", "test"), r"^labels must be below 10, got 11: fetch the data set again$"),
        (lambda: load_images("mnist", "train").first(0), r"^count must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^images must be a uint8 tensor, got torch.float32: floating images"):
        as_float(torch.zeros(2))
