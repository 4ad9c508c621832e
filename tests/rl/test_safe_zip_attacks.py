"""Zips that attack: each is refused with the one documented error, runs nothing, and takes little memory."""

from __future__ import annotations

import base64
import io
import json
import pickle
import stat
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.sac.policies import SACPolicy

from entroreg.agents import SAC, UnsafeZipError
from entroreg.agents.safe_zip import attributes
from entroreg.agents.safe_zip.archive import TORCH, Limits, read_members
from entroreg.agents.safe_zip.reading import read_parts

Build = Callable[..., Any]
COMMAND = "touch canary"


@pytest.fixture(scope="module")
def members(build: Build) -> dict[str, bytes]:
    buffer = io.BytesIO()
    build(SAC, buffer_size=100, policy_kwargs={"net_arch": [4]}).learn(22).save(buffer)
    with zipfile.ZipFile(buffer) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(autouse=True)
def _no_canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run each test in an empty folder, which must have no canary at its end."""
    monkeypatch.chdir(tmp_path)
    forward = SACPolicy.forward
    yield
    assert not (tmp_path / "canary").exists()
    assert SACPolicy.forward is forward


def _zip(members: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return buffer


def _with_values(members: dict[str, bytes], **values: Any) -> io.BytesIO:
    """The zip with other attributes: plain ones, or pickles as bytes."""
    data = json.loads(members["data"])
    for name, value in values.items():
        pickled = isinstance(value, bytes)
        data[name] = {":serialized:": base64.b64encode(value).decode()} if pickled else value
    return _zip({**members, "data": json.dumps(data).encode()})


def _refused(file: io.BytesIO, match: str | None = None) -> UnsafeZipError:
    """The error of a load."""
    with pytest.raises(UnsafeZipError, match=match) as caught:
        SAC.load(file)
    return caught.value


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def _name(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


def _pickle(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


SYSTEM = _name("posix", "system")
CALL = _text(COMMAND) + b"\x85R"
CODE = {
    "reduce": SYSTEM + CALL,
    "reduce in protocol 2": b"cposix\nsystem\n" + CALL,
    "eval": _name("builtins", "eval") + CALL,
    "getattr of import": (
        _name("builtins", "getattr") + _name("builtins", "__import__") + _text("os") + b"\x85R"
        + _text("system") + b"\x86R" + CALL
    ),
    "getattr of an enum": (
        _name("builtins", "getattr") + _name("stable_baselines3.common.type_aliases", "TrainFrequencyUnit")
        + _text("__init_subclass__") + b"\x86R)R"
    ),
    "getattr of a class": (
        _name("builtins", "getattr") + _name("stable_baselines3.sac.policies", "SACPolicy") + _text("forward")
        + b"\x86R)R"
    ),
    "dotted name": _name("stable_baselines3.sac.policies", "SACPolicy.__init__.__globals__"),
    "name in an allowed module": _name("stable_baselines3.common.utils", "th.os.system") + CALL,
    "partial": _name("functools", "partial") + SYSTEM + _text(COMMAND) + b"\x86R)R",
    "new object": SYSTEM + _text(COMMAND) + b"\x85\x81",
    "new object with keywords": SYSTEM + _text(COMMAND) + b"\x85}\x92",
    "old instance": b"(" + _text(COMMAND) + b"iposix\nsystem\n",
    "old object": b"(" + SYSTEM + _text(COMMAND) + b"o",
    "state by __setstate__": (
        _name("gymnasium.spaces.box", "Box") + b")\x81}" + _text("__setstate__") + SYSTEM + b"sb"
        + _text(COMMAND) + b"b"
    ),
    "attribute of a class": (
        _name("stable_baselines3.sac.policies", "SACPolicy") + b"N}" + _text("forward") + SYSTEM + b"s\x86b"
    ),
    "attribute of an object": _name("gymnasium.spaces.box", "Box") + b")\x81}" + _text("contains") + SYSTEM + b"sb",
    "keyword of a network": b"}" + _text("activation_fn") + SYSTEM + b"s",
    "torch load": _name("torch.storage", "_load_from_bytes") + b"C\x01.\x85R",
    "numpy load": _name("numpy", "load") + _text("canary") + b"\x85R",
    "persistent": b"P" + COMMAND.encode() + b"\n",
    "persistent on the stack": _text(COMMAND) + b"Q",
    "extension": b"\x82\x01",
    "all memory": _name("numpy", "zeros") + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
    "all memory of bytes": _name("builtins", "bytearray") + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
    "a set of all things": b"\x8f(K\x01K\x02\x90",
}  # fmt: skip
LAUGHS = [b"](" + b"h" + bytes([level]) + b"h" + bytes([level]) + b"eq" + bytes([level + 1]) for level in range(60)]
TUPLES = b")q\x00" + b"".join(
    b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1]) for level in range(60)
)
DAMAGE = {
    "laughs in lists": b"]q\x00" + b"".join(LAUGHS),
    "laughs in fewer lists": b"]q\x00" + b"".join(LAUGHS[:40]),
    "laughs in a key": b"}" + TUPLES + b"Ns",
    "deep tuples": b")" + b"\x85" * 20_000,
    "a list in itself": b"]q\x00h\x00a",
    "a huge integer": b"\x8a\xff" + b"\x7f" * 255,
    "a huge integer of four bytes' length": b"\x8b\xff\xff\xff\x7f",
    "text of an exabyte": b"\x8d" + struct.pack("<Q", 1 << 60),
    "bytes of an exabyte": b"\x8e" + struct.pack("<Q", 1 << 60),
    "a frame of an exabyte": b"\x95" + struct.pack("<Q", 1 << 60) + b"N",
    "a far place": b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff",
    "an unknown place": b"h\x07",
    "an empty stack": b"0",
    "no mark": b"t",
    "keys of a number": b"K\x01K\x02K\x03s",
    "items of a number": b"K\x01K\x02a",
    "an odd number of keys": b"}(" + _text("a") + b"u",
    "a number as a class": b"K\x01K\x02\x93",
    "no opcode": b"\xff",
    "nothing": b"",
}


@pytest.mark.parametrize("attack", CODE.values(), ids=CODE.keys())
def test_a_pickle_that_is_code(attack: bytes, members: dict[str, bytes]) -> None:
    for attribute in ("policy_kwargs", "observation_space", "action_noise", "a_new_attribute"):
        _refused(_with_values(members, **{attribute: _pickle(attack)}))


@pytest.mark.parametrize("name", ["reduce", "old instance", "attribute of a class", "state by __setstate__"])
def test_code_where_a_value_is_dispensable(name: str, members: dict[str, bytes]) -> None:
    attack = _pickle(CODE[name])
    found = SAC.load(_with_values(members, _last_obs=attack, lr_schedule=attack, ep_info_buffer=attack))
    assert found._last_obs is found.ep_info_buffer is None
    assert found.learning_rate == 3e-4


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_pickle_that_is_a_bomb(damage: bytes, members: dict[str, bytes]) -> None:
    file = _with_values(members, policy_kwargs=_pickle(damage))
    tracemalloc.start()
    _refused(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6 + 100 * len(damage)  # an opcode of one byte makes an object


def test_the_opcodes_of_all_pickles_are_limited(members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_MOST_STEPS", 8_000)
    half = _pickle(b"]" * 2_600 + b"0" * 2_599)
    SAC.load(_with_values(members, one=half))
    _refused(_with_values(members, one=half, two=half), "has more than [0-9]+ opcodes")


def test_these_pickles_do_attack_an_unpickler() -> None:
    for name in ("reduce", "reduce in protocol 2", "getattr of import", "old instance", "old object", "partial"):
        pickle.loads(_pickle(CODE[name]))
        assert Path("canary").exists(), name
        Path("canary").unlink()


def test_every_refused_name_is_listed(members: dict[str, bytes]) -> None:
    error = _refused(
        _with_values(
            members,
            policy_kwargs=_pickle(b"](" + SYSTEM + _name("my.nets", "Extractor") + SYSTEM + b"e"),
            action_noise=_pickle(_name("my.noise", "Pink\n")),
            _last_obs=_pickle(SYSTEM),
        ),
        match=r"custom_objects=\{\"action_noise\": \.\.\., \"policy_kwargs\": \.\.\.\}\), or load with trust=True",
    )
    assert set(error.refused) == {
        "policy_kwargs: posix.system",
        "policy_kwargs: my.nets.Extractor",
        r"action_noise: 'my.noise.Pink\n'",
    }


def _array(dtype: bytes, shape: bytes, raw: bytes) -> bytes:
    kind = _name("numpy", "dtype") + dtype + b"\x89\x88\x87R"
    return (
        _name("numpy._core.numeric", "_frombuffer")
        + b"(C"
        + bytes([len(raw)])
        + raw
        + kind
        + shape
        + _text("C")
        + b"tR"
    )


@pytest.mark.parametrize(
    "array",
    [
        _array(_text("f4"), b"K\x02\x85", b"1234"),
        _array(_text("f4"), b"J\xff\xff\xff\xff\x85", b""),
        _array(_text("f4"), b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", b"1234"),
        _array(_text("O8"), b"K\x01\x85", b"12345678"),
        _array(_text("V8"), b"K\x01\x85", b"12345678"),
        _array(_text("f4,f4"), b"K\x01\x85", b"12345678"),
        _array(b"N", b"K\x01\x85", b"12345678"),
        _array(_text("f4"), b"K\x01", b"1234"),
    ],
)
def test_an_array_that_lies(array: bytes, members: dict[str, bytes]) -> None:
    _refused(_with_values(members, policy_kwargs=_pickle(b"}" + _text("log_std_init") + array + b"s")), "damaged")


def test_the_same_bytes_many_times(members: dict[str, bytes]) -> None:
    raw = b"B" + struct.pack("<I", 50_000) + bytes(50_000) + b"q\x00"
    array = (
        _name("numpy._core.numeric", "_frombuffer") + b"(h\x00" + _name("numpy", "dtype") + _text("u1")
        + b"\x89\x88\x87RM\x50\xc3\x85" + _text("C") + b"tR"
    )  # fmt: skip
    file = _with_values(members, one=_pickle(raw + b"0" + array))
    assert SAC.load(file).one.sum() == 0
    many = _with_values(members, many=_pickle(raw + b"0](" + array * 100 + b"e"))
    _refused(many, "more bytes than the file")
    count = b"J" + struct.pack("<i", 1_000_000)
    tensor = _tensor(count + b"\x85", b"K\x01\x85", count=count)
    entries = b"".join(_text(str(number)) + tensor for number in range(10))
    raw = _torch_zip(b"}(" + entries + b"u", {"0": bytes(4_000_000)})
    _refused(_zip({**members, "policy.pth": raw}), "more bytes than the file")


def test_a_random_generator_that_reads_beyond_its_table(members: dict[str, bytes]) -> None:
    space = SAC.load(_zip(members)).action_space
    space._np_random = np.random.Generator(np.random.MT19937(0))
    state = pickle.dumps(space)
    assert state.count(b"M\x70\x02") == 1  # 624, the place in the table of the generator
    state = state.replace(b"M\x70\x02", b"M\xff\xff")
    assert SAC.load(_with_values(members, action_space=state)).action_space.sample().shape == (1,)
    space._np_random = np.random.Generator(np.random.PCG64DXSM(0))  # whose state looks like PCG64's
    for other in (state, pickle.dumps(space)):
        found = read_parts(read_members(_with_values(members, action_space=other).getvalue()), {})
        assert found.values["action_space"]._np_random is None  # drawn anew


@pytest.mark.parametrize(
    "values",
    [
        {"policy_kwargs": {"net_arch": [10**9, 10**9]}},
        {"policy_kwargs": {"net_arch": [1] * 100_000}},
        {"policy_kwargs": {"net_arch": [4], "n_critics": 900_000}},
        {"policy_kwargs": {"net_arch": [4], "features_extractor_kwargs": {"a": 1}}},
        {"policy_kwargs": {"net_arch": [0]}},
        {"policy_kwargs": {"net_arch": [5]}},
        {"policy_kwargs": {"net_arch": [4], "use_sde": True}},
        {"policy_kwargs": [1]},
        {"policy_class": "MlpPolicy"},
        {"policy_class": "os.system"},
        {"buffer_size": 10**12},
        {"n_envs": 10**9},
        {"n_envs": 0},
        {"seed": -1},
        {"gamma": "0.9"},
        {"gamma": float("nan")},
        {"tau": 2},
        {"learning_rate": float("inf")},
        {"learning_rate": -1.0},
        {"ent_coef": "auto_-1"},
        {"ent_coef": "other"},
        {"ent_coef": [1]},
        {"replay_buffer_class": "x"},
        {"replay_buffer_kwargs": {"n_envs": 2}},
        {"train_freq": [1, "fortnight"]},
        {"engine": "turbo"},
        {"predict": 1},
        {"learn": "x"},
        {"logger": 1},
        {"_engine": 1},
        {"controller": 1},
        {"replay_buffer": 1},
        {"__class__": "x"},
        {"not a name": 1},
        {"deep": json.loads("[" * 100 + "]" * 100)},
    ],
)  # fmt: skip
def test_an_attribute_that_no_agent_has(values: dict[str, Any], members: dict[str, bytes]) -> None:
    _refused(_with_values(members, **values))


def test_an_environment_is_never_made(members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("evil_module.py").write_text("open('canary', 'w')")
    monkeypatch.syspath_prepend(".")
    assert SAC.load(_with_values(members, env="evil_module:Env-v0", device="no device")).env is None
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 50_000, b'{"a": ' + b"9" * 5000 + b"}", b"{}"])
def test_attributes_that_are_no_json(data: bytes, members: dict[str, bytes]) -> None:
    _refused(_zip({**members, "data": data}))


def test_attributes_with_too_many_parts(members: dict[str, bytes]) -> None:
    _refused(_zip({**members, "data": b"[" + b"[]," * 1_000_000 + b"[]]"}), "more than any agent's")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("../canary", "no plain relative path"),
        ("/canary", "no plain relative path"),
        ("a//b", "no plain relative path"),
        ("a/./b", "no plain relative path"),
        ("..\\canary", "no plain relative path"),
        ("c:canary", "no plain relative path"),
        ("a\x1b[2J", "no plain relative path"),
        ("n" * 300, "no plain relative path"),
        ("data", "two members of the same name"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_leads_elsewhere(name: str, match: str, members: dict[str, bytes]) -> None:
    file = _zip(members)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, "x")
    _refused(file, match)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK])
def test_a_member_that_is_a_link(kind: int, members: dict[str, bytes]) -> None:
    file, entry = _zip(members), zipfile.ZipInfo("link")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    _refused(file, "a link or a special file")


def _patched(file: io.BytesIO, name: str, offset: int, raw: bytes, *, local: int | None = None) -> io.BytesIO:
    """The zip with bytes of a member's entry in the directory changed, and of its own header at ``local``."""
    content = bytearray(file.getvalue())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[entry + offset : entry + offset + len(raw)] = raw
    if local is not None:
        (header,) = struct.unpack_from("<I", content, entry + 42)
        content[header + local : header + local + len(raw)] = raw
    return io.BytesIO(bytes(content))


