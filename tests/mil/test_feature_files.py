"""Each format that `read_slides` reads, written here as its tool writes it, and every file that it refuses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files import slide as slide_module
from entroreg.vision.mil.files.feature_files import read_slides
from entroreg.vision.mil.files.slide import FeatureSlide, slide_name

N, D = 7, 5
FEATURES = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
COORDS = np.arange(2 * N).reshape(N, 2) * 256


def _trident(path: Path) -> None:
    with h5py.File(path, "w") as file:
        rows: dict[str, Any] = {"chunks": (1, D), "maxshape": (None, D)}
        file.create_dataset("features", data=FEATURES, **rows).attrs["encoder"] = "uni"
        attrs = file.create_dataset("coords", data=COORDS, chunks=(1, 2), maxshape=(None, 2)).attrs
        attrs["patch_size"], attrs["patch_size_level0"], attrs["overlap"] = 256, 512, 0


def _trident_batched(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = FEATURES[None], COORDS[None]
        file["coords"].attrs["patch_size_level0"] = "None"  # what it writes for None


def _clam(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = FEATURES, COORDS.astype(np.int32)
        attrs = file["coords"].attrs
        attrs["patch_size"], attrs["patch_level"], attrs["downsample"] = 256, 1, (4.0, 4.0)


def _stamp(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["coords"] = COORDS.astype(np.float32) - 0.4
        file["feats"] = FEATURES.astype(np.float16)
        file.attrs["unit"], file.attrs["tile_size_um"], file.attrs["tile_size_px"] = "um", 256.0, 224


def _stamp_2_0(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = COORDS.astype(np.float32), FEATURES.astype(np.float16)
        file.attrs["unit"], file.attrs["tile_size"] = "um", 256.0


def _compressed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=FEATURES.astype(np.float64), compression="gzip")


def _tensor(path: Path) -> None:
    torch.save(torch.from_numpy(FEATURES), path)


def _batched_tensor(path: Path) -> None:
    torch.save(torch.from_numpy(FEATURES)[None].bfloat16(), path)


WRITERS: dict[str, tuple[Callable[[Path], None], str, torch.dtype, bool, bool, int | None]] = {
    # writer, ending, dtype, mapped, with coordinates, tile size
    "trident": (_trident, ".h5", torch.float32, False, True, 512),
    "trident batched": (_trident_batched, ".h5", torch.float32, True, True, None),
    "clam": (_clam, ".h5", torch.float32, True, True, 1024),
    "stamp": (_stamp, ".h5", torch.float16, True, True, 256),
    "stamp 2.0": (_stamp_2_0, ".hdf5", torch.float16, True, True, 256),
    "compressed": (_compressed, ".h5", torch.float64, False, False, None),
    "tensor": (_tensor, ".pt", torch.float32, True, False, None),
    "batched tensor": (_batched_tensor, ".pth", torch.bfloat16, True, False, None),
}


def _one(path: Path) -> FeatureSlide:
    (slide,) = read_slides(path)
    return slide


def _checked(slide: FeatureSlide) -> Tensor:
    """The features as `check` fills them in."""
    features = torch.full(slide.features.shape, -1.0, dtype=slide.features.dtype)
    slide.check(features)
    return features


def _write(path: Path, *, features: Any = FEATURES, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in {"features": features, **arrays}.items():
            file[name] = array
    return path


def _lies_in(tensor: Tensor, path: Path) -> bool:
    """Whether the tensor's memory is a mapping of the file."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc/self/maps")
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line.endswith(str(path))
    return False


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_tool_writes_is_read_back(tmp_path: Path, name: str) -> None:
    writer, ending, dtype, mapped, placed, tile_size = WRITERS[name]
    path = tmp_path / f"TCGA-A1.B2{ending}"
    writer(path)
    slide = _one(path)
    assert (slide.slide, slide.where, slide.tile_size) == ("TCGA-A1.B2", str(path), tile_size)
    assert (slide.features.shape, slide.features.dtype, slide.features.mapped) == ((N, D), dtype, mapped)
    expected = torch.from_numpy(FEATURES).to(dtype)
    assert torch.equal(slide.features.rows(0, N), expected)
    assert torch.equal(slide.features.rows(2, 4), expected[2:4])
    assert torch.equal(_checked(slide), expected)
    coords = slide.coords()
    assert (coords is not None) is placed
    if coords is not None:
        assert coords.dtype == torch.int64
        assert coords.tolist() == COORDS.tolist()
    assert (slide.label, slide.instance_labels()) == (None, None)


