"""Reading slides and finding their tiles: orientation, resolution, levels and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.slides import reading
from entroreg.vision.mil.slides.pictures import draw_tiles
from entroreg.vision.mil.slides.reading import Slide, open_slide
from entroreg.vision.mil.slides.tiles import find_tiles, grid_corners, resolution, side_at_level0

RED, GREEN, BLUE, GLASS = (200, 60, 60), (60, 180, 60), (60, 60, 200), (245, 244, 246)


def _squares() -> NDArray[np.uint8]:
    """Return a slide of 320 x 192 pixels of glass with red at x = 192, y = 0; green at 0, 128; blue at 256, 64."""
    image = np.full((192, 320, 3), GLASS, np.uint8)
    for (x, y), colour in {(192, 0): RED, (0, 128): GREEN, (256, 64): BLUE}.items():
        image[y : y + 64, x : x + 64] = colour
    return image


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    path = tmp_path / "squares.png"
    Image.fromarray(_squares()).save(path)
    return path


class _Pyramid:
    """A slide of two levels, the coarser one blue, so that a read shows its level."""

    level_downsamples = (1.0, 4.0005)  # as scanners round
    dimensions = (400, 200)

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def get_best_level_for_downsample(self, downsample: float) -> int:
        return int(downsample >= self.level_downsamples[1])

    def read_region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        self.asked.append((corner, level, size))
        return Image.new("RGBA", size, (*(RED, BLUE)[level], 255))


def _pyramid(mpp: float | None = 0.25) -> tuple[Slide, _Pyramid]:
    handle = _Pyramid()
    return Slide(Path("pyramid.svs"), handle.dimensions, mpp, handle), handle


def test_plain_image_is_a_slide_of_its_size(squares: Path) -> None:
    with open_slide(squares) as slide:
        assert slide.size == (320, 192)
        assert slide.mpp is None
        np.testing.assert_array_equal(slide.thumbnail(), _squares())


def test_reads_the_region_whose_corner_is_x_y(squares: Path) -> None:
    with open_slide(squares) as slide:
        np.testing.assert_array_equal(slide.read((182, 10), (30, 20), (30, 20)), _squares()[10:30, 182:212])
        tile = slide.read((256, 64), (64, 64), (16, 16))
    assert tile.shape == (16, 16, 3)
    assert (tile == BLUE).all()


def test_outside_and_transparent_are_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[200, 0, 0, 255], [0, 0, 200, 0]]], np.uint8)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        found = slide.read((0, 0), (2, 2), (2, 2)).tolist()
    assert found == [[[200, 0, 0], [255, 255, 255]], [[255, 255, 255], [255, 255, 255]]]


def test_takes_the_coarsest_level_that_is_fine_enough() -> None:
    slide, handle = _pyramid()
    assert (slide.read((100, 40), (80, 80), (20, 20)) == BLUE).all()
    assert (slide.read((100, 40), (80, 80), (40, 40)) == RED).all()
    assert handle.asked == [((100, 40), 1, (20, 20)), ((100, 40), 0, (80, 80))]


@pytest.mark.parametrize("longest", [320, 100, 77])
def test_thumbnail_in_blocks_is_the_thumbnail_at_once(
    squares: Path, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(squares) as slide:
        whole = slide.thumbnail(longest)
        monkeypatch.setattr(reading, "_BLOCK", 50)
        blocks = slide.thumbnail(longest)
    assert blocks.shape == whole.shape == (round(192 * longest / 320), longest, 3)
    # Blocks begin at whole pixels of the slide, so edges of squares may lie one pixel of the thumbnail off.
    differs = np.abs(blocks.astype(int) - whole).max(axis=-1) > 30
    assert differs.mean() < 0.05


def test_thumbnail_of_a_pyramid_holds_no_large_level(monkeypatch: pytest.MonkeyPatch) -> None:
    slide, handle = _pyramid()
    monkeypatch.setattr(reading, "_BLOCK", 16)
    assert (slide.thumbnail(100) == BLUE).all()
    assert all(level == 1 and max(size) <= 17 for _, level, size in handle.asked)


@given(width=st.integers(1, 300), height=st.integers(1, 300), side=st.integers(1, 100))
def test_grid_covers_all_but_the_rim(width: int, height: int, side: int) -> None:
    corners = grid_corners((width, height), side)
    assert len(corners) == (width // side) * (height // side)
    expected = {(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)}
    assert {(x, y) for x, y in corners.tolist()} == expected


def test_tiles_are_those_of_the_squares(squares: Path) -> None:
    with open_slide(squares) as slide:
        tiles = find_tiles(slide, slide.thumbnail(), tile=64, mpp=0.5, slide_mpp=0.5, min_tissue=0.5)
    assert tiles.corners.tolist() == [[192, 0], [256, 64], [0, 128]]
    assert tiles.candidates == 15
    assert (tiles.shares > 0.9).all()


def test_tiles_at_half_the_resolution_are_twice_as_wide(squares: Path) -> None:
    with open_slide(squares) as slide:
        tiles = find_tiles(slide, slide.thumbnail(), tile=32, mpp=1.0, slide_mpp=0.25, min_tissue=0.2)
    assert (tiles.side, tiles.tile, tiles.candidates) == (128, 32, 2)
    assert tiles.corners.tolist() == [[128, 0]]


def test_zero_takes_the_whole_grid(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 96, 3), GLASS, np.uint8)).save(tmp_path / "glass.png")
    with open_slide(tmp_path / "glass.png") as slide:
        tiles = find_tiles(slide, slide.thumbnail(), tile=32, slide_mpp=0.5, min_tissue=0.0)
        assert len(tiles) == 6
        with pytest.raises(DataError, match=r"glass\.png has no tile with tissue on 25% of it, the most is 0\.0%"):
            find_tiles(slide, slide.thumbnail(), tile=32, slide_mpp=0.5)


def test_given_resolution_goes_before_the_files() -> None:
    slide, _ = _pyramid(mpp=0.25)
    assert resolution(slide) == 0.25
    assert resolution(slide, 0.5) == 0.5
    assert side_at_level0(slide, 0.25, tile=224, mpp=0.5) == 448
    assert side_at_level0(slide, 0.499, tile=224, mpp=0.5) == 224


def test_a_slide_without_resolution_needs_one() -> None:
    slide, _ = _pyramid(mpp=None)
    with pytest.raises(DataError, match=r"pyramid\.svs does not say its resolution: .* --slide-mpp 0\.5"):
        resolution(slide)


def test_a_coarse_slide_is_not_enlarged() -> None:
    slide, _ = _pyramid(mpp=1.0)
    with pytest.raises(
        DataError, match=r"has 1 micrometres a pixel, too coarse for tiles with 0\.5: ask for --mpp 1"
    ):
        side_at_level0(slide, 1.0, tile=224, mpp=0.5)


def test_a_slide_smaller_than_a_tile_is_refused(squares: Path) -> None:
    with open_slide(squares) as slide, pytest.raises(DataError, match="320 x 192 pixels, less than a tile of 224"):
        find_tiles(slide, slide.thumbnail(), slide_mpp=0.5)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("tile", 0, "tile must be finite and above 0, got 0"),
        ("mpp", float("inf"), "mpp must be finite and above 0, got inf"),
        ("slide_mpp", -1.0, r"slide_mpp must be finite and above 0, got -1\.0"),
        ("min_tissue", 1.5, r"min_tissue must be in \[0, 1\], got 1\.5"),
    ],
)
def test_arguments_out_of_range(squares: Path, argument: str, value: float, message: str) -> None:
    arguments = {"tile": 32, "mpp": 0.5, "slide_mpp": 0.5, "min_tissue": 0.1, argument: value}
    with open_slide(squares) as slide, pytest.raises(ValueError, match=message):
        find_tiles(slide, slide.thumbnail(), **arguments)  # type: ignore[arg-type]


def test_what_is_no_slide_is_refused(tmp_path: Path, squares: Path) -> None:
    whole = squares.read_bytes()
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.svs").write_text("not a slide")
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name, message in {
        "none.svs": "must be the file of a slide, got no such file",
        ".": "must be the file of a slide, got a folder",
        "text.svs": "must be a slide that OpenSlide reads or an image",
        "half.png": "must be a slide that OpenSlide reads or an image .*copy it again",
        "deep.png": "must have 8 bits a channel, got mode I;16: convert it to RGB",
    }.items():
        with pytest.raises(DataError, match=message) as caught, open_slide(tmp_path / name):
            pass
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_huge_plain_image_is_refused(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(DataError, match="is too large for a plain image"), open_slide(squares):
        pass


def test_damage_found_while_reading_names_the_slide() -> None:
    from openslide import OpenSlideError

    slide, handle = _pyramid()

    def fails(*_arguments: Any) -> Image.Image:
        raise OpenSlideError("not a JPEG file\nmore")

    handle.read_region = fails  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"^pyramid\.svs is damaged \(not a JPEG file\): copy it again$"):
        slide.read((0, 0), (8, 8), (8, 8))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.26"}, 0.255),
        ({"openslide.mpp-x": "0.25"}, None),
        ({"openslide.mpp-x": "0", "openslide.mpp-y": "0"}, None),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "0.5"}, None),
        ({"openslide.mpp-x": "fine", "openslide.mpp-y": "0.5"}, None),
    ],
)
def test_resolution_of_the_file(
    squares: Path, properties: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openslide

    monkeypatch.setattr(openslide.ImageSlide, "properties", properties)
    with open_slide(squares) as slide:
        assert slide.mpp == expected


def test_without_openslide_the_pip_line_is_shown(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with (
        pytest.raises(ModuleNotFoundError, match=r"pip install 'entroreg\[slides\]'") as caught,
        open_slide(squares),
    ):
        pass
    assert caught.value.name == "openslide"


def test_picture_outlines_the_tiles_and_pales_the_rest() -> None:
    thumbnail = np.full((20, 40, 3), 100, np.uint8)
    picture = draw_tiles(thumbnail, np.array([[100, 50]]), 50, (400, 200))
    expected = np.full((20, 40, 3), 185)  # 255 - 0.45 * (255 - 100)
    expected[5:10, 10:15] = (0, 120, 60)
    expected[6:9, 11:14] = 100
    np.testing.assert_array_equal(picture, expected)


def test_picture_shows_tiles_below_a_pixel() -> None:
    picture = draw_tiles(np.full((10, 10, 3), 255, np.uint8), np.array([[312, 508], [996, 996]]), 3, (1000, 1000))
    assert np.argwhere((picture != 255).any(axis=-1)).tolist() == [[5, 3], [9, 9]]
