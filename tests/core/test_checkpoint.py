from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import Tensor

from entroreg.checkpoint import CheckpointError, load_checkpoint, reading, save_checkpoint, saving

FILES = ["manifest.json", "metadata.json", "tensors.safetensors"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8]


def _save(folder: Path, step: int) -> None:
    save_checkpoint(folder, {"weight": torch.full((300,), float(step))}, {"step": step})


def _step(folder: Path) -> int:
    """Which save is there, checked to be one and the same in tensors and metadata."""
    tensors, metadata = load_checkpoint(folder)
    assert torch.equal(tensors["weight"], torch.full((300,), float(metadata["step"])))
    return int(metadata["step"])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert torch.equal(actual.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))


@st.composite
def _tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = torch.Size(shape).numel() * dtype.itemsize
    bits = draw(st.binary(min_size=size, max_size=size))  # any bits: NaNs with payloads, infinities, denormals
    return torch.tensor(list(bits), dtype=torch.uint8).view(dtype).reshape(shape)


_TENSOR_NAMES = st.text().filter(lambda name: name != "__metadata__")
_NUMBERS = st.integers(-(2**130), 2**130) | st.floats(allow_nan=False, allow_infinity=False)
_METADATA = st.dictionaries(st.text(), _NUMBERS | st.text() | st.none() | st.lists(_NUMBERS), max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(_TENSOR_NAMES, _tensors(), max_size=4), _METADATA)
def test_any_tensors_and_metadata_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "round_trip"
    save_checkpoint(folder, tensors, metadata)
    loaded, loaded_metadata = load_checkpoint(folder)
    assert loaded_metadata == metadata
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        _assert_same_bits(loaded[name], tensor)


def test_tied_viewed_strided_negated_and_learned_tensors_are_saved_in_full(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "base": base,
        "tied": base,
        "row": base[1],
        "transposed": base.t(),
        "expanded": base[:, :1].expand(3, 5),
        "flags": torch.tensor([True, False])[::1],
        "scalar": torch.tensor(7),
        "negated": torch.tensor([1 + 2j]).conj().imag,
        "parameter": torch.nn.Parameter(base * 2),
    }
    assert tensors["negated"].is_neg()
    save_checkpoint(tmp_path / "last", tensors, {})
    loaded, _ = load_checkpoint(tmp_path / "last")
    for name, tensor in tensors.items():
        _assert_same_bits(loaded[name], tensor.detach().resolve_neg().clone(memory_format=torch.contiguous_format))
        assert not loaded[name].requires_grad
    assert loaded["negated"].item() == -2.0
    loaded["base"].zero_()
    assert loaded["tied"].sum() == 66


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    _save(tmp_path / "last", 3)
    tensors, _ = load_checkpoint(tmp_path / "last")
    with (tmp_path / "last" / "tensors.safetensors").open("r+b") as file:
        file.write(bytes(1200))
    assert tensors["weight"].sum() == 900


@pytest.mark.gpu
def test_tensors_go_to_the_device_and_come_from_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", {"x": torch.ones(2, device="cuda")}, {})
    assert load_checkpoint(tmp_path / "last")[0]["x"].device.type == "cpu"
    assert load_checkpoint(tmp_path / "last", device="cuda")[0]["x"].device.type == "cuda"


def test_the_device_is_where_the_tensors_go(tmp_path: Path) -> None:
    _save(tmp_path / "last", 3)
    assert load_checkpoint(tmp_path / "last", device="meta")[0]["weight"].device.type == "meta"


