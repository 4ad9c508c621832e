"""A folder of feature files as a data set: what it returns, what it holds in memory and what it refuses."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.bags import pack
from entroreg.vision.mil.dataset import BagPart
from entroreg.vision.mil.files.feature_folder import open_features

D = 4
SIZES = {"a": 3, "b": 1, "c": 6, "d": 2}
LABELS = "slide,label,patient\na,x,p2\nb,y,p1\nc,x,p2\nd,y,p3\n"
ROW = D * 4


def _features(name: str) -> NDArray[Any]:
    return np.random.default_rng(ord(name)).standard_normal((SIZES[name], D)).astype(np.float32)


def _write(path: Path, arrays: Mapping[str, Any], *, tile_size: int | None = None, **kind: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **kind)
        if tile_size is not None:
            file["coords"].attrs["patch_size_level0"] = tile_size


def _folder(tmp_path: Path, *, labels: str = LABELS, **kind: Any) -> tuple[Path, Path]:
    folder = tmp_path / "features"
    folder.mkdir()
    for number, (name, size) in enumerate(SIZES.items()):
        arrays = {"features": _features(name), "coords": np.full((size, 2), number)}
        _write(folder / f"{name}.h5", arrays, tile_size=256 + number, **kind)
    (tmp_path / "labels.csv").write_text(labels)
    return folder, tmp_path / "labels.csv"


def _lies_in(tensor: Tensor, path: Path) -> bool:
    """Whether the tensor's memory is a mapping of the file."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc/self/maps")
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line.endswith(str(path))
    return False


def test_each_slide_is_a_bag(tmp_path: Path) -> None:
    data = open_features(*_folder(tmp_path))
    assert (len(data), data.names, data.patients) == (4, ("a", "b", "c", "d"), ("p2", "p1", "p2", "p3"))
    assert (data.labels, data.classes) == ((0, 1, 0, 1), ("x", "y"))
    assert (data.sizes, data.in_features) == ((3, 1, 6, 2), D)
    for index, name in enumerate(data.names):
        assert data.features(index).tolist() == _features(name).tolist()
        coords = data.coords(index)
        assert coords is not None
        assert coords.tolist() == [[index, index]] * SIZES[name]
        assert data.instance_labels(index) is None
        assert data.parts(index) == [BagPart(name, 0, SIZES[name], 256 + index)]
    assert pack([data.features(index) for index in range(4)]).sizes == data.sizes


@pytest.mark.parametrize("budget", [0, 9 * ROW, 2**20])
def test_the_slides_of_a_patient_form_a_bag(tmp_path: Path, budget: int) -> None:
    data = open_features(*_folder(tmp_path), by="patient", memory_budget_bytes=budget)
    assert data.names == data.patients == ("p1", "p2", "p3")
    assert (data.labels, data.sizes) == ((1, 0, 1), (1, 9, 2))
    assert data.features(1).tolist() == [*_features("a").tolist(), *_features("c").tolist()]
    coords = data.coords(1)
    assert coords is not None
    assert coords[:, 0].tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 2]
    assert data.parts(1) == [BagPart("a", 0, 3, 256), BagPart("c", 3, 9, 258)]
    assert data.features(0).tolist() == _features("b").tolist()


def test_what_one_slide_of_a_patient_lacks_the_bag_lacks(tmp_path: Path) -> None:
    folder, labels = _folder(tmp_path)
    with h5py.File(folder / "c.h5", "a") as file:
        del file["coords"]
        file["instance_labels"] = np.ones(6, bool)
    data = open_features(folder, labels, by="patient")
    assert data.coords(1) is None
    assert data.instance_labels(1) is None
    with h5py.File(folder / "a.h5", "a") as file:
        file["instance_labels"] = np.array([0, 1, 0])
    marks = open_features(folder, labels, by="patient").instance_labels(1)
    assert marks is not None
    assert marks.tolist() == [False, True, False, True, True, True, True, True, True]


def test_bags_are_resident_within_the_budget_and_mapped_beyond(tmp_path: Path) -> None:
    folder, labels = _folder(tmp_path)
    everything = sum(SIZES.values()) * ROW
    data = open_features(folder, labels)
    assert data.resident_bytes == everything
    assert data.features(2) is data.features(2)
    assert not _lies_in(data.features(2), folder / "c.h5")

    data = open_features(folder, labels, memory_budget_bytes=0)
    assert data.resident_bytes == 0
    for index, name in enumerate(data.names):
        assert _lies_in(data.features(index), folder / f"{name}.h5")
        assert data.features(index).tolist() == _features(name).tolist()

    # a and b come first, c does not fit any more, d does
    data = open_features(folder, labels, memory_budget_bytes=6 * ROW)
    assert data.resident_bytes == 6 * ROW
    assert [index in data.resident for index in range(4)] == [True, True, False, True]
    assert _lies_in(data.features(2), folder / "c.h5")