@pytest.mark.parametrize("name", [name for name, (*_, mapped, _, _) in WRITERS.items() if mapped])
def test_rows_of_a_mapped_file_are_its_own_pages(tmp_path: Path, name: str) -> None:
    writer, ending = WRITERS[name][:2]
    path = tmp_path / f"slide{ending}"
    writer(path)
    rows = _one(path).features.rows(1, N)
    assert _lies_in(rows, path)
    before = path.read_bytes()
    rows.zero_()  # in this mapping alone
    assert path.read_bytes() == before
    assert bool(_one(path).features.rows(1, N).any())


def test_a_file_of_aem_holds_many_slides(tmp_path: Path) -> None:
    labels = {
        "b": np.int64(1),
        "a.svs": "tumour",
        "c": np.float64(2.0),
        "d": np.bytes_(b"x"),
        "e": None,
        "f": np.nan,
        "g": 0.5,
    }
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for number, (name, label) in enumerate(labels.items()):
            group = file.create_group(name)
            group["feat"] = FEATURES[number:].astype(np.float16)
            group["coords"] = COORDS[number:]
            group["coords"].attrs["patch_size"] = np.zeros(0)
            if label is not None:
                group.attrs["label"] = label
    slides = read_slides(tmp_path / "all.h5")
    assert [(slide.slide, slide.label) for slide in slides] == [
        ("a", "tumour"),
        ("b", "1"),
        ("c", "2"),
        ("d", "x"),
        ("e", None),
        ("f", None),
        ("g", "0.5"),
    ]
    assert slides[2].where == f"{tmp_path}/all.h5, slide 'c'"
    assert torch.equal(slides[2].features.rows(0, N - 2), torch.from_numpy(FEATURES[2:]).half())
    coords = slides[2].coords()
    assert coords is not None
    assert coords.tolist() == COORDS[2:].tolist()


def test_instance_labels_and_a_label_may_stand_in_any_h5_file(tmp_path: Path) -> None:
    marks = np.arange(N) % 2
    for dtype in (bool, np.uint8, np.float32):
        path = _write(tmp_path / "slide.h5", instance_labels=marks.astype(dtype))
        with h5py.File(path, "a") as file:
            file.attrs["label"] = [3]
        slide = _one(path)
        found = slide.instance_labels()
        assert found is not None
        assert found.dtype == torch.bool
        assert found.tolist() == (marks == 1).tolist()
        assert slide.label == "3"


def test_one_instance_is_a_bag(tmp_path: Path) -> None:
    slide = _one(_write(tmp_path / "slide.h5", features=FEATURES[:1], coords=COORDS[:1]))
    assert slide.features.shape == (1, D)
    assert torch.equal(_checked(slide), torch.from_numpy(FEATURES[:1]))


def test_bytes_that_are_no_array_are_read_instead_of_mapped(tmp_path: Path) -> None:
    swapped = _write(tmp_path / "swapped.h5", features=FEATURES.astype(">f4"))
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["features"] = FEATURES
    kind = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kind.set_layout(h5py.h5d.COMPACT)
    with h5py.File(tmp_path / "compact.h5", "w") as file:
        space = h5py.h5s.create_simple(FEATURES.shape)
        h5py.h5d.create(file.id, b"features", h5py.h5t.NATIVE_FLOAT, space, kind).write(
            h5py.h5s.ALL, h5py.h5s.ALL, FEATURES
        )
    with h5py.File(tmp_path / "unaligned.h5", "w", libver="latest") as file:
        file["instance_labels"] = np.zeros(3, np.uint8)
        file["features"] = FEATURES
        assert file["features"].id.get_offset() % 4
        del file["instance_labels"]
    for path in (swapped, tmp_path / "block.h5", tmp_path / "compact.h5", tmp_path / "unaligned.h5"):
        features = _one(path).features
        assert not features.mapped, path
        assert torch.equal(features.rows(1, N), torch.from_numpy(FEATURES[1:]))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("TCGA-A1-A0SB.B34C267B-CAEA", "TCGA-A1-A0SB.B34C267B-CAEA"),
        ("slide.1.SVS", "slide.1"),
        ("slide.ome.tif", "slide"),
        ("slide.svs.h5", "slide"),
        ("slide.pt", "slide"),
        (".svs", ".svs"),
        ("slide.5", "slide.5"),
    ],
)
def test_names_of_slides_lose_known_endings_only(written: str, name: str) -> None:
    assert slide_name(written) == name


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@given(
    row=st.integers(0, 40),
    column=st.integers(0, D - 1),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    dtype=st.sampled_from(DTYPES),
)
def test_one_number_that_is_not_finite_is_found(
    tmp_path_factory: pytest.TempPathFactory, row: int, column: int, value: float, dtype: torch.dtype
) -> None:
    path = tmp_path_factory.getbasetemp() / "finite.pt"
    features = torch.full((41, D), torch.finfo(dtype).max, dtype=dtype)
    features[row, column] = value
    torch.save(features, path)
    with pytest.raises(DataError) as caught:
        _one(path).check()
    assert str(caught.value) == (
        f"{path}: features must be finite, got {value} in instance {row}, feature {column}: "
        "extract the features again or drop the instance"
    )


