"""Attention as GeoJSON that QuPath reads (File > Import objects): a detection for each tile."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from entroreg import _checks, atomic
from entroreg.vision.mil.heatmaps.arrays import Numbers, as_coords, as_values, check_names
from entroreg.vision.mil.heatmaps.raster import infer_tile_size

_COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def write_geojson(
    path: str | os.PathLike[str],
    coords: Numbers,
    tile_size: int | None,
    values: Numbers,
    names: Sequence[str],
    *,
    classes: Sequence[str] = (),
) -> None:
    """Write a FeatureCollection with a square for each tile, in pixels of level 0, and its values as measurements.

    Args:
        path: of the file, usually ``*.geojson``; its folder must exist.
        coords: (N, 2) int64, x and y of each tile's top left corner, in pixels of level 0.
        tile_size: side of a tile in pixels of level 0; None infers it from the coordinates.
        values: (K, N) finite, such as `over_uniform` gives; six decimals are written.
        names: of the K rows: the measurements' names.
        classes: names of the model's classes. If the rows are the classes, each tile is classified as the one
            with its largest value; heads and branches are no classes, and their tiles stay without one.

    Raises:
        TypeError: coords that are not integers.
        ValueError: shapes that do not fit, a value that is not finite, names not one for each row.
        OSError: the file could not be written.
    """
    corners = as_coords(coords)
    rows = as_values("values", values, len(corners)).round(6)
    check_names(names, len(rows))
    side = infer_tile_size(corners) if tile_size is None else tile_size
    side = int(_checks.require_number("tile_size", side, low=1))
    winners = rows.argmax(axis=0).tolist() if list(names) == list(classes) else [None] * len(corners)
    features = [  # one string each: a slide of 400,000 tiles as dicts would need a gigabyte
        json.dumps(_feature(x, y, side, dict(zip(names, column, strict=True)), _class_of(names, winner)))
        for (x, y), column, winner in zip(corners.tolist(), rows.T.tolist(), winners, strict=True)
    ]
    text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(features) + "\n]}\n"
    atomic.write_bytes(path, text.encode())


def _feature(
    x: int, y: int, side: int, measurements: dict[str, float], classification: dict[str, Any]
) -> dict[str, Any]:
    # Clockwise on the screen, where y grows downwards, from the top left; the ring ends where it starts.
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "detection", **classification, "measurements": measurements},
    }


def _class_of(names: Sequence[str], winner: int | None) -> dict[str, Any]:
    if winner is None:
        return {}
    return {"classification": {"name": names[winner], "color": list(_COLOURS[winner % len(_COLOURS)])}}