def test_chunks_beyond_the_budget_are_read_at_each_access(tmp_path: Path) -> None:
    folder, labels = _folder(tmp_path, chunks=True, compression="gzip")
    data = open_features(folder, labels, memory_budget_bytes=0)
    assert data.resident_bytes == 0
    first, second = data.features(2), data.features(2)
    assert first.tolist() == second.tolist() == _features("c").tolist()
    assert first.data_ptr() != second.data_ptr()
    (folder / "c.h5").unlink()
    with pytest.raises(DataError, match=r"c\.h5 must be a whole HDF5 file"):
        data.features(2)


def test_a_data_set_goes_to_the_workers_of_a_loader(tmp_path: Path) -> None:
    data = pickle.loads(pickle.dumps(open_features(*_folder(tmp_path), memory_budget_bytes=3 * ROW)))
    assert list(data.resident) == [0]
    assert [data.features(index).tolist() for index in range(4)] == [_features(name).tolist() for name in SIZES]


def test_tensors_and_nested_folders_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    (folder / "site" / "1").mkdir(parents=True)
    torch.save(torch.from_numpy(_features("a")).bfloat16(), folder / "a.pt")
    torch.save(torch.from_numpy(_features("b"))[None].bfloat16(), folder / "site" / "1" / "b.PT")
    (folder / "thumbnail.jpg").write_bytes(b"")
    (tmp_path / "labels.csv").write_text("slide,label\na.svs,1\nb.svs,0\n")
    for budget in (0, 2**20):
        data = open_features(folder, tmp_path / "labels.csv", memory_budget_bytes=budget)
        assert (data.names, data.labels, data.classes) == (("a", "b"), (1, 0), ("0", "1"))
        assert data.patients == ("a", "b")
        assert torch.equal(data.features(0), torch.from_numpy(_features("a")).bfloat16())
        assert data.coords(0) is None
        assert _lies_in(data.features(0), folder / "a.pt") is (budget == 0)


def _aem(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(SIZES):
            file[f"{name}/feat"] = _features(name).astype(np.float16)
            file[name].attrs["label"] = number % 2
    return path


def test_one_file_of_aem_is_a_data_set_with_its_own_labels(tmp_path: Path) -> None:
    path = _aem(tmp_path / "all.h5")
    data = open_features(path, memory_budget_bytes=0)
    assert (data.names, data.labels, data.classes) == (("a", "b", "c", "d"), (0, 1, 0, 1), ("0", "1"))
    assert data.features(2).dtype == torch.float16
    assert _lies_in(data.features(2), path)
    (tmp_path / "labels.csv").write_text(LABELS)
    data = open_features(tmp_path, tmp_path / "labels.csv", classes=["y", "x"])
    assert (data.labels, data.classes) == ((1, 0, 1, 0), ("y", "x"))


def test_some_may_be_left_out_on_request(tmp_path: Path) -> None:
    labels = "slide,label\na,x\nb,y\nlost,z\n"
    folder, table = _folder(tmp_path, labels=labels)
    data = open_features(folder, table, ignore_unlabelled=True, ignore_without_features=True)
    assert (data.names, data.classes) == (("a", "b"), ("x", "y"))


def test_a_label_without_features_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"lost{number},x\n" for number in range(5))
    folder, table = _folder(tmp_path, labels="slide,label\na,x\nb,y\nc,x\nd,y\n" + rows)
    with pytest.raises(DataError) as caught:
        open_features(folder, table, ignore_unlabelled=True)
    assert str(caught.value) == (
        f"{table}: every label must have a feature file in {folder}, got none for lost0, lost1, lost2 and 2 more: "
        "extract their features, remove the rows, or set ignore_without_features"
    )


def test_features_without_a_label_are_refused(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path, labels="slide,label\na,x\nc,y\n")
    with pytest.raises(DataError) as caught:
        open_features(folder, table, ignore_without_features=True)
    assert str(caught.value) == (
        f"{table}: every slide must have a label, got none for {folder}/b.h5, {folder}/d.h5: "
        "add rows, remove the files, or set ignore_unlabelled"
    )
    table.write_text("slide,label\ne,x\nf,y\n")
    with pytest.raises(DataError) as caught:
        open_features(folder, table, ignore_unlabelled=True, ignore_without_features=True)
    expected = f"{table}: some label must have a feature file in {folder}, got none: compare the names"
    assert str(caught.value) == expected


