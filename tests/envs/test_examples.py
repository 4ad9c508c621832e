"""The examples in the docstrings of entroreg.envs and of the adversarial agents run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import gymnasium
import pytest

import entroreg.agents.adversarial
import entroreg.envs
import entroreg.envs.perturbations

PACKAGES = (entroreg.envs.perturbations, entroreg.agents.adversarial)
MODULES = [info.name for one in PACKAGES for info in pkgutil.walk_packages(one.__path__, f"{one.__name__}.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    names = vars(module) | {"gymnasium": gymnasium}
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs=names):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
