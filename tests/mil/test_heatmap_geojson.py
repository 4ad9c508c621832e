"""The GeoJSON that QuPath reads: places, rings, measurements and classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entroreg.vision.mil.heatmaps import write_geojson

CORNERS = np.array([[100, 2000], [356, 2000], [100, 2256]])
VALUES = np.array([[0.5, -1.25, 3.0], [1.5, -2.0, 2.999999]])


def _features(path: Path) -> list[dict[str, Any]]:
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def test_a_square_for_each_tile_with_its_values(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", CORNERS, 256, VALUES, ["head 1", "head 2"])
    features = _features(tmp_path / "a.geojson")
    assert features[1] == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[356, 2000], [612, 2000], [612, 2256], [356, 2256], [356, 2000]]],
        },
        "properties": {"objectType": "detection", "measurements": {"head 1": -1.25, "head 2": -2.0}},
    }
    for feature, corner in zip(features, CORNERS, strict=True):
        (ring,) = np.array(feature["geometry"]["coordinates"])
        assert ring[0].tolist() == ring[-1].tolist() == corner.tolist()
        x, y = ring[:-1].T
        area = 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
        assert area == 256**2  # positive: clockwise where y grows downwards, and no crossing


def test_rows_that_are_the_classes_classify_each_tile(tmp_path: Path) -> None:
    names = ["normal", "tumour"]
    write_geojson(tmp_path / "a.geojson", CORNERS, None, VALUES, names, classes=names)
    found = [feature["properties"]["classification"] for feature in _features(tmp_path / "a.geojson")]
    assert [one["name"] for one in found] == ["tumour", "normal", "normal"]
    assert found[0]["color"] != found[1]["color"] == found[2]["color"]
    assert all(0 <= level <= 255 for level in found[0]["color"])


def test_heads_are_no_classes_even_if_there_are_as_many(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", CORNERS, 256, VALUES, ["h1", "h2"], classes=["normal", "tumour"])
    assert all("classification" not in one["properties"] for one in _features(tmp_path / "a.geojson"))


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        (
            VALUES[:, :2],
            ["a", "b"],
            r"values must have shape \(K, N\) with a column for each of 3 tiles, got \(2, 2\)",
        ),
        (np.where(VALUES > 2.5, np.inf, VALUES), ["a", "b"], "values must be finite, got inf at row 0, tile 2"),
        (VALUES, ["a"], r"names must be 2 different ones, one for each row, got \['a'\]"),
        (VALUES, ["a", "a"], "names must be 2 different ones"),
    ],
)
def test_refuses_and_keeps_the_old_file(tmp_path: Path, values: np.ndarray, names: list[str], message: str) -> None:
    (tmp_path / "a.geojson").write_text("old")
    with pytest.raises(ValueError, match=message):
        write_geojson(tmp_path / "a.geojson", CORNERS, 256, values, names)
    assert (tmp_path / "a.geojson").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