def test_members_of_other_forms(members: dict[str, bytes]) -> None:
    file = _zip(members)
    _refused(_patched(file, "data", 8, b"\x01\x00", local=6), "encrypted")
    _refused(_patched(file, "data", 10, struct.pack("<H", zipfile.ZIP_BZIP2), local=8), "compression 12")
    _refused(_patched(file, "data", 10, struct.pack("<H", 99), local=8), "compression 99")
    _refused(_patched(file, "data", 16, b"abcd"), "damaged")  # the checksum
    _refused(_patched(file, "data", 24, struct.pack("<I", 100)), "damaged|bytes that it says")
    _refused(_patched(file, "data", 24, struct.pack("<I", len(members["data"]) + 1)), "damaged|bytes that it says")
    _refused(_patched(file, "data", 20, struct.pack("<I", 1 << 30)), "overlaps")
    _refused(_patched(file, "policy.pth", 42, struct.pack("<I", 0)), "damaged|overlaps")
    _refused(_patched(file, "policy.pth", 42, struct.pack("<I", 1 << 31)), "damaged|overlaps")


def test_a_bomb_of_zeros(members: dict[str, bytes]) -> None:
    file = _zip(members)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    _refused(file, "grows from .* more than 100 times")


def test_two_members_in_the_same_bytes(members: dict[str, bytes]) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("kernel", bytes(1000))
    file = _zip({"outer": inner.getvalue()[:1036], **members})
    content = file.getvalue()
    with zipfile.ZipFile(file) as archive:
        outer = archive.getinfo("outer").header_offset
    kernel = content.index(b"PK\x03\x04", outer + 4)
    entry = inner.getvalue()[inner.getvalue().index(b"PK\x01\x02") :][: 46 + 6]
    entry = entry[:42] + struct.pack("<I", kernel) + entry[46:]
    directory = content.index(
        b"PK\x01\x02", content.rindex(b"system_info.txt", 0, content.rindex(b"PK\x05\x06") - 500)
    )
    end = content.rindex(b"PK\x05\x06")
    count, size = struct.unpack_from("<HI", content, end + 10)
    tail = (
        content[end : end + 8] + struct.pack("<HHI", count + 1, count + 1, size + len(entry)) + content[end + 16 :]
    )
    assert directory < end
    (start,) = struct.unpack_from("<I", content, end + 16)
    _refused(io.BytesIO(content[:start] + entry + content[start:end] + tail), "overlaps")


