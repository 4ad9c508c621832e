"""The packages stand in top-level folders, import as entroreg.<name>, and the wheel says the same."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINKED = ("agents", "benchmarks", "envs", "vision")
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
TEXT = {
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
}
IGNORED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "tests", "examples", "docs"
)


def packages_on_disk():
    """Dotted names of all folders with an `__init__.py`, as they import."""
    folders = [("entroreg", ROOT / "entroreg"), *((f"entroreg.{name}", ROOT / name) for name in LINKED)]
    found = set()
    for name, folder in folders:
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            if name != "entroreg" or not parts or parts[0] not in LINKED:
                found.add(".".join((name, *parts)))
    return found


def tracked_text_files():
    """The text files that git tracks, or would track; every text file where there is no git."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in names if name]
    return [p for p in paths if (p.suffix in TEXT or p.name in {"Makefile", "run"}) and p.is_file()]


def test_packages_list_equals_the_folders():
    assert SETTINGS["packages"] == sorted(packages_on_disk())


@pytest.mark.parametrize("name", LINKED)
def test_link(name):
    link = ROOT / "entroreg" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert SETTINGS["package-dir"][f"entroreg.{name}"] == name


@pytest.mark.parametrize("name", LINKED)
def test_bare_import_is_refused(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"ImportError: import it as entroreg.{name}" in done.stderr


@pytest.mark.parametrize("name", LINKED)
def test_names_are_dotted(name):
    assert importlib.import_module(f"entroreg.{name}").__name__ == f"entroreg.{name}"
    assert name not in sys.modules


def test_no_absolute_paths_and_no_loose_ends():
    machine = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|work|mnt|tmp|data)/\w")
    loose = re.compile("TO" + "DO|FIX" + "ME")
    found = []
    for path in tracked_text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if machine.search(line) or loose.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the tree: a build leaves `build/` and `*.egg-info` behind."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=IGNORED)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run(command, cwd=folder / "tree", check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_wheel_holds_exactly_the_packages(wheel):
    expected = {"entroreg/py.typed"}
    for package in SETTINGS["packages"]:
        parts = package.split(".")
        folder = ROOT.joinpath(*(parts[1:] if len(parts) > 1 and parts[1] in LINKED else parts))
        expected |= {f"{'/'.join(parts)}/{path.name}" for path in folder.glob("*.py")}
        for pattern in SETTINGS["package-data"].get(package, []):
            expected |= {
                f"{'/'.join(parts)}/{path.relative_to(folder).as_posix()}" for path in folder.glob(pattern)
            }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        scripts = archive.read(entry_points).decode()
    assert names == expected
    assert "entroreg = entroreg.benchmarks.cli:main" in scripts


@pytest.mark.slow
def test_wheel_works_elsewhere(wheel, tmp_path):
    target = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    imports = "".join(f"import {name}\n" for name in SETTINGS["packages"])
    code = f"{imports}print(entroreg.__file__)\nprint(entroreg.agents.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(target / "entroreg" / "__init__.py"),
        str(target / "entroreg" / "agents" / "__init__.py"),
    ]
