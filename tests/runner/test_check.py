"""`entroreg check`: what it says of a whole, of a missing and of a broken installation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from entroreg.benchmarks import check
from entroreg.benchmarks.check import Finding

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hide(monkeypatch):
    """Makes modules look absent to find_spec."""

    def hide_modules(*names):
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name in names else find_spec(name, *rest)
        )

    return hide_modules


def backend_that(monkeypatch, outcomes):
    """Replaces the trial of GL back ends by a table: None for one that works, else its error."""
    tried = []

    def attempt(backend):
        tried.append(backend)
        return outcomes[backend]

    monkeypatch.setattr(check, "_try_rendering", attempt)
    return tried


def test_this_environment_has_all_that_is_required():
    found = {finding.topic: finding for finding in check.findings()}
    assert check.required_ok(list(found.values()))
    assert found["torch"] == Finding("torch", "ok", importlib.metadata.version("torch"))
    assert found["python"].detail.endswith(sys.executable)
    assert found["vision"] == Finding("vision", "ok", "h5py, torchmetrics, PIL")
    assert found["mujoco"].detail.startswith(importlib.metadata.version("mujoco"))
    assert found["device"].status == "ok"
    assert set(check.EXTRAS) | check.REQUIRED | {"compiler", "rendering"} == set(found)


def test_the_extras_are_those_of_pyproject():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(check.EXTRAS) == set(declared) - {"all", "dev"}


@pytest.mark.parametrize("topic", sorted(check.REQUIRED))
@pytest.mark.parametrize("status", ["missing", "broken"])
def test_required_topics_decide(topic, status):
    found = [Finding(name, "ok", "") for name in check.REQUIRED - {topic}]
    assert check.required_ok(found)
    assert not check.required_ok([*found, Finding(topic, status, "")])


@pytest.mark.parametrize("topic", ["compiler", "rendering", "vision", "dm", "peers"])
def test_other_topics_do_not_decide(topic):
    found = [Finding(name, "ok", "") for name in check.REQUIRED]
    assert check.required_ok([*found, Finding(topic, "missing", "")])


def test_missing_extra_gives_its_pip_line(hide):
    hide("tyro", "matplotlib")
    expected = Finding("bench", "missing", "no module tyro, matplotlib", 'pip install "entroreg[bench]"')
    assert check._extra("bench") == expected


def test_a_module_without_a_spec_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert check._extra("slides").status == "missing"


def test_missing_distribution(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert check._distribution("scipy") == Finding("scipy", "missing", "not installed", "pip install scipy")


def test_a_distribution_that_does_not_import_is_broken(monkeypatch):
    def import_module(name):
        raise OSError("libgfortran.so.5: cannot open shared object file")

    monkeypatch.setattr(check.importlib, "import_module", import_module)
    found = check._distribution("scipy")
    assert found.status == "broken"
    assert found.detail == "OSError: libgfortran.so.5: cannot open shared object file"
    assert found.remedy == "pip install --force-reinstall scipy"


def test_old_python(monkeypatch):
    monkeypatch.setattr(check.sys, "version_info", (3, 10, 4, "final", 0))
    found = check._python()
    assert (found.status, found.remedy) == ("broken", "use Python 3.11 or later")


def test_no_compiler_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "g++")
    found = check._compiler()
    assert (found.status, found.detail) == ("missing", "g++ is not on PATH")
    assert "apt-get install g++ python3-dev" in found.remedy


def test_a_compiler_without_headers_is_broken(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\necho "x.cpp:1:10: fatal error: Python.h: No such file" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    found = check._compiler()
    assert found.status == "broken"
    assert found.detail == f"{compiler}: x.cpp:1:10: fatal error: Python.h: No such file"


def test_a_compiler_that_works(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\n[ "$1" = -dumpfullversion ] && echo 14.2.0\nexit 0\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert check._compiler() == Finding("compiler", "ok", f"{compiler} 14.2.0")


def test_mujoco_missing(hide):
    hide("mujoco")
    expected = ("missing", "no module mujoco", 'pip install "entroreg[rl]"')
    for found in (check._mujoco(), check._rendering()):
        assert (found.status, found.detail, found.remedy) == expected


def test_mujoco_broken(monkeypatch):
    def step():
        raise ImportError("first line\nlibmujoco.so: undefined symbol")

    monkeypatch.setattr(check, "_step_mujoco", step)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    detail = "ImportError: libmujoco.so: undefined symbol"
    expected = Finding("mujoco", "broken", detail, "pip install --force-reinstall mujoco")
    assert check._mujoco() == expected
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert check._mujoco() == Finding("mujoco", "broken", detail, "unset MUJOCO_GL")


def test_a_mujoco_that_steps_wrongly_is_broken(monkeypatch):
    import mujoco

    monkeypatch.setattr(mujoco, "mj_step", lambda model, data: None)
    found = check._mujoco()
    assert found.status == "broken"
    assert "a falling ball has speed 0.0, expected -0.0196" in found.detail


def test_rendering_names_what_works_and_what_to_set(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    tried = backend_that(monkeypatch, {"egl": "no", "osmesa": None, "glfw": "no display"})
    expected = Finding("rendering", "ok", "works: osmesa", "set MUJOCO_GL=osmesa for videos")
    assert check._rendering() == expected
    assert tried == ["egl", "osmesa", "glfw"]


def test_rendering_with_a_display_needs_no_setting(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    backend_that(monkeypatch, {"egl": None, "osmesa": "no", "glfw": None})
    assert check._rendering() == Finding("rendering", "ok", "works: egl, glfw")


def test_no_renderer(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    backend_that(monkeypatch, {"egl": "a", "osmesa": "b", "glfw": "c"})
    found = check._rendering()
    assert (found.status, found.detail) == ("missing", "egl: a; osmesa: b; glfw: c")
    assert "apt-get install libegl1" in found.remedy


def test_only_the_chosen_back_end_is_tried(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "OSMesa")
    tried = backend_that(monkeypatch, {"osmesa": "no library"})
    found = check._rendering()
    assert (tried, found.status, found.detail) == (["osmesa"], "broken", "osmesa: no library")
    assert found.remedy.startswith("unset MUJOCO_GL=osmesa")


def test_rendering_turned_off(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "off")
    expected = Finding("rendering", "missing", "turned off by MUJOCO_GL=off", "unset MUJOCO_GL")
    assert check._rendering() == expected


def test_an_impossible_back_end_gives_its_error():
    expected = "RuntimeError: invalid value for environment variable MUJOCO_GL: nonsense"
    assert check._try_rendering("nonsense") == expected


def test_commands_that_crash_hang_or_are_absent(monkeypatch):
    python = [sys.executable, "-c"]
    assert check._failure([*python, "pass"]) is None
    assert check._failure([*python, "import os; os.abort()"]) == "killed by signal 6"
    assert check._failure([*python, "raise SystemExit('no luck')"]) == "no luck"
    assert check._failure([os.devnull + "/absent"]) == "[Errno 20] Not a directory: '/dev/null/absent'"
    monkeypatch.setattr(check, "_TIMEOUT", 0.2)
    assert check._failure([*python, "import time; time.sleep(30)"]) == "no answer in 0.2 s"


def test_importing_the_check_is_light():
    heavy = "{'torch', 'numpy', 'mujoco'}"
    code = f"import sys, entroreg.benchmarks.check; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
