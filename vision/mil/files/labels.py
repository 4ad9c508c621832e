"""The table of labels: which slide is of which class and patient."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.slide import slide_name

_COLUMNS = {
    "slide": ("slide", "slide_id", "filename"),
    "label": ("label",),
    "patient": ("patient", "patient_id", "case_id"),
}


@dataclass(frozen=True)
class SlideLabels:
    """Class and patient of each slide; made by `read_labels`."""

    source: str
    """The file, for messages."""
    class_of: Mapping[str, str]
    """Slide to class, in the order of the file."""
    patient_of: Mapping[str, str] | None
    """Slide to patient; None where the file has no such column."""


def read_labels(path: Path) -> SlideLabels:
    """Return the classes and patients of slides from a CSV file with a header.

    Args:
        path: its columns, in any order and letter case: ``slide`` (or ``slide_id``, ``filename``), ``label``, and
            optionally ``patient`` (or ``patient_id``, ``case_id``); others are not read. A slide may be written
            with folders and with the ending of its image or feature file. Two rows for it must say the same.

    Raises:
        DataError: the file cannot be read or has no row, a column is missing, a field is empty, a row has more or
            fewer fields than the header, or two rows give one slide different labels or patients.
    """
    rows = _read_rows(path)
    columns = _find_columns(path, rows[0][1])
    class_of: dict[str, str] = {}
    patient_of: dict[str, str] = {}
    for line, row in rows[1:]:
        fields = {what: _field(path, line, row, what, column) for what, column in columns.items()}
        slide = slide_name(PurePath(fields["slide"]).name)
        _set_once(class_of, slide, fields["label"], f"{path}, line {line}", "label")
        if "patient" in fields:
            _set_once(patient_of, slide, fields["patient"], f"{path}, line {line}", "patient")
    return SlideLabels(str(path), class_of, patient_of or None)


def class_names(source: str, labels: Iterable[str], order: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of the classes, sorted (by number where all are whole numbers) unless their order is given.

    Args:
        source: the file that the labels come from, for messages.
        labels: of the slides.
        order: all classes, if their order is given; there may then be slides of only some of them.

    Raises:
        DataError: all labels are the same, or one is not in ``order``.

    Example:
        >>> class_names("labels.csv", ["10", "2", "10"])
        ('2', '10')
    """
    found = sorted(set(labels))
    if order is not None:
        for label in found:
            if label not in order:
                raise DataError(
                    f"{source}: labels must be among {_listed(order)}, got {label!r}{_near(label, order)}"
                )
        return tuple(order)
    if len(found) < 2:
        raise DataError(f"{source}: labels must be of two classes or more, got {_listed(found)} only")
    if all(label.isascii() and label.isdigit() for label in found):
        found.sort(key=int)
    return tuple(found)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # Excel begins a UTF-8 file with a mark
            reader = csv.reader(file, strict=True)
            rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be a CSV file in UTF-8, got one that cannot be read: {error}") from error
    rows = [(line, row) for line, row in rows if any(row)]
    if len(rows) < 2:
        raise DataError(f"{path} must have a header and a row for each slide, got {len(rows)} lines")
    for line, row in rows[1:]:
        if len(row) != len(rows[0][1]):
            raise DataError(
                f"{path}, line {line}: there must be {len(rows[0][1])} fields as in the header, got {len(row)}: "
                "put quotes around a field with a comma"
            )
    return rows


def _find_columns(path: Path, header: list[str]) -> dict[str, int]:
    lower = [name.lower() for name in header]
    columns = {}
    for what, names in _COLUMNS.items():
        present = [lower.index(name) for name in names if name in lower]
        if present:
            columns[what] = present[0]
        elif what != "patient":
            near = next((_near(name, lower) for name in names if _near(name, lower)), "")
            raise DataError(
                f"{path} must have a column {' or '.join(map(repr, names))}, got {_listed(header[:8])}{near}"
            )
    return columns


def _field(path: Path, line: int, row: list[str], what: str, column: int) -> str:
    if not row[column]:
        raise DataError(f"{path}, line {line}: {what} must not be empty: fill it in or remove the row")
    return row[column]


def _set_once(table: dict[str, str], slide: str, value: str, where: str, what: str) -> None:
    if table.setdefault(slide, value) != value:
        raise DataError(
            f"{where}: slide {slide!r} must have one {what}, got {table[slide]!r} and {value!r}: remove one row"
        )


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
