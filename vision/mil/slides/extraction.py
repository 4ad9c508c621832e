"""A slide to a feature file: its tissue in tiles, each through a frozen network, in memory for two batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.slide import slide_name
from entroreg.vision.mil.slides.feature_writer import FeatureWriter, feature_file
from entroreg.vision.mil.slides.pictures import draw_tiles, write_png
from entroreg.vision.mil.slides.reading import Slide, open_slide
from entroreg.vision.mil.slides.tiles import Tiles, find_tiles

_READERS = 4  # threads that read tiles while the network works on the batch before

Embed = Callable[[Tensor], Tensor]
"""(n, h, w, 3) uint8, RGB, to (n, D) floating."""
Advance = Callable[[int, int], None]
"""Told of the tiles that are done, and of all."""


@dataclass(frozen=True)
class TiledSlide:
    """A slide whose tiles were found and drawn."""

    slide: str
    """Its name."""
    size: tuple[int, int]
    """Width and height, in pixels of level 0."""
    mpp: float
    """Micrometres a pixel of level 0."""
    tiles: int
    """Tiles with enough tissue."""
    candidates: int
    """Tiles of the whole grid."""
    tile_size: int
    """Side of a tile, in pixels of level 0."""
    thumbnail: Path
    """PNG of the whole slide."""
    picture: Path
    """PNG of the tiles over the thumbnail."""


@dataclass(frozen=True)
class ExtractedSlide:
    """A slide whose features were written."""

    tiled: TiledSlide
    """Its tiles."""
    features: Path
    """The feature file."""


def feature_path(slide: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Return where a slide's features go.

    Args:
        slide: its file.
        out: folder of all slides.

    Example:
        >>> feature_path("slides/a.b.svs", "features").as_posix()
        'features/a.b.h5'
    """
    return Path(out, f"{slide_name(Path(slide).name)}.h5")


def draw_slide(
    slide: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tile: int = 224,
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    min_tissue: float = 0.25,
) -> TiledSlide:
    """Return what tiles a slide has, and write ``NAME.thumbnail.png`` and, with the tiles, ``NAME.tiles.png``.

    Args:
        slide: the file of the slide.
        out: folder of the results, made if need be.
        tile: as in `extract_features`, and the others too.
        mpp: micrometres a pixel of a tile.
        slide_mpp: micrometres a pixel of level 0.
        min_tissue: least share of tissue.

    Raises:
        ValueError: an argument is out of range.
        DataError: the slide cannot be read, does not say its resolution, or has no tissue.
        OSError: a picture could not be written.
        ModuleNotFoundError: OpenSlide is not installed.
    """
    with open_slide(slide) as opened:
        thumbnail = opened.thumbnail()
        tiles = find_tiles(opened, thumbnail, tile=tile, mpp=mpp, slide_mpp=slide_mpp, min_tissue=min_tissue)
        return _draw(opened, thumbnail, tiles, Path(out))


