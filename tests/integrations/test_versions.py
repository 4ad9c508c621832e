"""An integration says which versions it is tested with, and refuses others by name."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from entroreg.integrations.versions import TESTED, require

ROOT = Path(__file__).resolve().parents[2]
Pretend = Callable[[str | None], None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    """Return a function that pretends that a version of every package is installed, or with None that none is."""

    def pretend(version: str | None) -> None:
        def version_of(package: str) -> str:
            if version is None:
                raise importlib.metadata.PackageNotFoundError(package)
            return version

        monkeypatch.setattr(importlib.metadata, "version", version_of)

    return pretend


def test_every_release_of_a_tested_series_is_accepted(installed: Pretend) -> None:
    for version in ("1.16.0", "1.16.7", "1.16.0.dev0"):
        installed(version)
        require("trl")


@pytest.mark.parametrize("version", ["1.15.9", "1.17.0", "1.160.0", "0.16.0", "2.0.0", "1"])
def test_other_versions_are_refused(installed: Pretend, version: str) -> None:
    installed(version)
    with pytest.raises(ImportError) as caught:
        require("trl")
    assert str(caught.value) == (
        f"trl must be 1.16.*, with which entroreg is tested, got {version}: pip install 'entroreg[llm]'"
    )
    assert caught.value.name == "trl"


@pytest.mark.parametrize(("package", "extra"), [("trl", "llm"), ("transformers", "llm"), ("verl", "verl")])
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    installed: Pretend, package: str, extra: str
) -> None:
    installed(None)
    with pytest.raises(ImportError) as caught:
        require(package)
    assert str(caught.value) == f"{package} is not installed: pip install 'entroreg[{extra}]'"


def test_the_integrations_check_before_they_import() -> None:
    code = """
import importlib, importlib.metadata, sys
real = importlib.metadata.version
def pretend(changed, version):
    def version_of(package):
        if package != changed:
            return {"transformers": "5.10.0"}.get(package) or real(package)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return version
    importlib.metadata.version = version_of
for module, changed in (("trl", "transformers"), ("trl", "trl"), ("verl", "verl")):
    for version in (None, "0.1.0"):
        pretend(changed, version)
        try:
            importlib.import_module(f"entroreg.integrations.{module}")
        except ImportError as error:
            print(error)
print(sorted({"trl", "verl", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["transformers"] * 2 + ["trl"] * 2 + ["verl"] * 2 + ["[]"]
    assert all("pip install 'entroreg[" in line for line in lines[:6])


def test_the_package_imports_no_library() -> None:
    code = (
        "import sys, entroreg.integrations, entroreg.policy_gradient\n"
        "print(sorted({'trl', 'verl', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_extras_say_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for package, (series,) in TESTED.items():
        major, minor = (int(part) for part in series.split("."))
        requirement = f"{package}>={series},<{major}.{minor + 1}"
        assert requirement in extras["verl" if package == "verl" else "llm"]
    assert project["entry-points"]["verl.plugins"] == {"entroreg": "entroreg.integrations.verl"}
