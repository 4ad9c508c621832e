"""Runs stable_baselines3's own SAC tests on `entroreg.agents.SAC`.

The tests come from the source distribution on the package index; they are unpacked outside the repository, in
`$XDG_CACHE_HOME/entroreg/conformance` (`~/.cache` without it). The first argument says which update runs (see
plugin.py: eager, engine or compiled); further ones go to pytest:

    python tests/conformance/run.py engine -k save_load -x

Exit codes: 0 all as expected, 1 a test failed, 2 no such update, 3 the tests could not be downloaded.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = "2.9.2"
SHA256 = "8af267e9513343f481b3f0680b7740ad79a746873db24f18a9fb2edcbd9a2df7"
STEM = f"stable_baselines3-{VERSION}"
UPDATES = ("eager", "engine", "compiled")
FILES = (
    "test_run",
    "test_deterministic",
    "test_identity",
    "test_predict",
    "test_spaces",
    "test_save_load",
    "test_her",
    "test_dict_env",
    "test_cnn",
    "test_vec_normalize",
    "test_n_step_replay",
    "test_sde",
    "test_callbacks",
    "test_custom_policy",
    "test_tensorboard",
    "test_train_eval_mode",
)


class DownloadError(Exception):
    """The source distribution could not be had."""


def cache_folder() -> Path:
    """Where the source distribution is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entroreg" / "conformance"


def _is_ours(archive: Path) -> bool:
    return archive.is_file() and hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256


def _download(folder: Path) -> Path:
    """The archive as pip fetches it into `folder`, its hash checked."""
    # --no-build-isolation: pip asks the archive for its metadata, and setuptools is here already.
    options = ["--no-deps", "--no-build-isolation", "--no-binary", "stable_baselines3", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"stable_baselines3=={VERSION}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise DownloadError(errors[-1])
    archive = folder / f"{STEM}.tar.gz"
    if not _is_ours(archive):
        raise DownloadError(f"{archive.name} does not have the recorded sha256 {SHA256}")
    return archive


def archive_path() -> Path:
    """The verified archive in the cache, downloaded where it is absent or altered."""
    archive = cache_folder() / f"{STEM}.tar.gz"
    if not _is_ours(archive):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            _download(Path(folder)).replace(archive)
    return archive


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpacks the tests and their settings, not the package: the installed one is to be imported."""
    with tarfile.open(archive) as tar:
        wanted = (f"{STEM}/tests/", f"{STEM}/pyproject.toml")
        tar.extractall(folder, [m for m in tar.getmembers() if m.name.startswith(wanted)], filter="data")
    return folder / STEM


def run_tests(root: Path, update: str, extra: list[str]) -> int:
    """Runs pytest from `root` with its own settings and our plugin; returns pytest's exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    # The tests' networks are tiny: more threads only wait for each other, for minutes where cores are shared.
    environment |= {"PYTHONPATH": str(HERE), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    environment["ENTROREG_CONFORMANCE"] = update
    own_settings = ["-c", str(root / "pyproject.toml"), "--rootdir", str(root), "-p", "no:cacheprovider"]
    # SB3's tests expect their own order and their own seeds.
    ours = ["-p", "plugin", "-p", "no:randomly", "--timeout=600", "-q", "-rfEsxX", "--durations=5"]
    files = [f"tests/{name}.py" for name in FILES]
    command = [sys.executable, "-P", "-m", "pytest", *own_settings, *ours, *files, *extra]
    done = subprocess.run(command, cwd=root, env=environment, stdin=subprocess.DEVNULL, check=False)
    return done.returncode


def main(arguments: list[str]) -> int:
    """Runs everything; returns the exit code."""
    if not arguments or arguments[0] not in UPDATES:
        print(f"conformance: the first argument must be one of {', '.join(UPDATES)}", file=sys.stderr)
        return 2
    update, *extra = arguments
    try:
        archive = archive_path()
    except DownloadError as error:
        print(f"conformance: cannot download {STEM} from the package index: {error}", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="entroreg-conformance-") as folder:
        root = _unpack(archive, Path(folder))
        return 1 if run_tests(root, update, extra) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
