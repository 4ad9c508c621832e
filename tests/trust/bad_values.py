"""Values that are wrong for a flag, by what the flag takes."""

from __future__ import annotations

from pathlib import Path

from command_walk import Flag

LONG = "x" * 100_000
"""More than any name or number needs; a single argument may have 128 KiB."""
HUGE = str(10**30)
_WORDS = (
    *(
        "",
        "no-such-word",
        " ",
        "None of these",
        "ünïcödé-🦾",
        "two\nlines",
        "tab\there",
        "nul\0byte",
        "\udcff",
        LONG,
    ),
)
_NOT_WHOLE = ("", "many", "1.5", "1e3", "nan", "inf", "0x10", "1,000", "9" * 5_000, "5\n6", "5\0", "½", "--", "[]")
_OUT_OF_RANGE = ("-1", "0", HUGE, f"-{HUGE}")
_NO_NUMBER = ("", "much", "1,5", "1e", "0x1p3", "5\n6", "5\0", "½", "[]", "1 2")
_NO_QUANTITY = ("-1", "0", "1e30", "nan", "inf", "-inf", "1e999", "-1e30")
_PATHS = (
    *(
        "nowhere",
        "nowhere/at/all",
        "goods/empty",
        "goods/empty-folder",
        "goods/loop",
        "goods/dangling",
        "goods/noise",
    ),
    *(
        "/dev/null",
        "/proc/1/mem",
        "/sys/kernel",
        "",
        "x" * 300,
        LONG,
        "two\nlines",
        "nul\0byte",
        "\udcff",
        "~nobody",
    ),
)
_NO_FOLDERS = (
    *("goods/empty", "goods/empty/below", "goods/loop", "goods/loop/below", "/dev/null", "/dev/null/below"),
    *("/proc/nowhere", "/sys/nowhere", "x" * 300, LONG, "nul\0byte", "\udcff", "goods/dangling/below"),
)
_DEVICES = (
    "",
    "tpu9",
    "cuda",
    "cuda:7",
    "cpu:x",
    "meta",
    "mps",
    "cpu,cuda",
    "CPU",
    "cuda:-1",
    "two\nlines",
    "cpu\0",
    LONG,
)
_ENVIRONMENTS = (
    *("Pendulm-v1", "", ".", "..", "/", "Pendulum-v99", "Pendulum-v", "-v1", "a/b/c-v0", "🦾-v0", "Pendulum-v1\n"),
    *("no.such.module:X-v0", ":Pendulum-v1", "Blackjack-v1", "FrozenLake-v1", "HalfCheetah-v3", "ALE/Pong-v5"),
    *("dm_control/no-such-task-v0", "dm_control/", "Pendulum-v1 ", "nul\0byte-v0", "\udcff-v0", LONG, "None"),
)
_COEFFICIENTS = (
    *("", "automatic", "auto_", "auto_0", "auto_-1", "auto_nan", "auto_inf", "auto_1e30", "auto_x", "Auto", "nan"),
    *("inf", "-inf", "-1", "-0.1", "1e30", "1e999", "0,1", "two\nlines", "nul\0byte", LONG),
)
_ADDRESSES = (
    *(
        "",
        "auto",
        ":",
        "127.0.0.1:1",
        "127.0.0.1:99999",
        "127.0.0.1:-1",
        "127.0.0.1:x",
        "ray://127.0.0.1:1",
        "a..b:1",
    ),
    *(
        f"{'a' * 100}:1",
        "[::1]:1",
        "no-such-host.invalid:6379",
        "ray://",
        "http://127.0.0.1:1",
        "two\nlines:1",
        "\0:1",
    ),
)
_SUITES = (
    *(
        "sacc",
        "",
        ".",
        "..",
        "a.b",
        "sac.",
        ".sac",
        "json.decoder",
        "entroreg.nothing",
        "1.5",
        "no such suite",
        "a\nb",
    ),
    *("nul\0byte", "nul.\0byte", "ALL", "-", "../sac", "x." * 400, LONG, "\udcff", "\udcff.x"),
)
# By the name of the flag, where it is more than a word or a number.
_SPECIAL = {
    "env": _ENVIRONMENTS,
    "device": _DEVICES,
    "ent_coef": _COEFFICIENTS,
    "address": _ADDRESSES,
    "suite": _SUITES,
    "hyperparameters": ("nowhere.toml", "goods", *_PATHS),
    "partition": _WORDS,
}
_FINE = {
    "adversary_steps": {"0"},
    "aem": {"0"},
    "alpha_minimum": {"0"},
    "dropout": {"0"},
    "entropy_penalty": {"0"},
    "fold": {"0"},
    "gpus": {"0"},
    "gradient_steps": {"-1"},
    "learning_starts": {"0"},
    "memory_budget": {"0"},
    "milestones": {"--"},
    "min_tissue": {"0"},
    "return_floor": {"-1", "0"},
    "seed": {"0"},
    "target": {"0"},
    "target_entropy": {"-1", "0"},
    "target_entropy_end": {"-1", "0"},
    "tolerance": {"0"},
    "train discrete-sac env": {"FrozenLake-v1"},
    "train discrete-sac gamma": {"0"},
    "train discrete-sac net": {"--"},
    "train distill warm_up": {"0"},
    "train rlvr target": set(),
    "train sac gamma": {"0"},
    "train sac net": {"--"},
    "bench run seed": {"--", "0"},
    "validation_share": {"0"},
    "weight_decay": {"0"},
}
"""What is right after all, by the name of a flag, or of a verb and its flag."""


def bad_values(verb: str, flag: Flag) -> list[str]:
    """Return values that are wrong for a flag of a verb, every one by itself."""
    found = _values(flag)
    own = _FINE.get(f"{verb} {flag.name}")
    fine = _FINE.get(flag.name, set()) if own is None else own
    return [value for value in dict.fromkeys(found) if value not in fine]


def _values(flag: Flag) -> tuple[str, ...]:
    if flag.name in _SPECIAL:
        return _SPECIAL[flag.name]
    if flag.kinds == {bool}:
        return ("maybe", "2", "")
    if int in flag.kinds:
        return (*_NOT_WHOLE, *_OUT_OF_RANGE)
    if float in flag.kinds:
        return (*_NO_NUMBER, *_NO_QUANTITY)
    if Path in flag.kinds:
        return _NO_FOLDERS if flag.name == "out" else _PATHS
    return _WORDS
