"""What `entroreg check` shows: which pieces of the installation are there and work.

Nothing here raises for a broken piece: each finding says what it is and how to mend it. Heavy packages are
imported inside the function that needs them, and what may crash the interpreter (a GL back end) runs in a
process of its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from entroreg.benchmarks.provenance import cores

Status = Literal["ok", "missing", "broken"]

OLDEST_PYTHON = (3, 11)
DEPENDENCIES = ("torch", "numpy", "scipy", "safetensors")
# The modules that each extra of pyproject.toml brings.
EXTRAS: dict[str, tuple[str, ...]] = {
    "rl": ("gymnasium", "mujoco", "stable_baselines3", "tensorboard"),
    "vision": ("h5py", "torchmetrics", "PIL"),
    "bench": ("tyro", "rich", "matplotlib"),
    "dm": ("dm_control", "shimmy"),
    "llm": ("transformers", "trl"),
    "verl": ("verl",),
    "slides": ("openslide", "openslide_bin"),
    "cluster": ("ray", "submitit"),
    "attacks": ("pyautoattack",),
    "peers": ("sbx",),
}
REQUIRED = frozenset({"python", "entroreg", *DEPENDENCIES, "device", "rl", "bench", "mujoco"})

_TIMEOUT = 60  # seconds for a compiler or a GL back end; each takes below two where it works
_GL_OFF = frozenset({"disable", "disabled", "off", "false", "0"})  # MuJoCo's own words for no rendering
_BALL = '<mujoco><worldbody><body><freejoint/><geom size="0.1"/></body></worldbody></mujoco>'
# One line of error, and an exit that runs no destructor: that of a half-made renderer prints a traceback.
_RENDER = f"""
import os, sys
try:
    import mujoco
    model = mujoco.MjModel.from_xml_string('{_BALL}')
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, 32, 32)
    renderer.update_scene(data)
    assert renderer.render().shape == (32, 32, 3)
except Exception as error:
    print(type(error).__name__ + ':', *str(error).split(), file=sys.stderr, flush=True)
    os._exit(1)
os._exit(0)
"""
# What a kernel of torch.compile includes: the C++ library, OpenMP and Python's own headers.
_CPP = """
#include <Python.h>
#include <cmath>
#include <omp.h>
int threads() { return omp_get_max_threads(); }
"""


@dataclass(frozen=True)
class Finding:
    """One line of the check."""

    topic: str
    """What was looked at, e.g. `torch`."""
    status: Status
    """Whether it works (`ok`), is absent (`missing`) or is there and fails (`broken`)."""
    detail: str
    """What was found: a version, a name, the message of an error."""
    remedy: str = ""
    """What to do about it; empty where nothing is to be done."""


def findings() -> list[Finding]:
    """Every finding, in the order to show them; takes a few seconds."""
    return [
        _python(),
        *(_distribution(name) for name in ("entroreg", *DEPENDENCIES)),
        _guarded("device", _device, _pip("torch")),
        _compiler(),
        *(_extra(name) for name in EXTRAS),
        _mujoco(),
        _rendering(),
    ]


def required_ok(found: Sequence[Finding]) -> bool:
    """True when the base, `rl` and `bench` are fine; compiler, renderer and other extras may be absent."""
    return all(finding.status == "ok" for finding in found if finding.topic in REQUIRED)


def _pip(requirement: str) -> str:
    quoted = f'"{requirement}"' if "[" in requirement else requirement
    return f"pip install {quoted}"


def _guarded(topic: str, probe: Callable[[], str], remedy: str) -> Finding:
    """The finding of a probe that returns its detail or raises."""
    try:
        return Finding(topic, "ok", probe())
    except Exception as error:  # whatever a half-installed package raises is what is to be shown
        return Finding(topic, "broken", f"{type(error).__name__}: {_last_line(str(error))}", remedy)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _present(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a stub in sys.modules without a spec counts as absent
        return False


def _python() -> Finding:
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", "broken", detail, "use Python 3.11 or later")
    return Finding("python", "ok", detail)


def _distribution(name: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", _pip(name))

    def imported() -> str:
        importlib.import_module(name)
        return version

    return _guarded(name, imported, _pip(f"--force-reinstall {name}"))


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"CUDA {torch.version.cuda}: {', '.join(names)}"
    return f"CPU, {cores()} cores, {torch.get_num_threads()} torch threads"


def _compiler() -> Finding:
    """Whether a file compiles with the compiler of torch.compile: `CXX`, else g++ (clang++ on macOS)."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    remedy = "torch.compile needs one and Python's headers: apt-get install g++ python3-dev, or set CXX"
    path = shutil.which(name)
    if path is None:
        return Finding("compiler", "missing", f"{name} is not on PATH", remedy)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_CPP)
        include = f"-I{sysconfig.get_path('include')}"
        options = [
            "-std=c++17",
            "-shared",
            "-fPIC",
            "-fopenmp",
            include,
            "-o",
            str(source.with_suffix(".so")),
        ]
        error = _failure([path, *options, str(source)])
    if error is not None:
        return Finding("compiler", "broken", f"{path}: {error}", remedy)
    return Finding("compiler", "ok", f"{path} {_compiler_version(path)}")


