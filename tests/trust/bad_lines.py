"""Bad command lines: a working line of each verb with one thing wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import zip_longest

from bad_checkpoints import checkpoint_cases
from bad_configs import config_cases
from bad_values import bad_values
from bad_words import word_cases
from cases import Case
from command_walk import Flag, verbs
from good_ground import FEATURES, LINES, RUNS

_OTHER_LINES = {
    ("train mil", "labels"): FEATURES,
    ("eval", "slides"): f"eval {RUNS['slides']} --heatmap",
    ("bench run", "address"): "bench run overhead --out out --executor ray",
    ("bench run", "partition"): "bench run overhead --out out --executor slurm",
    ("bench run", "minutes"): "bench run overhead --out out --executor slurm",
    ("resume", "address"): "resume goods/bench --executor ray",
    ("resume", "partition"): "resume goods/bench --executor slurm",
    ("resume", "minutes"): "resume goods/bench --executor slurm",
    **{
        ("eval", name): f"eval {RUNS['qarl']} --robust rrls-2 --episodes 1 --points 2"
        for name in ("robust", "points", "physics", "adversary_steps")
    },
    ("eval", "force"): f"eval {RUNS['qarl']} --robust rrls-2 --episodes 1 --points 2 --adversary-steps 10",
}
"""Where a flag means nothing in the verb's own line."""


def flag_cases() -> Iterator[Case]:
    """Yield for every flag of every verb the values that are wrong for it."""
    for verb, flags in verbs().items():
        for flag in flags:
            for value in bad_values(verb, flag):
                yield Case(verb, flag.name, with_value(verb, flag, value))


def with_value(verb: str, flag: Flag, value: str) -> tuple[str, ...]:
    """Return the verb's line with another value of a flag."""
    words = _OTHER_LINES.get((verb, flag.name), LINES[verb]).split()
    if flag.positional:
        at = len(verb.split()) + [found.name for found in verbs()[verb] if found.positional].index(flag.name)
        return (*words[:at], value, *words[at + 1 :])
    (word,) = flag.words
    if word in words:
        at = words.index(word)
        end = next((later for later in range(at + 1, len(words)) if words[later].startswith("--")), len(words))
        words = words[:at] + words[end:]
    return (*words, word, value)


def all_cases() -> list[Case]:
    """Return every case, each command line once."""
    return list(dict.fromkeys([*flag_cases(), *word_cases(), *config_cases(), *checkpoint_cases()]))


def sample(count: int) -> list[Case]:
    """Return cases drawn from all with a fixed seed: in turn one of each verb and thing that is wrong."""
    drawn, cases = random.Random(0), all_cases()
    drawn.shuffle(cases)
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.verb, case.about.partition(":")[0]), []).append(case)
    in_turn = [case for turn in zip_longest(*groups.values()) for case in turn if case is not None]
    return in_turn[:count]
