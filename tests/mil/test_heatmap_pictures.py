"""The saved PNGs, read back: what is hot is where its tile is, right side up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from entroreg.vision.mil.heatmaps import plot_bag_attention, plot_heatmaps

pytest.importorskip("matplotlib", reason="an optional extra")
Image = pytest.importorskip("PIL.Image", reason="an optional extra")

SIZE = (3000, 1600)
# no tile in the first and last columns, where the thumbnail's marks are
GRID = np.array([(x, y) for x in range(200, 2800, 200) for y in range(0, 1600, 200)])


def _thumbnail() -> np.ndarray:
    thumbnail = np.full((160, 300, 3), 255, np.uint8)
    thumbnail[:20, :20] = (100, 0, 200)  # centre at (100, 100) of level 0; 100 in grey
    thumbnail[-20:, -20:] = (250, 150, 50)  # centre at (2900, 1500); 150 in grey
    return thumbnail


def _centre(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    found = np.argwhere((picture == colour).all(axis=2))
    assert len(found)
    return np.median(found, axis=0)[::-1]  # x, y; letters have a few pixels of any grey


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("hot", [(200, 0), (2600, 0), (600, 1400), (1400, 1000)])
def test_a_hot_tile_is_red_at_its_place_over_the_thumbnail(tmp_path: Path, hot: tuple[int, int]) -> None:
    logits = np.where((hot == GRID).all(axis=1), 6.0, 0.0)[None]
    plot_heatmaps(GRID, 200, logits, ["a"], tmp_path / "a.png", thumbnail=_thumbnail(), slide_size=SIZE)
    picture = _read(tmp_path / "a.png")
    first, last = _centre(picture, (100, 100, 100)), _centre(picture, (150, 150, 150))
    per_pixel = (last - first) / (2800, 1400)
    assert per_pixel[0] == pytest.approx(per_pixel[1], rel=0.01)  # the aspect of the slide
    # only the slide's own part: the colour bar is red as well
    top_left, bottom_right = np.rint(first - 100 * per_pixel), np.rint(last + 100 * per_pixel)
    (left, top), (right, bottom) = top_left.astype(int), bottom_right.astype(int)
    part = picture[top:bottom, left:right]
    red = np.argwhere((part[..., 0] - part[..., 2] > 60) & (part[..., 0] - part[..., 1] > 60))
    begins, ends = red.min(axis=0)[::-1] / per_pixel, (red.max(axis=0)[::-1] + 1) / per_pixel
    np.testing.assert_allclose(begins, hot, atol=12)  # level-0 pixels: 3 of the picture
    np.testing.assert_allclose(ends, np.array(hot) + 200, atol=12)


def test_the_slide_beside_the_attention_lies_the_same_way(tmp_path: Path) -> None:
    logits = np.zeros((1, len(GRID)))
    plot_heatmaps(GRID, 200, logits, ["a"], tmp_path / "a.png", thumbnail=_thumbnail(), slide_size=SIZE)
    picture = _read(tmp_path / "a.png")
    across, down = _centre(picture, (250, 150, 50)) - _centre(picture, (100, 0, 200))
    assert across > 0
    assert down > 0
    assert across / down == pytest.approx(2800 / 1400, rel=0.01)


def test_over_coordinates_alone_the_hot_tile_is_up_and_right(tmp_path: Path) -> None:
    logits = np.where((GRID == (2600, 0)).all(axis=1), 9.0, 0.0)[None]
    plot_heatmaps(GRID, None, logits, ["a"], tmp_path / "a.png")
    picture = _read(tmp_path / "a.png")
    colour = picture[picture.shape[0] // 2, picture.shape[1] // 3]  # of a cold tile
    cold = (np.abs(picture - colour) < 3).all(axis=2)
    columns = np.flatnonzero(cold.sum(axis=0) > 100)  # of the panel: the colour bar has a few such pixels
    rows = np.flatnonzero(cold.sum(axis=1) > 100)
    inside = picture[:, : columns[-1] + 1]
    panel = (np.abs(inside - (180, 4, 38)) < 3).all(axis=2)  # the hottest colour
    y, x = np.argwhere(panel).mean(axis=0)
    width = len(columns)
    assert x == pytest.approx(columns[0] + width * 12.5 / 13, abs=3)
    assert y == pytest.approx(rows[0] + width * 0.5 / 13, abs=3)


def test_a_panel_for_each_row(tmp_path: Path) -> None:
    for rows in (1, 2, 5):
        names = [f"row {row}" for row in range(rows)]
        plot_heatmaps(GRID, 200, np.zeros((rows, len(GRID))), names, tmp_path / f"{rows}.png", title="slide")
    widths = [_read(tmp_path / f"{rows}.png").shape[:2] for rows in (1, 2, 5)]
    assert widths[0][1] < widths[1][1] < widths[2][1]
    assert widths[2][0] > 1.5 * widths[1][0]  # the fifth stands in a second line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "b"]}, r"names must be 1 different ones, one for each row, got \['a', 'b'\]"),
        ({"attention_logits": np.zeros((1, 3))}, "attention_logits must have shape .* 104 tiles, got"),
        (
            {"attention_logits": np.full((1, len(GRID)), np.nan)},
            "attention_logits must be finite, got nan at row 0",
        ),
        ({"slide_size": None}, "slide_size must be given with a thumbnail"),
        ({"slide_size": (1500, 800)}, r"coords must lie in the slide of 1500 x 800 pixels, got \(200, 800\): pass"),
        ({"thumbnail": np.zeros((5, 5))}, r"thumbnail must be \(h, w, 3\) uint8, got \(5, 5\) float64"),
    ],
)
def test_refuses_and_leaves_no_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    given = {"attention_logits": np.zeros((1, len(GRID))), "names": ["a"], "thumbnail": _thumbnail()}
    arguments = {"slide_size": SIZE, **given, **change}
    with pytest.raises(ValueError, match=message):
        plot_heatmaps(GRID, 200, picture=tmp_path / "a.png", **arguments)
    assert not list(tmp_path.iterdir())


def test_bars_of_a_bag_are_as_long_as_attention_and_targets_are_framed(tmp_path: Path) -> None:
    images = np.zeros((3, 28, 28))
    images[:, 10, 10] = 1.0
    attention = np.array([0.2, 0.6, 0.2])
    plot_bag_attention(images, attention, np.array([False, False, True]), tmp_path / "a.png", "bag")
    picture = _read(tmp_path / "a.png")
    blue = np.argwhere((np.abs(picture - (31, 119, 180)) < 3).all(axis=2))[:, 1]  # columns of the bars' pixels
    red = np.argwhere((np.abs(picture - (214, 39, 40)) < 3).all(axis=2))[:, 1]
    black = np.flatnonzero((picture == 0).all(axis=2).sum(axis=0) > 80)  # columns of the digits
    digits = np.split(black, np.flatnonzero(np.diff(black) > 5) + 1)
    assert len(digits) == 3
    lengths = [len(np.unique(blue[(blue >= d[0] - 4) & (blue <= d[-1] + 4)])) for d in digits]
    assert lengths[0] / lengths[1] == pytest.approx(1 / 3, abs=0.03)
    assert lengths[2] == pytest.approx(lengths[0], abs=1)
    assert red.min() > digits[1][-1]


@pytest.mark.parametrize(
    ("attention", "marked", "message"),
    [
        (
            [0.5, 0.6],
            None,
            r"attention must be \(2,\) probabilities, got 1 row\(s\) with values from 0.5 that sum to 1.1",
        ),
        ([1.0], None, "attention must have shape .* 2 tiles"),
        ([0.5, 0.5], [True], r"marked must have shape \(2,\), one for each image, got \(1,\)"),
    ],
)
def test_bag_attention_refuses(
    tmp_path: Path, attention: list[float], marked: list[bool] | None, message: str
) -> None:
    frames = None if marked is None else np.array(marked)
    with pytest.raises(ValueError, match=message):
        plot_bag_attention(np.zeros((2, 28, 28)), np.array(attention), frames, tmp_path / "a.png")