def test_the_one_before_is_kept_and_only_that(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on" / "the" / "way"
    for step in range(4):
        _save(folder, step)
        assert _step(folder) == step
    assert _step(folder.with_name("way.previous")) == 2
    assert _names(folder.parent) == ["way", "way.previous"]
    assert _names(folder) == FILES


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_as_many_older_ones_are_kept_as_asked(tmp_path: Path, keep: int) -> None:
    folder = tmp_path / "last"
    olders = ["last.previous", *(f"last.previous.{number}" for number in range(2, keep + 1))]
    for step in range(9):
        save_checkpoint(folder, {"weight": torch.full((300,), float(step))}, {"step": step}, keep=keep)
        assert _names(tmp_path) == ["last", *olders[:step]]
        assert [_step(tmp_path / name) for name in olders[:step]] == list(range(step - 1, -1, -1))[:keep]


def test_when_fewer_are_kept_the_oldest_go(tmp_path: Path) -> None:
    for step in range(12):
        save_checkpoint(tmp_path / "last", {"weight": torch.full((300,), float(step))}, {"step": step}, keep=11)
    (tmp_path / "last.previous.4").rename(tmp_path / "last.previous.04")  # which is no name of ours
    for name in ("last.previous.1", "last.previous.x", "last.previous.3.bak", "last.previous.0"):
        (tmp_path / name).mkdir()
    (tmp_path / "last.previous.4").mkdir()
    (tmp_path / "last.previous.4" / "thesis.tex").write_text("years of work")
    save_checkpoint(tmp_path / "last", {"weight": torch.full((300,), 12.0)}, {"step": 12}, keep=2)
    strangers = {"04", "1", "x", "3.bak", "0", "4"}
    assert set(_names(tmp_path)) == {
        "last",
        "last.previous",
        "last.previous.2",
        *(f"last.previous.{stranger}" for stranger in strangers),
    }
    assert [_step(tmp_path / name) for name in ("last", "last.previous", "last.previous.2")] == [12, 11, 10]


@pytest.mark.parametrize("keep", [0, -1, 1.0, None, "1"])
def test_none_or_a_part_of_one_cannot_be_kept(tmp_path: Path, keep: Any) -> None:
    _save(tmp_path / "last", 1)
    with pytest.raises(
        ValueError, match=re.escape(f"keep must be 1 or more, got {keep!r}: the checkpoint before is")
    ):
        save_checkpoint(tmp_path / "last", {}, {}, keep=keep)
    assert _names(tmp_path) == ["last"]


def test_the_error_says_where_an_older_one_is(tmp_path: Path) -> None:
    for step in range(13):
        save_checkpoint(tmp_path / "last", {"weight": torch.full((300,), float(step))}, {"step": step}, keep=12)
    _flip_a_bit(tmp_path / "last" / "metadata.json")
    for number in ("", *(f".{older}" for older in range(2, 13))):
        where = tmp_path / f"last.previous{number}"
        with pytest.raises(
            CheckpointError, match=re.escape(f"the checkpoint before it is at {where}; load that one")
        ):
            load_checkpoint(tmp_path / "last")
        where.rename(tmp_path / f"gone{number}")
    with pytest.raises(CheckpointError, match="there is no other checkpoint beside it"):
        load_checkpoint(tmp_path / "last")


def test_all_files_can_be_read_by_whoever_can_read_any(tmp_path: Path) -> None:
    _save(tmp_path / "last", 0)
    assert len({stat.S_IMODE((tmp_path / "last" / name).stat().st_mode) for name in FILES}) == 1


def test_a_link_to_a_checkpoint_stays_a_link(tmp_path: Path) -> None:
    _save(tmp_path / "real", 0)
    (tmp_path / "link").symlink_to("real")
    for step in (1, 2, 3):
        _save(tmp_path / "link", step)
    assert _step(tmp_path / "real") == 3
    assert _names(tmp_path) == ["link", "real", "real.previous"]


# --- damage


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _extend, _flip_a_bit, _empty, Path.unlink])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("saves", [1, 2])
def test_damage_is_named_and_never_passed_over(
    tmp_path: Path, name: str, damage: Callable[[Path], None], saves: int
) -> None:
    folder = tmp_path / "last"
    for step in range(saves):
        _save(folder, step)
    damage(folder / name)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert str(folder / name) in str(caught.value)
    assert (str(tmp_path / "last.previous") in str(caught.value)) == (saves == 2)
    assert ("no other checkpoint" in str(caught.value)) == (saves == 1)
    if saves == 2:
        assert _step(tmp_path / "last.previous") == 0


def test_every_single_flipped_bit_is_noticed(memory_path: Path) -> None:
    folder = memory_path / "last"
    save_checkpoint(folder, {"x": torch.ones(1)}, {"step": 1})
    for name in FILES:
        data = (folder / name).read_bytes()
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(flipped)
            with pytest.raises(CheckpointError):
                load_checkpoint(folder)
        (folder / name).write_bytes(data)
    assert load_checkpoint(folder)[1] == {"step": 1}