@pytest.mark.parametrize("name", ["trident", "clam", "tensor"])
def test_blocks_cover_all_rows_and_count_instances_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(slide_module, "_BLOCK_BYTES", 2 * D * 4)
    writer, ending = WRITERS[name][:2]
    writer(tmp_path / f"slide{ending}")
    slide = _one(tmp_path / f"slide{ending}")
    assert torch.equal(_checked(slide), torch.from_numpy(FEATURES))
    bad = FEATURES.copy()
    bad[5, 1] = np.nan
    for into in (None, torch.empty(N, D)):
        with pytest.raises(DataError, match="in instance 5, feature 1"):
            _one(_write(tmp_path / "bad.h5", features=bad)).check(into)


BAD_H5: dict[str, tuple[dict[str, Any], str]] = {
    "empty": (
        {"features": FEATURES[:0]},
        ": the bag is empty, its features have shape (0, 5): leave the slide out",
    ),
    "slide features": (
        {"features": FEATURES[0]},
        ": features must have shape (instances, features), got (5,): "
        "features of whole slides cannot be used, extract those of their tiles",
    ),
    "two bags": (
        {"features": np.stack([FEATURES, FEATURES])},
        ": features must have shape (instances, features), got (2, 7, 5): "
        "features of whole slides cannot be used, extract those of their tiles",
    ),
    "integers": (
        {"features": COORDS},
        ": features must be one of float16, float32, float64, got int64: convert them",
    ),
    "coords": (
        {"coords": COORDS[1:]},
        ": coords must have shape (7, 2), one for each instance, got (6, 2): extract the features again",
    ),
    "coords in 3d": (
        {"coords": np.zeros((7, 3))},
        ": coords must have shape (7, 2), one for each instance, got (7, 3): extract the features again",
    ),
    "coords in words": (
        {"coords": np.full((7, 2), b"x")},
        ": coords must be numbers, got |S1: extract the features again",
    ),
    "instance labels": (
        {"instance_labels": np.zeros(8)},
        ": instance_labels must have shape (7,), one for each instance, got (8,): extract the features again",
    ),
    "group": (
        {"features/x": COORDS},
        " must hold a data set 'features', got 'features': extract the features again",
    ),
}


@pytest.mark.parametrize("name", BAD_H5)
def test_an_h5_file_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    arrays, message = BAD_H5[name]
    path = tmp_path / "slide.h5"
    with h5py.File(path, "w") as file:
        for key, array in ({} if "features/x" in arrays else {"features": FEATURES} | arrays).items():
            file[key] = array
        if "features/x" in arrays:
            file["features/x"] = COORDS
    with pytest.raises(DataError) as caught:
        read_slides(path)
    assert str(caught.value) == f"{path}{message}"


def test_values_beside_the_features_are_checked_when_read(tmp_path: Path) -> None:
    coords = COORDS.astype(np.float64)
    coords[3, 1] = np.inf
    marks = np.array([0, 1, 0, 0, 1, 2, 3])
    path = tmp_path / "slide.h5"
    slide = _one(_write(path, coords=coords, instance_labels=marks))
    with pytest.raises(DataError) as caught:
        slide.coords()
    expected = f"{path}: coords must be finite, got [1536.0, inf] for instance 3: extract the features again"
    assert str(caught.value) == expected
    with pytest.raises(DataError) as caught:
        slide.instance_labels()
    assert str(caught.value) == f"{path}: instance_labels must be 0 or 1, got 2 for instance 5: write them again"


def test_a_file_without_features_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "patches.h5"
    for arrays, found in (({"coords": COORDS, "mask": COORDS}, "'coords', 'mask'"), ({}, "nothing")):
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
        with pytest.raises(DataError) as caught:
            read_slides(path)
        assert str(caught.value) == (
            f"{path} must hold 'features' (TRIDENT, CLAM), 'feats' (STAMP) or groups with 'feat' (AEM), "
            f"got {found}: is it a file of coordinates only?"
        )


