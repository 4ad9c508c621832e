"""Load hostile zips one after another, under a limit of memory and of time, a line of JSON for each.

Run as ``python load_zips.py <folder> <first> <stop>``: case k is a function of k alone. A case that takes more than
``SECONDS`` of the processor, or ten times as long, ends the process by a signal, and so does one that crashes; the
last line says which it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from zip_damage import DAMAGES, PICKLE_DAMAGES
from zip_forgeries import CANARY, EVIL_MODULE, FORGERIES, changed_pickle, harmful_pickle

from entroreg.agents import SAC
from entroreg.agents.safe_zip.archive import read_members
from entroreg.agents.safe_zip.reading import read_parts

SECONDS = 20
MEMORY = 1 << 30  # more than the process has when it begins
# What a second change says of a zip that the first has damaged.
UNCHANGEABLE = (
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
RELEASES = Path(__file__).parents[1] / "rl" / "data" / "zips"


def _task() -> Any:
    env = gym.Env()
    env.observation_space, env.action_space = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-2.0, 2.0, (1,))
    return env


def make_originals() -> tuple[list[bytes], list[bytes]]:
    """Make what is changed: zips of ours and of two releases of Stable-Baselines3, and replay buffers."""
    own = io.BytesIO()
    agent = SAC("MlpPolicy", _task(), policy_kwargs={"net_arch": [4]}, buffer_size=50, device="cpu", seed=0)
    agent.save(own)
    buffer = io.BytesIO()
    agent.save_replay_buffer(buffer)
    zips, buffers = [own.getvalue()], [buffer.getvalue()]
    for release, names in (("1.8.0", ("default",)), ("2.9.2", ("kwargs", "two"))):
        with tarfile.open(RELEASES / f"{release}.tar.xz") as archive:
            zips += [archive.extractfile(f"{name}.zip").read() for name in names]  # type: ignore[union-attr]
            buffers.append(archive.extractfile("default.pkl").read())  # type: ignore[union-attr]
    return zips, buffers


def load(content: bytes, way: str, agent: Any) -> str:
    """Load a zip or a replay buffer in one of the ways; return a hash of what came."""
    if way == "read":
        parts = read_parts(read_members(content), {})
        return _hash(parts.params, parts.variables, parts.values)
    if way == "load":
        found = SAC.load(io.BytesIO(content), device="cpu")
        return _hash({"policy": found.policy.state_dict()}, None, {"gamma": found.gamma})
    if way == "parameters":
        agent.set_parameters(io.BytesIO(content))
        return _hash({"policy": agent.policy.state_dict()}, None, {})
    agent.load_replay_buffer(io.BytesIO(content))
    return hashlib.sha256(agent.replay_buffer.rewards.tobytes()).hexdigest()


def _hash(params: Any, variables: Any, values: dict[str, Any]) -> str:
    found = hashlib.sha256(repr(sorted(values.items())).encode("utf-8", "surrogatepass"))
    buffer = io.BytesIO()
    torch.save([sorted(params.items()), variables], buffer)
    found.update(buffer.getvalue())
    return found.hexdigest()


def change(rng: random.Random, content: bytes, way: str) -> tuple[bytes, dict[str, Any]]:
    """Damage or forge a file; return it with the names of what was done."""
    if way == "buffer":  # a pickle has no checksum: damage to its numbers goes unseen
        one = rng.choice([harmful_pickle, changed_pickle, changed_pickle, *PICKLE_DAMAGES])
        changed = one(rng) if one is harmful_pickle else one(rng, content)
        return changed, {"changes": [one.__name__], "is_damage": False}
    changes = [rng.choice(DAMAGES if rng.random() < 0.35 else FORGERIES)]
    if rng.random() < 0.2:
        changes += [rng.choice(DAMAGES + FORGERIES)]
    for one in changes:
        with contextlib.suppress(*UNCHANGEABLE):
            content = one(rng, content)
    return content, {"changes": [one.__name__ for one in changes], "is_damage": set(changes) <= set(DAMAGES)}


def outcome(content: bytes, expected: str, way: str, agent: Any) -> dict[str, Any]:
    """Load a file and return what came of it, and how much memory that took at most."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, message = _status("VmRSS"), ""
    try:
        kind = "same" if load(content, way, agent) == expected else "returned"
    except BaseException as error:  # whatever comes is what the test looks for
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        message = str(error)[:300]
    peak = _status("VmHWM") - before
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    return {"outcome": kind, "message": message, "peak": peak}


def _status(field: str) -> int:
    """A size that the kernel keeps of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def main(folder: Path, first: int, stop: int) -> None:
    """Run the cases ``first`` to ``stop``."""
    os.chdir(folder)
    Path(f"{EVIL_MODULE}.py").write_text(f"open({CANARY!r}, 'w')")
    sys.path.insert(0, ".")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    zips, buffers = make_originals()
    agent = SAC("MlpPolicy", _task(), policy_kwargs={"net_arch": [4]}, buffer_size=50, device="cpu", seed=0)
    load(zips[0], "load", agent)
    limit = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(first, stop):
        rng = random.Random(number)
        way = rng.choices(["read", "load", "parameters", "buffer"], weights=[65, 20, 5, 10])[0]
        original = rng.choice(buffers) if way == "buffer" else zips[0] if way == "parameters" else rng.choice(zips)
        expected = load(original, way, agent)
        content, report = change(rng, original, way)
        report |= {"case": number, "way": way}
        print(json.dumps(report), flush=True)
        report |= outcome(content, expected, way, agent)
        report["executed"] = Path(CANARY).exists() or EVIL_MODULE in sys.modules
        Path(CANARY).unlink(missing_ok=True)
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
