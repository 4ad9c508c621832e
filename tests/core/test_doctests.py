"""Every example in a docstring of the core runs, and every public function of the families has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import math
import pkgutil
from functools import partial
from types import ModuleType

import pytest
import torch
from torch import nn

import entroreg

ABOVE = {"agents", "benchmarks", "envs", "vision"}
NEEDED = {"entroreg.integrations.trl": "trl", "entroreg.integrations.verl": "verl"}
# A protocol, warnings, and what functions return.
WITHOUT = {
    "AdaptationReport",
    "AdaptationWarning",
    "Clusters",
    "Controller",
    "EntropyCollapseWarning",
    "EntropyWarning",
    "Selection",
    "TemperatureRunawayWarning",
}
FAMILIES = (
    "measures",
    "penalties",
    "schedules",
    "selectors",
    "controllers",
    "curriculum",
    "policy_gradient",
    "adaptation",
    "grouping",
    "guards",
)


def _core() -> list[str]:
    """The core's modules; the folders above it are not walked, their imports may be missing."""
    names = []
    for info in pkgutil.iter_modules(entroreg.__path__, "entroreg."):
        if info.name.split(".")[1] in ABOVE:
            continue
        names.append(info.name)
        if info.ispkg:
            package = importlib.import_module(info.name)
            names += [inner.name for inner in pkgutil.iter_modules(package.__path__, f"{info.name}.")]
    return names


def _public(module: ModuleType) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", _core())
def test_examples_of(name: str) -> None:
    if name.endswith("_triton"):
        pytest.importorskip("triton", reason="the kernels are Triton's")
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason="an optional extra")
    module = importlib.import_module(name)
    names = {public: getattr(entroreg, public) for public in entroreg.__all__}
    families = [importlib.import_module(f"entroreg.{family}") for family in FAMILIES]
    for family in (*families, module):
        names |= _public(family)
    names |= {"math": math, "nn": nn, "partial": partial, "torch": torch}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in finder.find(module, name, globs=names):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_function_and_class_has_an_example(family: str) -> None:
    module = importlib.import_module(f"entroreg.{family}")
    names = getattr(module, "__all__", None) or _public(module)
    for name in names:
        value = getattr(module, name)
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("entroreg"):
            assert name in WITHOUT or (">>>" in (value.__doc__ or "")), f"{family}.{name} has no example"