def extract_features(
    slide: str | os.PathLike[str],
    out: str | os.PathLike[str],
    embed: Embed,
    *,
    encoder: str,
    tile: int = 224,
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    min_tissue: float = 0.25,
    batch_size: int = 32,
    advance: Advance | None = None,
) -> ExtractedSlide:
    """Return where a slide's features and the pictures of `draw_slide` were written; old ones are replaced.

    The feature file has TRIDENT's layout: ``features`` (N, D) float32, and ``coords`` (N, 2) int64, x and y of
    each tile's top left corner in pixels of level 0, with the attributes ``patch_size_level0``, ``level0_width``,
    ``level0_height`` and others.

    Args:
        slide: the file of the slide.
        out: folder of the results, made if need be.
        embed: what turns tiles into features, such as `embed_tiles` with its model; called for one batch at a time.
        encoder: its name, for the file.
        tile: side of a tile as the network sees it, in pixels.
        mpp: micrometres a pixel of it; 0.5 is an objective of 20x.
        slide_mpp: micrometres a pixel of level 0, where the slide does not say or is wrong.
        min_tissue: least share of a tile that is tissue, in [0, 1]; 0 keeps the whole grid.
        batch_size: tiles in memory at once; as many are read ahead.
        advance: told after each batch of the tiles done, and of all.

    Raises:
        ValueError: an argument is out of range.
        DataError: the slide cannot be read, does not say its resolution, or has no tissue; a feature is not finite.
        OSError: a result could not be written.
        ModuleNotFoundError: OpenSlide or h5py is not installed.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    at = feature_path(slide, out)
    with open_slide(slide) as opened:
        thumbnail = opened.thumbnail()
        tiles = find_tiles(opened, thumbnail, tile=tile, mpp=mpp, slide_mpp=slide_mpp, min_tissue=min_tissue)
        tiled = _draw(opened, thumbnail, tiles, Path(out))
        of_coords = {
            "name": tiled.slide,
            "patch_size": tile,
            "patch_size_level0": tiles.side,
            "overlap": 0,
            "level0_width": opened.size[0],
            "level0_height": opened.size[1],
            # Objectives in TRIDENT's sense: 10 micrometres a pixel are 1x.
            "level0_magnification": 10.0 / tiles.mpp,
            "target_magnification": 10.0 / mpp,
        }
        with feature_file(at, tiles.corners, of_coords, {"name": tiled.slide, "encoder": encoder}) as writer:
            _embed_all(opened, tiles, batch_size, embed, writer, advance)
    return ExtractedSlide(tiled, at)


def _draw(slide: Slide, thumbnail: NDArray[np.uint8], tiles: Tiles, out: Path) -> TiledSlide:
    name = slide_name(slide.path.name)
    thumbnail_at, picture_at = out / f"{name}.thumbnail.png", out / f"{name}.tiles.png"
    out.mkdir(parents=True, exist_ok=True)
    write_png(thumbnail_at, thumbnail)
    write_png(picture_at, draw_tiles(thumbnail, tiles.corners, tiles.side, slide.size))
    return TiledSlide(
        name, slide.size, tiles.mpp, len(tiles), tiles.candidates, tiles.side, thumbnail_at, picture_at
    )


def _embed_all(
    slide: Slide, tiles: Tiles, batch_size: int, embed: Embed, writer: FeatureWriter, advance: Advance | None
) -> None:
    done = 0
    # The readers end before the caller closes the slide, whatever happens here.
    with ThreadPoolExecutor(_READERS) as pool:
        for batch in _read_ahead(pool, slide, tiles, batch_size):
            writer.append(_require_finite(embed(batch), slide, tiles.corners[done:]))
            done += len(batch)
            if advance is not None:
                advance(done, len(tiles))


def _read_ahead(pool: ThreadPoolExecutor, slide: Slide, tiles: Tiles, batch_size: int) -> Iterator[Tensor]:
    """Return an iterator over batches (n, h, w, 3) uint8; each is read while the one before is in use."""

    def read(corner: NDArray[np.int64]) -> Tensor:
        x, y = corner.tolist()
        return torch.from_numpy(slide.read((x, y), (tiles.side, tiles.side), (tiles.tile, tiles.tile)))

    starts = range(0, len(tiles), batch_size)
    batches = (pool.map(read, tiles.corners[start : start + batch_size]) for start in starts)
    ahead = next(batches)
    for following in batches:
        yield torch.stack(list(ahead))
        ahead = following
    yield torch.stack(list(ahead))


def _require_finite(features: Tensor, slide: Slide, corners: NDArray[np.int64]) -> Tensor:
    finite = torch.isfinite(features).all(dim=1)
    if not finite.all():
        x, y = corners[int(finite.int().argmin())].tolist()
        raise DataError(
            f"{slide.path}: the features of the tile at x={x}, y={y} must be finite, got NaN or infinity: "
            "are the weights those of this network?"
        )
    return features
