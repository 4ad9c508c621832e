"""The table of labels: every form that is taken and every one that is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.labels import class_names, read_labels


def _csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_slides_have_classes_and_patients(tmp_path: Path) -> None:
    table = read_labels(_csv(tmp_path, "slide,label,patient\nb,tumour,p1\na,normal,p1\nc,tumour,p2\n"))
    assert table.source == f"{tmp_path}/labels.csv"
    assert table.class_of == {"b": "tumour", "a": "normal", "c": "tumour"}
    assert table.patient_of == {"b": "p1", "a": "p1", "c": "p2"}


@pytest.mark.parametrize("slide", ["slide", "slide_id", "FILENAME", " Slide "])
@pytest.mark.parametrize("patient", ["patient", "patient_id", "case_id", "PATIENT"])
def test_columns_have_the_names_of_other_tools(tmp_path: Path, slide: str, patient: str) -> None:
    table = read_labels(_csv(tmp_path, f"age,{patient},Label,{slide}\n61,p, x ,folder/s.1.svs\n"))
    assert (table.class_of, table.patient_of) == ({"s.1": "x"}, {"s.1": "p"})


def test_a_table_may_have_no_patients_blank_lines_quotes_and_the_mark_of_excel(tmp_path: Path) -> None:
    table = read_labels(_csv(tmp_path, '\ufeffslide,label\r\n\r\n"a","x, y"\r\n,\r\na.svs,"x, y"\r\n'))
    assert (table.class_of, table.patient_of) == ({"a": "x, y"}, None)


BAD = {
    "slide,label\na,x\nb,y\na.svs,y\n": (
        ", line 4: slide 'a' must have one label, got 'x' and 'y': remove one row"
    ),
    "slide,label,patient\na,x,p\na,x,q\n": (
        ", line 3: slide 'a' must have one patient, got 'p' and 'q': remove one row"
    ),
    "slied,label\na,x\n": (
        " must have a column 'slide' or 'slide_id' or 'filename', got 'slied', 'label': did you mean 'slied'?"
    ),
    "slide,Labels\na,x\n": " must have a column 'label', got 'slide', 'Labels': did you mean 'labels'?",
    "slide;label\na;x\n": (
        " must have a column 'slide' or 'slide_id' or 'filename', got 'slide;label': did you mean 'slide;label'?"
    ),
    "case,diagnosis\na,x\n": " must have a column 'slide' or 'slide_id' or 'filename', got 'case', 'diagnosis'",
    "slide,label\na,\n": ", line 2: label must not be empty: fill it in or remove the row",
    "slide,label\n ,x\n": ", line 2: slide must not be empty: fill it in or remove the row",
    "slide,label,patient\na,x,\n": ", line 2: patient must not be empty: fill it in or remove the row",
    "slide,label\na,x,y\n": (
        ", line 2: there must be 2 fields as in the header, got 3: put quotes around a field with a comma"
    ),
    "slide,label\n\n": " must have a header and a row for each slide, got 1 lines",
    "": " must have a header and a row for each slide, got 0 lines",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = _csv(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert str(caught.value) == f"{path}{BAD[text]}"


def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    form = re.escape(f"{path} must be a CSV file in UTF-8, got one that cannot be read: ") + "[^\n]+"
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert re.fullmatch(form, str(caught.value))
    for content in (b"slide,label\n\xff,x\n", b'slide,label\n"a,x\n'):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_labels(path)
        assert re.fullmatch(form, str(caught.value))


def test_classes_are_sorted_by_number_or_name_or_as_given() -> None:
    assert class_names("f", ["b", "a", "b"]) == ("a", "b")
    assert class_names("f", ["10", "9", "0"]) == ("0", "9", "10")
    assert class_names("f", ["10", "9", "x"]) == ("10", "9", "x")
    assert class_names("f", ["a"], ["b", "a"]) == ("b", "a")


@given(st.lists(st.text(min_size=1), min_size=1))
def test_classes_are_all_labels_once(labels: list[str]) -> None:
    if len(set(labels)) < 2:
        with pytest.raises(DataError, match="must be of two classes or more"):
            class_names("f", labels)
    else:
        names = class_names("f", labels)
        assert sorted(names) == sorted(set(labels))
        assert names == class_names("f", reversed(labels))


def test_one_class_and_an_unknown_class_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        class_names("labels.csv", ["x", "x"])
    assert str(caught.value) == "labels.csv: labels must be of two classes or more, got 'x' only"
    with pytest.raises(DataError) as caught:
        class_names("labels.csv", ["tumor", "normal"], ["normal", "tumour"])
    expected = "labels.csv: labels must be among 'normal', 'tumour', got 'tumor': did you mean 'tumour'?"
    assert str(caught.value) == expected
