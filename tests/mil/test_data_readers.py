"""Readers of idx, CIFAR-10 and classic CSV files give back what was written, and name the file that is broken."""

from __future__ import annotations

import gzip
import json
import re
import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from entroreg.vision.data.cifar import read_cifar10
from entroreg.vision.data.errors import DataError
from entroreg.vision.data.idx import read_digits, read_idx
from entroreg.vision.mil.data.classic_csv import read_classic_csv


def idx(array: NDArray[np.uint8]) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">I", side) for side in array.shape) + array.tobytes()
    )


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0)), st.booleans())
def test_idx_reads_what_was_written(array: NDArray[np.uint8], gzipped: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "images.gz" if gzipped else "images")
        path.write_bytes(gzip.compress(idx(array)) if gzipped else idx(array))
        found = read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


@given(st.data())
def test_a_part_of_an_idx_file_is_never_read(data: st.DataObject) -> None:
    whole = idx(np.ones((3, 2, 2), np.uint8))
    content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    if data.draw(st.booleans()):
        packed = gzip.compress(whole)
        content = packed[: data.draw(st.integers(2, len(packed) - 1))]
    with TemporaryDirectory() as folder:
        path = Path(folder, "images")
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_idx(path)


def test_idx_errors(tmp_path: Path) -> None:
    path = tmp_path / "images"
    whole = idx(np.zeros((2, 3), np.uint8))
    for content, message in (
        (whole[:-1], "must have 18 bytes, got 17: the file is truncated or not one"),
        (whole + b"x", "must have 18 bytes, got 19: the file is truncated or not one"),
        (whole[:7], "must have 12 bytes of header, got 7: the file is truncated"),
        (b"PNG\x00", "must be an idx file of unsigned bytes, got one that begins with 504e4700"),
        (
            bytes([0, 0, 13, 1, 0, 0, 0, 0]),
            "must be an idx file of unsigned bytes, got one that begins with 00000d01",
        ),
        (
            struct.pack(">HBB4I", 0, 8, 4, 0, *[2**32 - 1] * 3),
            "must have the shape of an array, got (0, 4294967295, 4294967295, 4294967295)",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{re.escape(f'{path} {message}')}$"):
            read_idx(path)
    damaged = bytearray(gzip.compress(whole))
    damaged[10] = 0xFF  # the type of the first block
    path.write_bytes(damaged)
    with pytest.raises(
        DataError, match=re.escape(f"{path} must be an idx file, got none or a damaged one: Error -3")
    ):
        read_idx(path)
    with pytest.raises(DataError, match=r"none must be an idx file, got none or a damaged one: .*No such file"):
        read_idx(tmp_path / "none")


def test_digits(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    with pytest.raises(
        DataError, match=r"must hold train-images-idx3-ubyte, got none: remove the folder and fetch"
    ):
        read_digits(tmp_path, "train")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.array([7, 9], np.uint8)))
    with pytest.raises(DataError, match=r"must hold a label for each of 3 images, got 2$"):
        read_digits(tmp_path, "train")
    labels.write_bytes(idx(images))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte must have 1 dimensions, got shape \(3, 4, 2\)$"):
        read_digits(tmp_path, "train")
    labels.write_bytes(idx(np.array([7, 9, 1], np.uint8)))
    found = read_digits(tmp_path, "train")
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], [7, 9, 1])


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """A folder with two test images: one red above blue, one all green."""
    rows = np.zeros((2, 32, 32, 3), np.uint8)
    rows[0, :16], rows[0, 16:], rows[1] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    Image.fromarray(rows.reshape(2, 1024, 3)).save(tmp_path / "test_batch.png")
    (tmp_path / "test_lables.json").write_text("[3, 8]")
    return tmp_path


def test_cifar(cifar: Path) -> None:
    images, labels = read_cifar10(cifar, "test")
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == labels.dtype == np.uint8
    assert images[0, 15, 31].tolist() == [255, 0, 0]
    assert images[0, 16, 0].tolist() == [0, 0, 255]
    assert (images[1] == (0, 255, 0)).all()
    assert labels.tolist() == [3, 8]


def test_cifar_train_is_five_files(cifar: Path) -> None:
    for number in range(1, 6):
        Image.fromarray(np.full((1, 1024, 3), number, np.uint8)).save(cifar / f"data_batch_{number}.png")
    (cifar / "train_lables.json").write_text(json.dumps([5, 4, 3, 2, 1]))
    images, labels = read_cifar10(cifar, "train")
    assert images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert labels.tolist() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[3]", "must hold a label for each of 2 images, got 1"),
        ("[3, 10]", "must be a JSON list of whole numbers below 10, got something else"),
        ("[3, true]", "must be a JSON list of whole numbers below 10, got something else"),
        ('{"3": 8}', "must be a JSON list of whole numbers below 10, got something else"),
        ("[3, 8", "must be a JSON list of labels, got: "),
        ("[" * 100_000, "must be a JSON list of labels, got: "),
    ],
)
def test_cifar_labels_that_are_none(cifar: Path, text: str, message: str) -> None:
    (cifar / "test_lables.json").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"{cifar / 'test_lables.json'} {message}")):
        read_cifar10(cifar, "test")