def test_limits_of_number_and_size(members: dict[str, bytes]) -> None:
    content = _zip(members).getvalue()
    assert read_members(content) == members
    with pytest.raises(UnsafeZipError, match=r"has \d+ members, more than 3"):
        read_members(content, Limits(members=3))
    with pytest.raises(UnsafeZipError, match=r"have \d+ bytes, more than 1000"):
        read_members(content, Limits(total=1000))
    _refused(_zip({**members, **{str(number): b"" for number in range(1001)}}), "more than 1000")
    with pytest.raises(UnsafeZipError, match="more than 50000 members"):
        read_members(b"PK\x01\x02" * 50_001)


@pytest.mark.parametrize("length", [0, 1, 21, 22, 100, 5000, -1, -22, -60])
def test_a_truncated_zip(length: int, members: dict[str, bytes]) -> None:
    # zipfile takes the directory of the last member, a zip itself, for the file's.
    _refused(io.BytesIO(_zip(members).getvalue()[:length]))


def test_a_zip_after_other_bytes(members: dict[str, bytes]) -> None:
    content = b"#!/bin/sh" + _zip(members).getvalue()
    assert read_members(content) == members
    with pytest.raises(UnsafeZipError, match="does not begin where the file does"):
        read_members(content, replace(TORCH, ratio=1_000))
    inner = {name: b"before" + member if name == "policy.pth" else member for name, member in members.items()}
    _refused(_zip(inner), "does not begin where the file does")


