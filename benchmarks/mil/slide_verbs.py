"""The verb ``entroreg mil``: from a slide to a feature file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from entroreg.benchmarks.errors import MISSING, OK, UserError
from entroreg.benchmarks.output_folder import require_writable
from entroreg.benchmarks.ranges import require_positive, require_whole

if TYPE_CHECKING:
    from entroreg.vision.mil.slides.extraction import ExtractedSlide, TiledSlide

_WEIGHTS, _CHECKPOINT = "efficientnet-lite0", "efficientnet-lite0-57934424.pth"
_CPU_BATCH, _GPU_BATCH = 4, 64  # a CPU's caches hold the feature maps of a few tiles: twice as fast as with 32

_MOST_PIXELS = 16_384  # of a tile's side
_MOST_TILES = 4_096  # of a batch


@dataclass(frozen=True)
class TilingOptions:
    """The slide and its tiles."""

    slide: tyro.conf.Positional[Path]
    """Slide of any format that OpenSlide reads, or a PNG or JPEG image."""
    out: Path = Path("features")
    """Folder of feature files."""
    tile: int = 224
    """Side of a tile as the network sees it, in pixels."""
    mpp: float = 0.5
    """Micrometres a pixel of a tile; 0.5 is an objective of 20x, 0.25 of 40x."""
    slide_mpp: float | None = None
    """Micrometres a pixel of the slide, where the file does not say or is wrong."""
    min_tissue: float = 0.25
    """Least share of a tile that is tissue; 0 takes every tile."""

    def __post_init__(self) -> None:
        require_whole("tile", self.tile, 1, _MOST_PIXELS)
        for name in ("mpp", "slide_mpp"):
            value = getattr(self, name)
            if value is not None:
                require_positive(name, value)
        if not 0.0 <= self.min_tissue <= 1.0:
            raise ValueError(f"min_tissue must be in [0, 1], got {self.min_tissue}")


@dataclass(frozen=True)
class DrawTiles:
    """Find the tissue of a slide, tile it and draw the tiles, to be looked at before features are computed.

    OUT gets NAME.thumbnail.png and NAME.tiles.png.

    Example: entroreg mil tiles slide.svs --min-tissue 0.5
    """

    tiling: TilingOptions
    json: bool = False
    """Print the result as JSON."""

    def execute(self) -> int:
        """Draw; the last lines say where everything is."""
        from entroreg.benchmarks.mil.building import data_errors_as_user_errors
        from entroreg.vision.mil.slides.extraction import draw_slide

        options = asdict(self.tiling)
        require_writable(self.tiling.out)
        with data_errors_as_user_errors():
            tiled = draw_slide(options.pop("slide"), options.pop("out"), **options)
        _print_json(tiled) if self.json else _print_tiled(tiled)
        return OK


@dataclass(frozen=True)
class Features:
    """Find the tissue of a slide, tile it and write the features of its tiles by EfficientNet-Lite0.

    OUT gets NAME.h5 in TRIDENT's layout, NAME.thumbnail.png and NAME.tiles.png.

    Example: entroreg mil features slide.svs --out features
    """

    tiling: TilingOptions
    weights: Path | None = None
    """Checkpoint of EfficientNet-Lite0; if left out, that of entroreg data fetch, fetched if need be."""
    batch_size: int | None = None
    """Tiles that go through the network at once; 4 on a CPU and 64 on a GPU if left out."""
    device: str = "auto"
    """Torch device: auto, cpu, cuda."""
    overwrite: bool = False
    """Replace the feature file of a slide of the same name."""
    json: bool = False
    """Print the result as JSON."""

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            require_whole("batch_size", self.batch_size, 1, _MOST_TILES)

    def execute(self) -> int:
        """Extract; the last lines say where everything is."""
        from entroreg.benchmarks.mil.building import data_errors_as_user_errors
        from entroreg.vision.mil.slides.extraction import feature_path

        written = feature_path(self.tiling.slide, self.tiling.out)
        if written.exists() and not self.overwrite:
            raise UserError(f"{written} is there already: add --overwrite, or choose another --out")
        with data_errors_as_user_errors():
            extracted = self.extract()
        if self.json:
            _print_json(extracted.tiled, features=str(extracted.features))
        else:
            _print_tiled(extracted.tiled)
            print(f"features   {extracted.features}")
        return OK

    def extract(self) -> ExtractedSlide:
        """Write the feature file and the pictures.

        Raises:
            DataError: the slide cannot be read or has no tissue, or the weights are of another network.
            UserError: there is no such device, or the weights cannot be fetched.
        """
        from functools import partial

        from entroreg.benchmarks.mil.building import resolve_device
        from entroreg.benchmarks.signals import terminate_as_exception
        from entroreg.vision.mil.slides.efficientnet_lite import embed_tiles, load_efficientnet_lite0
        from entroreg.vision.mil.slides.extraction import extract_features
        from entroreg.vision.mil.slides.reading import open_slide

        with open_slide(self.tiling.slide):
            pass  # what is no slide, or cannot be written, is refused before any weights are fetched
        require_writable(self.tiling.out)
        device = resolve_device(self.device)
        model = load_efficientnet_lite0(self.weights or _fetched_weights()).to(device)
        batch_size = self.batch_size or (_CPU_BATCH if device.type == "cpu" else _GPU_BATCH)
        embed = partial(embed_tiles, model, batch_size=batch_size)
        options = {**asdict(self.tiling), "encoder": _WEIGHTS, "batch_size": batch_size}
        # A run that is terminated, too, takes its half-written file with it.
        with terminate_as_exception(), _shown(self.tiling.slide.name) as advance:
            return extract_features(options.pop("slide"), options.pop("out"), embed, advance=advance, **options)


def _fetched_weights() -> Path:
    from entroreg.vision.data.fetching import FetchError, fetched, is_fetched

    if not is_fetched(_WEIGHTS):
        print(f"fetching the weights of {_WEIGHTS}, 17 MB", file=sys.stderr, flush=True)
    try:
        return fetched(_WEIGHTS) / _CHECKPOINT
    except FetchError as error:
        raise UserError(f"{error}; or give --weights the file {_CHECKPOINT}", MISSING) from error


@contextmanager
def _shown(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress from the first call on, which says how many tiles there are."""
    from entroreg.benchmarks.progress import Progress, show_progress

    with ExitStack() as stack:
        bars: list[Progress] = []

        def advance(done: int, tiles: int) -> None:
            if not bars:
                bars.append(stack.enter_context(show_progress(title, tiles)))
            bars[0].advance(done, [])

        yield advance


def _print_json(tiled: TiledSlide, **more: Any) -> None:
    found = {**asdict(tiled), **more}
    print(json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in found.items()}))


def _print_tiled(tiled: TiledSlide) -> None:
    width, height = tiled.size
    print(f"{tiled.slide}, {width} x {height} pixels of {tiled.mpp:g} micrometres")
    print(f"tiles      {tiled.tiles} of {tiled.candidates} have tissue, each {tiled.tile_size} pixels wide on it")
    print(f"thumbnail  {tiled.thumbnail}")
    print(f"picture    {tiled.picture}")
