"""The core imports torch, numpy, scipy, safetensors, the standard library and itself: nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "entroreg"
ABOVE = {"agents", "benchmarks", "envs", "vision"}
ADAPTERS = {CORE / "integrations" / f"{library}.py": library for library in ("trl", "verl")}
KERNELS = CORE / "measures" / "_token_triton.py"  # imported only where Triton is there and has a device
ALLOWED = {"torch", "numpy", "scipy", "safetensors", *sys.stdlib_module_names}


def core_modules():
    for path in sorted(CORE.rglob("*.py")):
        if path.relative_to(CORE).parts[0] not in ABOVE and path not in ADAPTERS:
            yield path


def imported_names(tree, package):
    """Dotted names of all imports, relative ones resolved against `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def forbidden(source, package=("entroreg",)):
    """The imports of `source`, a module of `package`, that the core may not have."""
    for name in imported_names(ast.parse(source), list(package)):
        top, *rest = name.split(".")
        if top == "entroreg":
            if rest and rest[0] in ABOVE:
                yield name
        elif top not in ALLOWED:
            yield name


@pytest.mark.parametrize("path", list(core_modules()), ids=lambda path: str(path.relative_to(CORE)))
def test_core_module_imports(path):
    package = path.relative_to(ROOT).parent.parts
    expected = ["triton", "triton.language"] if path == KERNELS else []
    assert list(forbidden(path.read_text(encoding="utf-8"), package)) == expected


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_imports_its_own_library_and_no_other(path):
    found = forbidden(path.read_text(encoding="utf-8"), ("entroreg", "integrations"))
    assert {name.split(".")[0] for name in found} == {ADAPTERS[path]}


@pytest.mark.parametrize(
    "line",
    [
        "import gymnasium",
        "def f():\n    from stable_baselines3 import SAC",
        "from entroreg.agents import SAC",
        "from entroreg import vision",
        "from . import envs",
        "from .benchmarks.check import findings",
        "import entroreg.agents",
    ],
)
def test_what_is_forbidden_is_found(line):
    assert len(list(forbidden(line))) == 1


def test_what_is_allowed_passes():
    source = "import math\nimport torch.nn as nn\nfrom scipy import special\nfrom . import measures\n"
    assert list(forbidden(source + "from ..measures import x\n", ("entroreg", "controllers"))) == []


def test_bare_import_loads_no_torch():
    code = "import sys, entroreg; print(sorted({'torch', 'numpy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