def _compiler_version(path: str) -> str:
    command = [path, "-dumpfullversion", "-dumpversion"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _failure(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    """None when the command succeeds, else its error in one line."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_TIMEOUT} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    # A compiler's first error is the cause of the others; anything else ends with its error.
    errors = [line for line in done.stderr.splitlines() if " error: " in line]
    return _last_line(errors[0] if errors else done.stderr)


def _extra(name: str) -> Finding:
    absent = [module for module in EXTRAS[name] if not _present(module)]
    if absent:
        return Finding(name, "missing", f"no module {', '.join(absent)}", _pip(f"entroreg[{name}]"))
    return Finding(name, "ok", ", ".join(EXTRAS[name]))


def _mujoco() -> Finding:
    if not _present("mujoco"):
        return Finding("mujoco", "missing", "no module mujoco", _pip("entroreg[rl]"))
    # With a back end that does not load, `import mujoco` itself fails.
    remedy = "unset MUJOCO_GL" if os.environ.get("MUJOCO_GL") else _pip("--force-reinstall mujoco")
    return _guarded("mujoco", _step_mujoco, remedy)


def _step_mujoco() -> str:
    """Lets a ball fall for one step, and checks its speed: gravity times the time step."""
    import mujoco

    model = mujoco.MjModel.from_xml_string(_BALL)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data)
    expected = model.opt.gravity[2] * model.opt.timestep
    if abs(data.qvel[2] - expected) > 1e-9:
        raise RuntimeError(f"a falling ball has speed {data.qvel[2]}, expected {expected}")
    return f"{mujoco.__version__}, steps a model"


def _rendering() -> Finding:
    """Which GL back ends render, each tried in a process of its own, because some abort it."""
    if not _present("mujoco"):
        return Finding("rendering", "missing", "no module mujoco", _pip("entroreg[rl]"))
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen in _GL_OFF:
        return Finding("rendering", "missing", f"turned off by MUJOCO_GL={chosen}", "unset MUJOCO_GL")
    backends = [chosen] if chosen else ["egl", "osmesa", "glfw"]
    errors = {backend: _try_rendering(backend) for backend in backends}
    working = [backend for backend, error in errors.items() if error is None]
    if working:
        # Without MUJOCO_GL MuJoCo takes glfw, which needs a display.
        remedy = "" if chosen or "glfw" in working else f"set MUJOCO_GL={working[0]} for videos"
        return Finding("rendering", "ok", f"works: {', '.join(working)}", remedy)
    detail = "; ".join(f"{backend}: {error}" for backend, error in errors.items())
    return Finding("rendering", "broken" if chosen else "missing", detail, _gl_remedy(chosen))


def _gl_remedy(chosen: str) -> str:
    install = (
        "only videos need it: apt-get install libegl1 libgl1 and set MUJOCO_GL=egl, "
        "or libosmesa6 and MUJOCO_GL=osmesa"
    )
    return f"unset MUJOCO_GL={chosen} to try the others; {install}" if chosen else install


def _try_rendering(backend: str) -> str | None:
    """None when `backend` renders, else its error in one line."""
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    return _failure([sys.executable, "-c", _RENDER], environment | {"MUJOCO_GL": backend})