def _torch_zip(body: bytes, storages: dict[str, bytes], **others: bytes) -> bytes:
    content = {
        "archive/data.pkl": b"\x80\x02" + body + b".",
        **{f"archive/data/{k}": v for k, v in storages.items()},
    }
    return _zip({**content, **{f"archive/{name}": raw for name, raw in others.items()}}).getvalue()


def _tensor(
    size: bytes, stride: bytes, *, offset: bytes = b"K\x00", count: bytes = b"K\x02", key: str = "0"
) -> bytes:
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + count + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + size + stride + b"\x89NtR"


def _dict(value: bytes) -> bytes:
    return b"}" + _text("log_ent_coef") + value + b"s"


TWO = {"0": bytes(8)}
EMPTY = _dict(_tensor(b"K\x00\x8a\x05\x00\x00\x00\x00\x10\x86", b"K\x01K\x01\x86"))
TENSORS = {
    "code": (SYSTEM + CALL, {}),
    "code in a hook": (_dict(SYSTEM + CALL), {}),
    "a shape beyond its bytes": (_dict(_tensor(b"\x8a\x05\x00\x00\x00\x00\x10\x85", b"K\x01\x85")), TWO),
    "one number many times": (_dict(_tensor(b"\x8a\x05\x00\x00\x00\x00\x10\x85", b"K\x00\x85")), TWO),
    "a stride beyond its bytes": (_dict(_tensor(b"K\x02\x85", b"K\x02\x85")), TWO),
    "a stride backwards": (_dict(_tensor(b"K\x02\x85", b"J\xff\xff\xff\xff\x85")), TWO),
    "an offset beyond its bytes": (_dict(_tensor(b"K\x01\x85", b"K\x01\x85", offset=b"K\x02")), TWO),
    "an offset before its bytes": (_dict(_tensor(b"K\x01\x85", b"K\x01\x85", offset=b"J\xff\xff\xff\xff")), TWO),
    "an empty tensor of a huge shape": (EMPTY, TWO),
    "more dimensions than strides": (_dict(_tensor(b"K\x01K\x01\x86", b"K\x01\x85")), TWO),
    "a storage that is not there": (_dict(_tensor(b"K\x01\x85", b"K\x01\x85", key="1")), TWO),
    "a storage of another size": (_dict(_tensor(b"K\x01\x85", b"K\x01\x85", count=b"K\x03")), TWO),
    "a tensor in no dict": (_tensor(b"K\x01\x85", b"K\x01\x85"), TWO),
    "another number of elements": (_dict(_tensor(b"K\x02\x85", b"K\x01\x85")), TWO),
    "text": (_dict(_text("x")), {}),
}  # fmt: skip