def test_nothing_is_parsed_before_it_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "last", 0)
    _flip_a_bit(tmp_path / "last" / "metadata.json")
    monkeypatch.setattr(reading, "load_file", lambda _: pytest.fail("parsed a damaged checkpoint"))
    with pytest.raises(CheckpointError, match=r"metadata\.json is not as .*manifest\.json says"):
        load_checkpoint(tmp_path / "last")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"schema_version": 3, "files": {}}, "must have a schema version of 1 to 2, got 3: upgrade entroreg"),
        ({"files": {}}, "must have a schema version of 1 to 2, got None: the file is damaged"),
        ([1], "must have a schema version of 1 to 2, got None"),
        ({"schema_version": 0, "files": {}}, "got 0: the file is damaged"),
        ({"schema_version": True, "files": {}}, "got True: the file is damaged"),
        ({"schema_version": 1.0, "files": {}}, "got 1.0: the file is damaged"),
        ({"schema_version": 1}, "expected 'schema_version' and 'files'"),
        ({"schema_version": 1, "files": []}, "expected 'schema_version' and 'files'"),
        ({"schema_version": 1, "files": {}, "more": 1}, "expected 'schema_version' and 'files'"),
        ({"schema_version": 1, "files": {}}, "it must list tensors.safetensors and metadata.json, got []"),
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, manifest: Any, message: str) -> None:
    _save(tmp_path / "last", 0)
    (tmp_path / "last" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_checkpoint(tmp_path / "last")


# --- wrong use


@pytest.mark.parametrize(
    ("tensors", "metadata", "kind", "message"),
    [
        ([torch.ones(1)], {}, TypeError, "tensors must be a mapping, got list"),
        ({1: torch.ones(1)}, {}, TypeError, "tensors must have string names, got 1"),
        ({"step": 1}, {}, TypeError, r"tensors\['step'\] must be a Tensor, got int: put it in metadata"),
        ({"x": torch.ones(1, dtype=torch.complex64)}, {}, TypeError, "got torch.complex64: convert it first"),
        (
            {"x": torch.ones(1, device="meta")},
            {},
            TypeError,
            "must be dense and hold data, got torch.strided on meta",
        ),
        ({"x": torch.eye(2).to_sparse()}, {}, TypeError, "got torch.sparse_coo on cpu: use to_dense"),
        ({"__metadata__": torch.ones(1)}, {}, ValueError, "which the file format reserves: rename it"),
        ({}, [("step", 1)], TypeError, "metadata must be a mapping, got list"),
        ({}, {"loss": float("nan")}, ValueError, r"value\.metadata\.loss must be finite, got nan"),
        ({}, {1: 2}, TypeError, "must have string keys, got 1"),
        ({}, {"x": torch.ones(1)}, TypeError, "Tensor is not JSON serializable"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_changes_nothing(
    tmp_path: Path, tensors: Any, metadata: Any, kind: type[Exception], message: str
) -> None:
    _save(tmp_path / "last", 1)
    with pytest.raises(kind, match=message):
        save_checkpoint(tmp_path / "last", tensors, metadata)
    assert _names(tmp_path) == ["last"]
    assert _step(tmp_path / "last") == 1


@pytest.mark.parametrize("where", ["last", "last.previous", "last.previous.2"])
def test_a_folder_that_is_no_checkpoint_is_left_alone(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir()
    (tmp_path / where / "thesis.tex").write_text("years of work")
    with pytest.raises(
        FileExistsError, match=r"is no checkpoint \(it has no manifest.json\): choose another folder"
    ):
        save_checkpoint(tmp_path / "last", {}, {}, keep=2)
    assert (tmp_path / where / "thesis.tex").read_text() == "years of work"


def test_siblings_with_similar_names_are_left_alone(tmp_path: Path) -> None:
    strangers = [
        ".last.saving",
        ".last.0123.saving",
        ".blast." + "0" * 32 + ".saving",
        "last" + "0" * 32 + ".saving",
    ]
    for name in strangers:
        (tmp_path / name).mkdir()
    _save(tmp_path / "last", 0)
    assert set(_names(tmp_path)) == {"last", *strangers}


def test_a_folder_that_cannot_be_made_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        _save(tmp_path / "file" / "last", 0)
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        _save(tmp_path / "file", 0)


def test_a_failed_tensor_file_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    _save(tmp_path / "last", 1)
    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(OSError, match=r"could not write .*tensors\.safetensors: I/O error: No space left"):
        _save(tmp_path / "last", 2)
    assert _names(tmp_path) == ["last"]
    assert _step(tmp_path / "last") == 1


def test_an_absent_checkpoint_is_a_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*last: check the path, or start without one"):
        load_checkpoint(tmp_path / "last")


def test_a_file_in_place_of_the_checkpoint_is_damage(tmp_path: Path) -> None:
    (tmp_path / "last").touch()
    with pytest.raises(CheckpointError, match=r"last/manifest\.json"):
        load_checkpoint(tmp_path / "last")
