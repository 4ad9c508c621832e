"""The examples in the docstrings of entroreg.vision run, and so does the script in examples/."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import entroreg.vision

ROOT = Path(__file__).parents[2]
MODULES = [info.name for info in pkgutil.walk_packages(entroreg.vision.__path__, "entroreg.vision.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(
        module, name, globs=vars(module) | {"torch": torch, "np": np}
    ):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_the_mnist_example_finds_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(200, dtype=np.uint8) % 10
    images = np.zeros((200, 28, 28), np.uint8)
    for place, label in enumerate(labels):
        images[place, 2 * label : 2 * label + 4] = 255  # a bar whose height is the digit
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"train-{kind}-ubyte").write_bytes(header + array.tobytes())
    monkeypatch.setenv("ENTROREG_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "examples" / "mnist_bag_attention.py"))
    picture = example["main"](bags=40, epochs=6)
    assert picture.stat().st_size > 10_000