def test_cifar_images_that_are_none(cifar: Path) -> None:
    path = cifar / "test_batch.png"
    whole = path.read_bytes()
    for length in (0, 20, 60, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=re.escape(f"{path} must be a PNG file, got none or a damaged one: ")):
            read_cifar10(cifar, "test")
    for header, message in (
        (whole[16:28], " must be a PNG file, got none or a damaged one: Truncated IHDR chunk"),
        (
            struct.pack(">II", 2**20, 2**20) + whole[24:29],
            " must be a PNG file of some million pixels, got: Image ",
        ),
    ):
        chunk = b"IHDR" + header
        begin = whole[:8] + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(begin + whole[33:])
        with pytest.raises(DataError, match=re.escape(f"{path}{message}")):
            read_cifar10(cifar, "test")
    Image.fromarray(np.zeros((2, 1000, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"must have 1024 pixels in each row, one image, got 1000$"):
        read_cifar10(cifar, "test")
    path.unlink()
    with pytest.raises(DataError, match=re.escape(f"{path} must be a PNG file, got none or a damaged one: ")):
        read_cifar10(cifar, "test")


def test_classic_csv(tmp_path: Path) -> None:
    path = tmp_path / "musk.csv"
    path.write_text("1,1000007,0.5,-2\n-1,3,1e2,4\n\n1,1000007,7,8.25\n-1,1000008,0,0\n")
    found = read_classic_csv(path)
    assert list(found.names) == ["1000007", "3", "1000008"]
    assert list(found.classes) == ["-1", "1"]
    assert list(found.labels) == [1, 0, 0]
    assert [bag.tolist() for bag in found.bags] == [[[0.5, -2], [7, 8.25]], [[100, 4]], [[0, 0]]]
    assert str(found.bags[0].dtype) == "torch.float32"


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.tuples(st.integers(0, 4), finite, finite), min_size=1, max_size=20))
def test_classic_csv_keeps_every_instance(rows: list[tuple[int, float, float]]) -> None:
    rows = [*rows, (5, 0.0, 0.0), (6, 0.0, 0.0)]
    with TemporaryDirectory() as folder:
        path = Path(folder, "bags.csv")
        path.write_text("".join(f"{bag % 2},{bag},{x!r},{y!r}\n" for bag, x, y in rows))
        found = read_classic_csv(path)
    expected: dict[str, list[list[float]]] = {}
    for bag, x, y in rows:
        expected.setdefault(str(bag), []).append([x, y])
    assert dict(zip(found.names, [bag.tolist() for bag in found.bags], strict=True)) == expected
    assert list(found.names) == list(expected)
    assert [found.classes[label] for label in found.labels] == [str(int(name) % 2) for name in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " must hold a row for each instance, got an empty file"),
        ("\n \n", " must hold a row for each instance, got an empty file"),
        ("1,2\n", " must have columns label, bag and features, got 2 column(s)"),
        ("1,1,5,5\n0,2,5\n", ", row 2 must have 4 columns as the first one, got 3"),
        ("1,1,5\n\n0,2,5,5\n", ", row 3 must have 3 columns as the first one, got 4"),
        ("1,1,5\n0,2,nan\n", ", row 2, column 3 must be finite in float32, got nan"),
        ("1,1,5\n\n0,2,-inf\n", ", row 3, column 3 must be finite in float32, got -inf"),
        ("1,1,5\n0,2,1e39\n", ", row 2, column 3 must be finite in float32, got 1e+39"),
        ("1,1,5\n0,nan,4\n", ", row 2, column 2 must be finite in float32, got nan"),
        (
            "1,1,5\n0,1.5,4\n",
            ", row 2, column 2 must be a whole number below 2^53, the label or the bag, got 1.5",
        ),
        (
            f"1,{2**53 - 1},5\n0,{2**53},4\n1,{2**53 + 1},4\n",
            ", row 2, column 2 must be a whole number below 2^53, the label or the bag, got 9.0072e+15",
        ),
        ("label,bag,f\n1,1,5\n", ", row 1 must hold numbers, got: could not convert string to float: 'label'"),
        ("1,1,5\n0,2,\n", ", row 2 must hold numbers, got: could not convert string to float: ''"),
        ("1,1,5\n0,1,5\n0,2,5\n", ", bag 1 must have one label, got 0, 1"),
        ("1,1,5\n1,2,5\n", " must have bags of two classes at least, got only 1"),
    ],
)
def test_classic_csv_errors(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "musk.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"^{re.escape(f'{path}{message}')}$"):
        read_classic_csv(path)


def test_classic_csv_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "musk.csv"
    path.write_bytes(b"1,1,\xff\n")
    for bad in (path, tmp_path / "none.csv"):
        with pytest.raises(DataError, match=re.escape(f"{bad} must be a CSV file of label, bag, features, got: ")):
            read_classic_csv(bad)