def test_a_group_without_features_and_a_label_of_two_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.h5"
    with h5py.File(path, "w") as file:
        file["a/feat"] = FEATURES
        file["a"].attrs["label"] = [0, 1]
    with pytest.raises(DataError) as caught:
        read_slides(path)
    where = f"{path}, slide 'a'"
    assert str(caught.value) == f"{where}: the attribute label must be one value, got 2: write it again"
    with h5py.File(path, "w") as file:
        file["a/coords"], file["b/feat"] = COORDS, FEATURES
    with pytest.raises(DataError) as caught:
        read_slides(path)
    assert str(caught.value) == f"{where} must hold a data set 'feat', got 'coords': extract the features again"


@pytest.mark.parametrize("name", ["trident", "clam", "compressed"])
def test_a_truncated_h5_file_is_refused_wherever_it_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / "slide.h5"
    WRITERS[name][0](path)
    whole = path.read_bytes()
    form = re.compile(
        f"{re.escape(str(path))} must be a whole HDF5 file, got one that cannot be read \\([^\n]+\\): "
        "copy it again or extract its features again"
    )
    for size in (0, 7, 100, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as caught:
            read_slides(path)
        assert form.fullmatch(str(caught.value)), str(caught.value)
    path.write_text("no data")
    with pytest.raises(DataError, match=re.escape(f"{path} must be a whole HDF5 file")):
        read_slides(path)
    path.unlink()
    with pytest.raises(DataError, match=re.escape(f"{path} must be a whole HDF5 file")):
        read_slides(path)


def test_a_chunk_that_is_damaged_is_found_when_read(tmp_path: Path) -> None:
    path = tmp_path / "slide.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=FEATURES, chunks=(N, D), fletcher32=True)
        offset = file["features"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\x01\x02")
    slide = _one(path)
    with pytest.raises(
        DataError, match=re.escape(f"{path} must be a whole HDF5 file, got one that cannot be read")
    ):
        slide.check()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _refusal(path: Path, error: str) -> str:
    return (
        f"{path} must hold one tensor saved by torch 1.6 or later, got a file that "
        f"torch.load(weights_only=True) refuses ({error}): copy it again or save it again"
    )


def test_a_torch_file_is_never_executed(tmp_path: Path) -> None:
    path = tmp_path / "slide.pt"
    torch.save(_Touch(tmp_path / "executed"), path)
    with pytest.raises(DataError) as caught:
        read_slides(path)
    assert str(caught.value) == _refusal(path, "UnpicklingError")
    assert not (tmp_path / "executed").exists()


def test_a_torch_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "slide.pt"
    _tensor(path)
    whole = path.read_bytes()
    for content in (b"", b"no data", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_slides(path)
        assert str(caught.value) == _refusal(path, "RuntimeError")
    torch.save(torch.from_numpy(FEATURES), path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError) as caught:
        read_slides(path)
    assert str(caught.value) == _refusal(path, "RuntimeError")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"features": torch.ones(2, 3)}, " must hold one tensor (N, D), got dict: save the tensor alone"),
        (
            torch.ones(3),
            ": features must have shape (instances, features), got (3,): "
            "features of whole slides cannot be used, extract those of their tiles",
        ),
        (torch.ones(0, 3), ": the bag is empty, its features have shape (0, 3): leave the slide out"),
        (
            torch.ones(2, 3, dtype=torch.int32),
            ": features must be a dense tensor of float16, bfloat16, float32 or float64, got torch.int32 "
            "(torch.strided): convert it",
        ),
        (
            torch.ones(2, 3).to_sparse(),
            ": features must be a dense tensor of float16, bfloat16, float32 or float64, got torch.float32 "
            "(torch.sparse_coo): convert it",
        ),
    ],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "slide.pt"
    torch.save(value, path)
    with pytest.raises(DataError) as caught:
        read_slides(path)
    assert str(caught.value) == f"{path}{message}"


def test_parameters_are_read_as_plain_numbers(tmp_path: Path) -> None:
    torch.save(torch.nn.Parameter(torch.from_numpy(FEATURES)), tmp_path / "slide.pt")
    rows = _one(tmp_path / "slide.pt").features.rows(0, N)
    assert not rows.requires_grad
    assert rows.tolist() == FEATURES.tolist()


def test_without_h5py_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "slide.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        read_slides(path)
    assert str(caught.value) == "reading .h5 files needs h5py: pip install 'entroreg[vision]'"
    assert caught.value.name == "h5py"
