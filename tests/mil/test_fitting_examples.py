"""Every example in a docstring of the fitting package runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

from entroreg.vision.mil import fitting

MODULES = sorted(f"{fitting.__name__}.{found.name}" for found in pkgutil.iter_modules(fitting.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    globs = {**vars(module), "torch": torch}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs=globs):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_every_public_name_has_a_docstring() -> None:
    for name in fitting.__all__:
        assert getattr(fitting, name).__doc__, name
