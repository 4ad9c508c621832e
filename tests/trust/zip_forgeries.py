"""Saved agents that somebody changed on purpose: harmful pickles, tensors that lie, bombs, odd attributes.

Each forgery is a function of a random generator and of a zip, whose checksums it makes anew.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import pickle
import pickletools
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import cloudpickle
from zip_damage import members_of, zip_of

Forgery = Callable[[random.Random, bytes], bytes]
CANARY = "canary"
EVIL_MODULE = "evil_module"
_PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _name(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b"\x93"


_RUN, _COMMAND = _name("posix", "system"), _text(f"touch {CANARY}")
_ALLOWED = (
    _name("gymnasium.spaces.box", "Box"),
    _name("stable_baselines3.sac.policies", "SACPolicy"),
    _name("stable_baselines3.common.type_aliases", "TrainFrequencyUnit"),
    _name("torch.nn.modules.activation", "Tanh"),
    _name("torch.optim.adam", "Adam"),
    _name("collections", "OrderedDict"),
    _name("collections", "deque"),
    _name("numpy._core.numeric", "_frombuffer"),
    _name("numpy._core.multiarray", "_reconstruct"),
    _name("torch._utils", "_rebuild_tensor_v2"),
)
_HANDMADE = (
    _RUN + _COMMAND + b"\x85R",
    _RUN + _COMMAND + b"\x85\x81",
    _RUN + _COMMAND + b"\x85}\x92",
    b"(" + _COMMAND + b"iposix\nsystem\n",
    b"(" + _RUN + _COMMAND + b"o",
    b"cposix\nsystem\n" + _COMMAND + b"\x85R",
    _name("builtins", "getattr") + _name("builtins", "__import__") + _text("os") + b"\x85R" + _text("system")
    + b"\x86R" + _COMMAND + b"\x85R",
    _name("builtins", "__import__") + _text(EVIL_MODULE) + b"\x85R",
    _name(EVIL_MODULE, "anything"),
    _name("stable_baselines3.common.utils", "th.os.system") + _COMMAND + b"\x85R",
    _name("functools", "partial") + _RUN + _COMMAND + b"\x86R)R",
    _name("numpy", "zeros") + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
    _name("builtins", "bytearray") + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
)  # fmt: skip
_BOMBS = (
    b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(100)),
    b"}" + b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(100)) + b"Ns",
    b")" + b"\x85" * 30_000,
    b"]q\x00h\x00a",
    b"]" * 50_000,
    b"(" * 50_000,
    b"\x8b\xff\xff\xff\x7f",
    b"\x8d" + b"\xff" * 7 + b"\x0f",
    b"\x8e" + b"\xff" * 7 + b"\x0f",
    b"\x96" + b"\xff" * 7 + b"\x0f",
    b"\x95" + b"\xff" * 8 + b"N",
    b"Nr\xff\xff\xff\xff",
    b"I" + b"9" * 20_000 + b"\n",
    b"L" + b"9" * 20_000 + b"L\n",
)


def harmful_pickle(rng: random.Random) -> bytes:
    """A pickle that runs code or takes all memory in an ordinary unpickler."""
    kind = rng.randrange(6)
    if kind == 0:
        return pickle.dumps(Touch(open, CANARY, "w"), rng.choice(_PROTOCOLS))
    if kind == 1:
        return pickle.dumps({"a": [Touch(exec, f"open({CANARY!r}, 'w')")]}, rng.choice(_PROTOCOLS))
    if kind == 2:
        return cloudpickle.dumps(Touch(lambda: open(CANARY, "w")), rng.choice(_PROTOCOLS[2:]))
    if kind == 3:  # an allowed class, misused
        state = b"}" + _text(rng.choice(["__setstate__", "__class__", "forward", "low", "dtype"])) + _RUN + b"s"
        middle = rng.choice([b"", b")R", b")\x81", _RUN + b"\x85R", _COMMAND + _RUN + b"\x86R"])
        end = rng.choice([state + b"b", b"N" + state + b"\x86b", state + b"b" + _COMMAND + b"b", b""])
        return b"\x80\x04" + rng.choice(_ALLOWED) + middle + end + b"."
    return b"\x80\x04" + rng.choice(_HANDMADE if kind == 4 else _BOMBS) + b"."


def changed_pickle(rng: random.Random, content: bytes) -> bytes:
    """A pickle with a few opcodes left out, repeated, exchanged, or made of others."""
    starts = [at for _, _, at in pickletools.genops(content)] + [len(content)]
    steps = [content[a:b] for a, b in itertools.pairwise(starts)]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(steps))
        other = rng.choice(steps)
        new = [
            b"", steps[at] * 2, other, rng.choice(pickletools.opcodes).code.encode("latin1"), rng.choice(_ALLOWED),
            rng.choice(_HANDMADE), _name(EVIL_MODULE, "x"), b"J" + rng.randbytes(4), rng.randbytes(3), b"N",
            b"\x8a\x08" + rng.randbytes(8), _text("x"), b"R", b"b", b"\x81",
        ]  # fmt: skip
        steps[at] = rng.choice(new)
    return b"".join(steps)


def _replaced(content: bytes, name: str, raw: bytes) -> bytes:
    return zip_of({**members_of(content), name: raw})


def _with_data(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    data = json.loads(members_of(content)["data"])
    change(data)
    return _replaced(content, "data", json.dumps(data).encode())


def _pickled(raw: bytes) -> dict[str, str]:
    return {":serialized:": base64.b64encode(raw).decode()}


def put_harmful_pickle_in_an_attribute(rng: random.Random, content: bytes) -> bytes:
    raw = harmful_pickle(rng)
    return _with_data(content, lambda data: data.update({rng.choice([*data, "new"]): _pickled(raw)}))


def change_a_pickle(rng: random.Random, content: bytes) -> bytes:
    def change(data: dict[str, Any]) -> None:
        names = [name for name, value in data.items() if isinstance(value, dict) and ":serialized:" in value]
        name = rng.choice([*names, "action_space", "observation_space", "policy_class"])
        data[name] = _pickled(changed_pickle(rng, base64.b64decode(data[name][":serialized:"])))

    return _with_data(content, change)


_ODD: list[Any] = [
    None, True, -1, 0, 1, 3, 10**6, 10**9, 10**30, 0.5, -1.5, 1e308, float("nan"), float("inf"), "", "x", "auto_x",
    f"{EVIL_MODULE}:Env-v0", "../../canary", [], {}, [1, 2], {"a": None}, [[[]]], {"net_arch": [10**9]},
    {"net_arch": [1] * 20_000}, {"net_arch": [8, 8], "n_critics": 10**6}, {"net_arch": {"pi": [8], "qf": [8]}},
    {"optimizer_kwargs": {"lr": 1}}, {"features_extractor_kwargs": {"features_dim": 10**9}},
    {":serialized:": "x"}, {":serialized:": 1}, {":serialized:": ""},
]  # fmt: skip
_OTHER_NAMES = [
    "env", "policy", "device", "replay_buffer", "_logger", "logger", "predict", "learn", "_setup_model",
    "__class__", "__dict__", "actor", "controller", "_engine", "set_parameters", "_vec_normalize_env",
    "policy_aliases", "new",
]  # fmt: skip


def change_attributes(rng: random.Random, content: bytes) -> bytes:
    def change(data: dict[str, Any]) -> None:
        for _ in range(rng.choice([1, 1, 2, 4])):
            name = rng.choice([*data, *data, *_OTHER_NAMES])
            if rng.random() < 0.15:
                data.pop(name, None)
            else:
                data[name] = rng.choice([*_ODD, rng.choice(list(data.values()))])

    return _with_data(content, change)


def put_text_in_place_of_attributes(rng: random.Random, content: bytes) -> bytes:
    texts = [
        b"",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b"[" + b"[]," * 300_000 + b"[]]",
        b"9" * 50_000,
    ]
    return _replaced(content, "data", rng.choice([*texts, harmful_pickle(rng)]))


def _tensor_member(rng: random.Random, content: bytes) -> tuple[str, dict[str, bytes]]:
    name = rng.choice([name for name in members_of(content) if name.endswith(".pth")])
    return name, members_of(members_of(content)[name])


def change_tensors(rng: random.Random, content: bytes) -> bytes:
    name, parts = _tensor_member(rng, content)
    part = rng.choice(["archive/data.pkl", "archive/data.pkl", rng.choice(list(parts))])
    if part.endswith("data.pkl"):
        parts[part] = harmful_pickle(rng) if rng.random() < 0.3 else changed_pickle(rng, parts[part])
    else:
        parts[part] = rng.choice([b"", parts[part] * 2, parts[part][:-1], rng.randbytes(8), harmful_pickle(rng)])
    return _replaced(content, name, zip_of(parts))


def change_shapes(rng: random.Random, content: bytes) -> bytes:
    """Give small integers in a pickle of tensors other values: sizes, strides, offsets, numbers of parameters."""
    name, parts = _tensor_member(rng, content)
    steps = list(pickletools.genops(parts["archive/data.pkl"]))
    raw, numbers = parts["archive/data.pkl"], [at for op, _, at in steps if op.name == "BININT1"]
    for at in sorted(rng.sample(numbers, min(len(numbers), rng.choice([1, 2, 4]))), reverse=True):
        new = rng.choice(
            [b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"]
        )
        raw = raw[:at] + new + raw[at + 2 :]
    return _replaced(content, name, zip_of({**parts, "archive/data.pkl": raw}))


def put_pickle_in_place_of_tensors(rng: random.Random, content: bytes) -> bytes:
    name, _ = _tensor_member(rng, content)
    return _replaced(content, rng.choice([name, "other.pth", "policy.x.pth"]), harmful_pickle(rng))


def exchange_members(rng: random.Random, content: bytes) -> bytes:
    members = members_of(content)
    one, other = rng.choices(list(members), k=2)
    members[one], members[other] = members[other], members[one]
    if rng.random() < 0.5:
        members.pop(rng.choice(list(members)))
    return zip_of(members)


def rename_a_member(rng: random.Random, content: bytes) -> bytes:
    members = members_of(content)
    name = rng.choice(list(members))
    new = [
        f"../{name}",
        f"/{name}",
        f"..\\{name}",
        f"{name}/",
        "a/../b.pth",
        "policy.__class__.pth",
        "x.pth",
        f"./{name}",
    ]
    members[rng.choice(new)] = members.pop(name) if rng.random() < 0.5 else members[name]
    return zip_of(members)


def add_a_member_twice(rng: random.Random, content: bytes) -> bytes:
    name, raw = rng.choice(list(members_of(content).items()))
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(name, rng.choice([raw, harmful_pickle(rng)]))
    return buffer.getvalue()


def add_a_link(rng: random.Random, content: bytes) -> bytes:
    buffer, entry = io.BytesIO(content), zipfile.ZipInfo("link.pth")
    entry.external_attr = (rng.choice([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]) | 0o777) << 16
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(entry, CANARY)
    return buffer.getvalue()


def add_a_bomb(rng: random.Random, content: bytes) -> bytes:
    """Zeros that shrink a thousandfold, in a member of their own or within one."""
    members, zeros = members_of(content), bytes(rng.choice([2, 30, 100]) << 20)
    if rng.random() < 0.5:
        return zip_of({**members, rng.choice(["zeros", "data", "policy.pth"]): zeros}, zipfile.ZIP_DEFLATED)
    name, parts = _tensor_member(rng, content)
    return zip_of({**members, name: zip_of({**parts, "archive/data/0": zeros}, zipfile.ZIP_DEFLATED)})


def add_many_members(rng: random.Random, content: bytes) -> bytes:
    return zip_of(
        {**members_of(content), **{str(number): b"" for number in range(rng.choice([999, 2_000, 20_000]))}}
    )


def say_other_sizes(rng: random.Random, content: bytes) -> bytes:
    """Change sizes, places, methods and flags of members in the directory, and the directory's own place."""
    changed = bytearray(content)
    entries = [at for at in range(len(content) - 46) if content[at : at + 4] == b"PK\x01\x02"][-8:]
    end = content.rindex(b"PK\x05\x06")
    for _ in range(rng.choice([1, 2, 3])):
        field = rng.choice([8, 10, 20, 24, 28, 30, 42])
        at = rng.choice(
            [rng.choice(entries) + field, rng.choice(entries) + field, end + rng.choice([8, 10, 12, 16])]
        )
        new = rng.choice(
            [b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", rng.randbytes(4), b"\x0c\x00"]
        )
        changed[at : at + len(new)] = new
    return bytes(changed)


def lay_members_over_each_other(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    entries = [at for at in range(len(content) - 46) if content[at : at + 4] == b"PK\x01\x02"][-8:]
    one, other = rng.choices(entries, k=2)
    changed[one + 42 : one + 46] = changed[other + 42 : other + 46]
    return bytes(changed)


def change_the_controller(rng: random.Random, content: bytes) -> bytes:
    members, name = members_of(content), "entroreg/controller.json"
    if name not in members:
        return change_attributes(rng, content)
    payload = json.loads(members[name])
    inner = rng.choice([payload, payload["description"], payload["state"]])
    if rng.random() < 0.3:
        inner.pop(rng.choice(list(inner)))
    else:
        inner[rng.choice([*inner, "os"])] = rng.choice(_ODD)
    if rng.random() < 0.2:
        tensors = members["entroreg/controller.safetensors"]
        members["entroreg/controller.safetensors"] = struct.pack("<Q", rng.choice([0, 1 << 40])) + tensors[8:]
    return zip_of({**members, name: json.dumps(payload).encode()})


def pack_again(rng: random.Random, content: bytes) -> bytes:
    """No forgery: what unzip and zip make of a zip."""
    return zip_of(members_of(content), zipfile.ZIP_DEFLATED)


FORGERIES: list[Forgery] = [
    put_harmful_pickle_in_an_attribute, put_harmful_pickle_in_an_attribute, change_a_pickle, change_a_pickle,
    change_attributes, change_attributes, put_text_in_place_of_attributes, change_tensors, change_tensors,
    change_shapes, put_pickle_in_place_of_tensors, exchange_members, rename_a_member, add_a_member_twice,
    add_a_link, add_a_bomb, add_many_members, say_other_sizes, lay_members_over_each_other,
    change_the_controller, pack_again,
]  # fmt: skip
