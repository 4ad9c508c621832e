"""Slides as OpenSlide reads them, and plain images as slides of one level."""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entroreg.vision.data.errors import DataError

_BLOCK = 2048  # pixels of a side that are held at once
_NEARLY = (
    1.01  # a level this much too coarse is taken: pyramids round, and the next one has 4 or 16 times the pixels
)
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
# What damaged images raise in pillow.
_OF_PILLOW = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, EOFError, struct.error)


@dataclass(frozen=True)
class Slide:
    """An open slide; made by `open_slide`."""

    path: Path
    """The file."""
    size: tuple[int, int]
    """Width and height in pixels of level 0, the finest."""
    mpp: float | None
    """Micrometres a pixel of level 0, None where the file does not say."""
    _handle: Any
    """OpenSlide's own object."""

    def read(self, corner: tuple[int, int], extent: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8, RGB, a region resampled; what lies outside the slide is white.

        Args:
            corner: x and y of the top left corner, in pixels of level 0.
            extent: width and height of the region, in pixels of level 0.
            shape: w and h, in pixels of the result.

        Raises:
            DataError: the file is damaged there.
        """
        from PIL import Image

        level, downsample = self._level(extent[0] / shape[0])
        across, down = (max(1, round(side / downsample)) for side in extent)
        with self._errors():
            region = self._handle.read_region(corner, level, (across, down))
        picture = Image.new("RGB", region.size, "white")
        picture.paste(region, mask=region)
        if picture.size != shape:
            picture = picture.resize(shape, Image.Resampling.LANCZOS)
        return np.array(picture)

    def thumbnail(self, longest: int = 2048) -> NDArray[np.uint8]:
        """Return (h, w, 3) uint8, RGB, the whole slide; it is read in blocks, however large its coarsest level.

        Args:
            longest: pixels of the longer side; a smaller slide is not enlarged.

        Raises:
            DataError: the file is damaged.
        """
        scale = max(1.0, max(self.size) / longest)
        width, height = (max(1, round(side / scale)) for side in self.size)
        step = max(1, int(_BLOCK / (scale / self._level(scale)[1])))
        picture = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, step):
            for left in range(0, width, step):
                right, bottom = min(left + step, width), min(top + step, height)
                near, far = self._level0(left, top, width, height), self._level0(right, bottom, width, height)
                extent = (far[0] - near[0], far[1] - near[1])
                picture[top:bottom, left:right] = self.read(near, extent, (right - left, bottom - top))
        return picture

    def _level0(self, x: int, y: int, width: int, height: int) -> tuple[int, int]:
        return round(x * self.size[0] / width), round(y * self.size[1] / height)

    def _level(self, downsample: float) -> tuple[int, float]:
        """Return the coarsest level that still has the pixels, and how much coarser than level 0 it is."""
        level = self._handle.get_best_level_for_downsample(downsample * _NEARLY)
        return level, self._handle.level_downsamples[level]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from openslide import OpenSlideError

        try:
            yield
        except OpenSlideError as error:
            raise DataError(f"{self.path} is damaged ({_first_line(error)}): copy it again") from error


@contextmanager
def open_slide(path: str | os.PathLike[str]) -> Iterator[Slide]:
    """Return a context with an open slide.

    Args:
        path: of any format that OpenSlide reads, or a PNG, JPEG or other plain image of 8 bits a channel.

    Raises:
        DataError: there is no such file, or it is neither a slide nor an image.
        ModuleNotFoundError: OpenSlide is not installed.
    """
    try:
        import openslide
    except ModuleNotFoundError as error:
        message = "reading slides needs OpenSlide: pip install 'entroreg[slides]'"
        raise ModuleNotFoundError(message, name="openslide") from error
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path} must be the file of a slide, got {'a folder' if path.is_dir() else 'no such file'}"
        )
    try:
        handle: Any = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        handle = openslide.ImageSlide(_plain_image(path))
    except openslide.OpenSlideError as error:
        raise DataError(f"{path} is damaged ({_first_line(error)}): copy it again") from error
    try:
        yield Slide(path, handle.dimensions, _mpp(handle), handle)
    finally:
        handle.close()


def _plain_image(path: Path) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pillow says of damaged files stands in the error below
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                mode, picture = image.mode, image.convert("RGBA")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(
                f"{path} is too large for a plain image, which is read as a whole: convert it to a pyramidal TIFF"
            ) from error
        except _OF_PILLOW as error:
            raise DataError(
                f"{path} must be a slide that OpenSlide reads or an image ({_first_line(error)}): "
                "copy it again, or convert it to a pyramidal TIFF"
            ) from error
    if mode not in _EIGHT_BIT:
        raise DataError(f"{path} must have 8 bits a channel, got mode {mode}: convert it to RGB")
    return picture


def _mpp(handle: Any) -> float | None:
    """Return the mean of the resolutions along x and y, which scanners make equal up to rounding."""
    try:
        found = [float(handle.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    except (KeyError, ValueError):  # absent, or no number
        return None
    mean = sum(found) / 2
    return mean if 0.0 < mean < math.inf else None


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
