"""Which versions of other libraries the integrations are tested with: the one place that says so."""

from __future__ import annotations

import importlib.metadata

TESTED = {"transformers": ("5.10",), "trl": ("1.16",), "verl": ("0.9",)}
_EXTRAS = {"transformers": "llm", "trl": "llm", "verl": "verl"}


def require(package: str) -> None:
    """Refuse a package that is missing, or of a version that the integrations are not tested with.

    They override methods and read fields that other versions may not have, so another version is refused before
    it can train wrongly. Nothing is imported here.

    Args:
        package: a key of ``TESTED``.

    Raises:
        ImportError: it is not installed, or of a version outside ``TESTED``.

    Example:
        >>> require("trl")
    """
    remedy = f"pip install 'entroreg[{_EXTRAS[package]}]'"
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"{package} is not installed: {remedy}", name=package) from None
    if ".".join(found.split(".")[:2]) not in TESTED[package]:
        supported = " or ".join(f"{series}.*" for series in TESTED[package])
        raise ImportError(
            f"{package} must be {supported}, with which entroreg is tested, got {found}: {remedy}", name=package
        )
