"""Whether a run of the suite keeps what is promised: ``python -m entroreg.benchmarks.trust.verdict OUT``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["broken_promises"]

_LARGEST_PAUSE = 0.02  # of a minute


def broken_promises(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for each promise that a summary of suite trust breaks.

    Args:
        summary: of all cells of a preset.
    """
    found = [f"{cell['method']} on {cell['task']} has no result" for cell in summary["failed"]]
    for cell in summary["cells"]:
        if cell["method"] == "entroreg":
            found += [f"{cell['task']}: {line}" for line in _of_kills(cell["totals"], cell["undisturbed"])]
        if cell.get("pause_share_of_a_minute", 0.0) >= _LARGEST_PAUSE:
            found.append(
                f"{cell['task']}: a checkpoint must take less than {_LARGEST_PAUSE:.0%} of a minute, got "
                f"{cell['pause_share_of_a_minute']:.2%}"
            )
    return found


def _of_kills(totals: Mapping[str, int], undisturbed: Mapping[str, Any]) -> list[str]:
    kills, runs = totals["kills"], totals["runs"]
    expected = {
        "resumed": ("kills must all be resumed", kills),
        "corrupt": ("kills must leave no corrupt file", 0),
        "mismatched": ("kills must leave no files of different steps", 0),
        "begun_anew": ("runs must never begin anew", 0),
        "identical": ("runs must all end bit-identical", runs),
    }
    found = [
        f"{words}, got {totals[name]} in {kills} kills of {runs} runs"
        for name, (words, count) in expected.items()
        if totals[name] != count
    ]
    return found if undisturbed["repeats"] else [*found, "two undisturbed runs must be equal, got two that differ"]


def main(arguments: list[str]) -> int:
    """Print what is broken in the summary of a folder of runs, and return 1 if anything is."""
    (out,) = arguments
    broken = broken_promises(json.loads(Path(out, "trust", "summary.json").read_bytes()))
    print("\n".join(broken) if broken else "every promise was kept")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