def test_what_would_fail_in_a_batch_is_refused(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path)
    for features, what, got in (
        (np.ones((2, D + 1), np.float32), "width", f"{D} in {folder}/a.h5 and {D + 1} in {folder}/c.h5"),
        (np.ones((2, D)), "dtype", f"torch.float32 in {folder}/a.h5 and torch.float64 in {folder}/c.h5"),
    ):
        _write(folder / "c.h5", {"features": features})
        with pytest.raises(DataError) as caught:
            open_features(folder, table)
        expected = f"features must be of one {what}, got {got}: extract them with one extractor"
        assert str(caught.value) == expected


@pytest.mark.parametrize("budget", [0, 2**20])
@pytest.mark.parametrize("by", ["slide", "patient"])
def test_the_last_number_of_the_last_file_is_checked_at_the_start(tmp_path: Path, budget: int, by: Any) -> None:
    folder, table = _folder(tmp_path)
    features = _features("d")
    features[-1, -1] = np.nan
    _write(folder / "d.h5", {"features": features})
    with pytest.raises(DataError) as caught:
        open_features(folder, table, by=by, memory_budget_bytes=budget)
    assert str(caught.value) == (
        f"{folder}/d.h5: features must be finite, got nan in instance 1, feature 3: "
        "extract the features again or drop the instance"
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.ones((0, D), np.float32)}, "the bag is empty, its features have shape (0, 4)"),
        ({"features": _features("d"), "coords": np.ones((3, 2))}, "coords must have shape (2, 2)"),
        ({"features": _features("d"), "coords": np.full((2, 2), np.nan)}, "coords must be finite"),
        ({"features": _features("d"), "instance_labels": np.array([0, 5])}, "instance_labels must be 0 or 1"),
    ],
)
def test_every_file_is_checked_at_the_start(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    folder, table = _folder(tmp_path)
    _write(folder / "d.h5", arrays)
    with pytest.raises(DataError) as caught:
        open_features(folder, table)
    assert str(caught.value).startswith(f"{folder}/d.h5: {message}")


def test_a_truncated_file_is_named_at_the_start(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path)
    whole = (folder / "d.h5").read_bytes()
    (folder / "d.h5").write_bytes(whole[:-20])
    with pytest.raises(DataError) as caught:
        open_features(folder, table)
    assert str(caught.value).startswith(f"{folder}/d.h5 must be a whole HDF5 file, got one that cannot be read (")
    assert "\n" not in str(caught.value)


def test_a_patient_of_two_classes_and_no_patients_are_refused(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path, labels=LABELS.replace("c,x", "c,y"))
    with pytest.raises(DataError) as caught:
        open_features(folder, table, by="patient")
    assert str(caught.value) == (
        f"{table}: slides of patient 'p2' must be of one class, got 'x' for 'a' and 'y' for 'c': "
        "let each slide be a bag"
    )
    assert open_features(folder, table).labels == (0, 1, 1, 1)
    table.write_text("slide,label\na,x\nb,y\nc,x\nd,y\n")
    with pytest.raises(DataError) as caught:
        open_features(folder, table, by="patient")
    assert str(caught.value) == (
        f"{table} must have a column 'patient' where a patient's slides form one bag, got none: "
        "add it or let each slide be a bag"
    )


def test_one_class_is_refused_unless_the_classes_are_given(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path, labels="slide,label\na,x\nb,x\nc,x\nd,x\n")
    with pytest.raises(DataError) as caught:
        open_features(folder, table)
    assert str(caught.value) == f"{table}: labels must be of two classes or more, got 'x' only"
    data = open_features(folder, table, classes=["w", "x"])
    assert (data.labels, data.classes) == ((1, 1, 1, 1), ("w", "x"))


def test_a_slide_in_two_files_is_refused(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path)
    torch.save(torch.from_numpy(_features("a")), folder / "a.pt")
    with pytest.raises(DataError) as caught:
        open_features(folder, table)
    expected = f"slide 'a' must be in one file, got {folder}/a.h5 and {folder}/a.pt: give the folder of one of them"
    assert str(caught.value) == expected


def test_no_feature_files_and_no_labels_are_refused(tmp_path: Path) -> None:
    folder, _ = _folder(tmp_path)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(DataError) as caught:
            open_features(path)
        expected = f"{path} must be a folder with .h5, .hdf5, .pt, .pth files or one of them, got none"
        assert str(caught.value) == expected
    with pytest.raises(DataError) as caught:
        open_features(folder)
    expected = f"{folder} must give labels of its own, got none in its files: give a CSV file of labels"
    assert str(caught.value) == expected


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    folder, table = _folder(tmp_path)
    by: Any = "centre"
    with pytest.raises(ValueError, match=r"^by must be 'slide' or 'patient', got 'centre'$"):
        open_features(folder, table, by=by)
    with pytest.raises(ValueError, match=r"^memory_budget_bytes must be 0 or more, got -1$"):
        open_features(folder, table, memory_budget_bytes=-1)