@pytest.mark.parametrize("attack", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_lie(attack: tuple[bytes, dict[str, bytes]], members: dict[str, bytes]) -> None:
    for member in ("pytorch_variables.pth", "policy.pth", "ent_coef_optimizer.pth", "other.pth"):
        _refused(_zip({**members, member: _torch_zip(*attack)}))


def test_tensors_in_other_forms(members: dict[str, bytes]) -> None:
    good = _dict(_tensor(b"K\x01\x85", b"K\x01\x85"))
    SAC.load(_zip({**members, "pytorch_variables.pth": _torch_zip(good, TWO)}))
    _refused(_zip({**members, "pytorch_variables.pth": _torch_zip(good, TWO, byteorder=b"big")}), "little-endian")
    legacy = io.BytesIO()
    torch.save({"log_ent_coef": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    _refused(_zip({**members, "pytorch_variables.pth": legacy.getvalue()}))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + good + b".")
        archive.writestr("archive/data/0", bytes(10_000_000))
    _refused(_zip({**members, "policy.pth": bomb.getvalue()}), "grows")


def _changed_tensors(raw: bytes, change: Callable[[Any], None]) -> bytes:
    state = torch.load(io.BytesIO(raw), weights_only=True)
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


OPTIMIZERS: dict[str, Callable[[Any], None]] = {
    "a moment of another shape": lambda s: s["state"][0].update(exp_avg=torch.zeros(2)),
    "a moment of text": lambda s: s["state"][0].update(exp_avg="x"),
    "a parameter too many": lambda s: s["param_groups"][0]["params"].append(99),
    "parameters of other numbers": lambda s: s["param_groups"][0].update(params=["0"]),
    "moments of no parameter": lambda s: s["state"].update({77: {"exp_avg": torch.zeros(1)}}),
    "a learning rate of text": lambda s: s["param_groups"][0].update(lr="x"),
    "betas of another number": lambda s: s["param_groups"][0].update(betas=(0.9,)),
    "an option of another kind": lambda s: s["param_groups"][0].update(fused=3),
    "a group too many": lambda s: s["param_groups"].append({"params": []}),
    "no state": lambda s: s.pop("state"),
    "a state of another kind": lambda s: s.update(state=[]),
    "something more": lambda s: s.update(hooks={}),
}  # fmt: skip


@pytest.mark.parametrize("change", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("member", ["actor.optimizer", "critic.optimizer", "ent_coef_optimizer"])
def test_optimisers_that_do_not_fit(
    change: Callable[[Any], None], member: str, members: dict[str, bytes], build: Build
) -> None:
    raw = _changed_tensors(members[f"{member}.pth"], change)
    file = _zip({**members, f"{member}.pth": raw})
    _refused(file, "damaged")
    with pytest.raises(UnsafeZipError, match="damaged"):
        build(SAC, policy_kwargs={"net_arch": [4]}).set_parameters(file)


def test_parameters_of_another_network(members: dict[str, bytes]) -> None:
    for change in (
        lambda s: s.update({"actor.mu.bias": torch.zeros(2)}),
        lambda s: s.update({"actor.mu.bias": torch.zeros(1, dtype=torch.int64)}),
        lambda s: s.update({"more": torch.zeros(1)}),
        lambda s: s.pop("actor.mu.bias"),
    ):
        raw = _changed_tensors(members["policy.pth"], change)
        _refused(
            _zip({**members, "policy.pth": raw}),
            "weights of policy are not those of the agent's network: (actor.mu.bias|more)",
        )
    for name in ("policy.pth", "critic.optimizer.pth"):
        _refused(_zip({key: raw for key, raw in members.items() if key != name}), "must have parameters of")
    _refused(_zip({**members, "policy.__class__.pth": members["policy.pth"]}), "must have parameters of")


def test_a_variable_that_is_part_of_the_code(members: dict[str, bytes]) -> None:
    body = b"}" + _text("policy.__class__.forward") + _tensor(b"K\x01\x85", b"K\x01\x85") + b"s"
    _refused(_zip({**members, "pytorch_variables.pth": _torch_zip(body, TWO)}), "expected tensors named")


CONTROLLERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no json": lambda payload: None,
    "another kind": lambda payload: payload["description"].update(kind=["Dual"]),
    "a word too many": lambda payload: payload["description"].update(os="system"),
    "a bound of text": lambda payload: payload["description"].update(minimum="x"),
    "no description": lambda payload: payload.pop("description"),
    "no state": lambda payload: payload["state"].pop("optimizer"),
    "a tensor that is not there": lambda payload: payload["state"].update(log_alpha={"__tensor__": "x"}),
    "a version of text": lambda payload: payload.update(version="x"),
}


@pytest.mark.parametrize("change", CONTROLLERS.values(), ids=CONTROLLERS.keys())
def test_a_controller_that_is_none(change: Callable[[Any], Any], members: dict[str, bytes]) -> None:
    payload = json.loads(members["entroreg/controller.json"])
    change(payload)
    raw = b"{" if change is CONTROLLERS["no json"] else json.dumps(payload).encode()
    _refused(_zip({**members, "entroreg/controller.json": raw}), "damaged")


def test_a_controller_without_or_with_other_tensors(members: dict[str, bytes]) -> None:
    raw = members["entroreg/controller.safetensors"]
    _refused(_zip({**members, "entroreg/controller.safetensors": raw[:-1]}), "damaged")
    _refused(_zip({**members, "entroreg/controller.safetensors": struct.pack("<Q", 1 << 62) + raw[8:]}), "damaged")
    _refused(
        _zip({name: part for name, part in members.items() if name != "entroreg/controller.safetensors"}), "dam"
    )


def test_trust_has_the_limits_too(members: dict[str, bytes]) -> None:
    file = _with_values(members, an_attribute=_pickle(SYSTEM + _text("touch trusted") + b"\x85R"))
    SAC.load(file, trust=True)
    assert Path("trusted").exists()
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    with pytest.raises(UnsafeZipError, match="grows"):
        SAC.load(file, trust=True)


def test_text_of_the_file_cannot_steer_a_terminal(
    members: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    SAC.load(
        _zip({**members, "system_info.txt": b"\x1b[2Jgone" + zlib.compress(b"x") * 10}), print_system_info=True
    )
    assert "?[2Jgone" in capsys.readouterr().out
