"""Attention over slides: of a run's test bags, and of one slide from its file to its heat map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entroreg.benchmarks.errors import UserError, unknown_name
from entroreg.benchmarks.mil.building import data_errors_as_user_errors, open_dataset
from entroreg.benchmarks.mil.fold_checkpoint import fold_checkpoint, read_fold
from entroreg.benchmarks.mil.options import TrainMIL, from_json
from entroreg.benchmarks.mil.training import SPLITS
from entroreg.benchmarks.run_folder import parsed_config, set_threads
from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.bags import pack
from entroreg.vision.mil.dataset import BagDataset, BagPart
from entroreg.vision.mil.files.feature_files import read_slides
from entroreg.vision.mil.fitting import StandardizedBags
from entroreg.vision.mil.heatmaps import over_uniform, plot_heatmaps, write_geojson
from entroreg.vision.mil.models import DSMIL, MILModel
from entroreg.vision.mil.splits import read_folds

_FOLDER = "heatmaps"


def draw_run(folder: Path, config: dict[str, Any], slides: Sequence[str] = ()) -> list[dict[str, str]]:
    """Draw the attention over the slides of a run, each by the fold whose training did not see it.

    A thumbnail ``SLIDE.thumbnail.png`` beside the feature files, as ``entroreg mil features`` writes it, is drawn
    under the attention.

    Args:
        folder: of a run of ``entroreg train mil``; the files go to its folder ``heatmaps``.
        config: of the run, from ``read_config``.
        slides: names of those to draw; all if empty.

    Returns:
        For each slide its name, and where its ``picture`` (PNG) and ``geojson`` are.

    Raises:
        UserError: no such run or slide, no fold is done, or its data have no coordinates.
        CheckpointError: a checkpoint is damaged.
    """
    options = parsed_config(folder, config, from_json)
    if options.model.model in ("mean", "max"):
        raise UserError(
            f"a heat map needs a model with attention, got {options.model.model}: train another --model"
        )
    set_threads(options.run.threads)
    with data_errors_as_user_errors():
        dataset = open_dataset(options.data)
        folds = read_folds(folder / SPLITS, dataset)
    known = {part.slide: index for index in range(len(dataset)) for part in dataset.parts(index)}
    for slide in slides:
        if slide not in known:
            raise unknown_name("slide", slide, known)
    wanted = {known[slide] for slide in slides or known}
    done = [number for number in range(len(folds)) if fold_checkpoint(folder, number).exists()]
    if not done:
        raise UserError(f"{folder} has no finished fold yet: train longer, or go on with --resume")
    drawn = []
    for number in done:
        found = read_fold(fold_checkpoint(folder, number), options, dataset)
        for index in sorted(wanted & set(folds[number].test)):
            drawn += _draw_bag(found.model, found.dataset, index, options, folder / _FOLDER, slides)
    return drawn


def attention_of(model: MILModel, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return (K, N) attention logits and (C,) probabilities of one bag.

    Args:
        model: with attention.
        features: (N, D) in any floating dtype.

    Raises:
        UserError: the model has no attention.
    """
    model.eval()
    with torch.no_grad():
        output = model(pack([features.float()]))
    if output.attention_logits is None:
        raise UserError(
            f"a heat map needs a model with attention, got {type(model).__name__}: train another --model"
        )
    return output.attention_logits, output.logits[0].softmax(0)


def row_names(model: MILModel, classes: Sequence[str], rows: int) -> list[str]:
    """Return what the rows of a model's attention are: classes of DSMIL, else numbered branches or heads."""
    if isinstance(model, DSMIL):
        return list(classes)
    return ["attention"] if rows == 1 else [f"attention {row + 1}" for row in range(rows)]


def draw_attention(
    folder: Path,
    slide: str,
    coords: NDArray[np.int64],
    tile_size: int | None,
    logits: Tensor,
    names: Sequence[str],
    *,
    classes: Sequence[str],
    title: str,
    thumbnail: Path | None,
    slide_size: tuple[int, int] | None,
) -> dict[str, str]:
    """Write the PNG and the GeoJSON of a slide's attention, and return where they are.

    Args:
        folder: made if need be.
        slide: its name.
        coords: (N, 2), x and y of the tiles' top left corners.
        tile_size: side of a tile in the same pixels.
        logits: (K, N) attention logits.
        names: of the K rows.
        classes: of the data set; QuPath shows a tile in the class of its largest row where the rows are classes.
        title: of the picture.
        thumbnail: picture of the slide, if there is one.
        slide_size: width and height of the slide in the pixels of ``coords``, which a thumbnail needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / quote(slide, safe=" ()+,=@")
    picture, geojson = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.geojson")
    under = None if thumbnail is None or slide_size is None or not thumbnail.exists() else _pixels(thumbnail)
    plot_heatmaps(coords, tile_size, logits, names, picture, thumbnail=under, slide_size=slide_size, title=title)
    write_geojson(geojson, coords, tile_size, over_uniform(logits), names, classes=classes)
    return {"slide": slide, "picture": str(picture), "geojson": str(geojson)}


def draw_slide(path: Path, model: MILModel, dataset: BagDataset) -> dict[str, Any]:
    """Draw the attention of a model over one slide, beside its feature file.

    Args:
        path: feature file of one slide with coordinates.
        model: with attention.
        dataset: that the model was trained on, as it saw it.

    Returns:
        ``probabilities`` by class, and where ``features``, ``picture`` and ``geojson`` are.

    Raises:
        DataError: the file is no such file, or its features do not fit the model.
        UserError: the model has no attention.
    """
    (slide,) = read_slides(path)
    features, coords = torch.empty(slide.features.shape, dtype=slide.features.dtype), slide.coords()
    slide.check(into=features)
    if coords is None:
        raise DataError(f"{path} must hold coords, which a heat map needs, got none")
    if features.shape[1] != model.in_features:
        raise DataError(
            f"{path} must have the {model.in_features} features that the model was trained on, "
            f"got {features.shape[1]}: extract both with one network"
        )
    if isinstance(dataset, StandardizedBags):
        features = (features.float() - dataset.mean) / dataset.scale
    logits, probs = attention_of(model, features)
    drawn = draw_attention(
        path.parent,
        f"{slide.slide}.heatmap",
        coords.numpy(),
        slide.tile_size,
        logits,
        row_names(model, dataset.classes, len(logits)),
        classes=dataset.classes,
        title=slide.slide,
        thumbnail=path.with_name(f"{path.stem}.thumbnail.png"),
        slide_size=slide_size_of(path),
    )
    probabilities = dict(zip(dataset.classes, probs.tolist(), strict=True))
    return {"probabilities": probabilities, "features": str(path), **drawn}


def _draw_bag(
    model: MILModel,
    dataset: BagDataset,
    index: int,
    options: TrainMIL,
    folder: Path,
    slides: Sequence[str],
) -> list[dict[str, str]]:
    coords = dataset.coords(index)
    if coords is None:
        raise UserError(f"bag {dataset.names[index]!r} has no coordinates, which a heat map needs")
    logits, _probs = attention_of(model, dataset.features(index))
    names = row_names(model, dataset.classes, len(logits))
    bag, label = dataset.names[index], dataset.classes[dataset.labels[index]]
    drawn = []
    for part in dataset.parts(index):
        if slides and part.slide not in slides:
            continue
        title = f"{part.slide}, {label}, {options.model.model}" + (
            "" if bag == part.slide else f", of {bag}, shares within this slide"
        )
        drawn.append(_draw_part(part, coords, logits, names, dataset.classes, title, options, folder))
    return drawn


def _draw_part(
    part: BagPart,
    coords: Tensor,
    logits: Tensor,
    names: Sequence[str],
    classes: Sequence[str],
    title: str,
    options: TrainMIL,
    folder: Path,
) -> dict[str, str]:
    home = options.data.features if options.data.features.is_dir() else options.data.features.parent
    found = sorted(home.rglob(f"{part.slide}.h5"))
    return draw_attention(
        folder,
        part.slide,
        coords[part.start : part.stop].numpy(),
        part.tile_size,
        logits[:, part.start : part.stop],
        names,
        classes=classes,
        title=title,
        thumbnail=found[0].with_name(f"{part.slide}.thumbnail.png") if found else None,
        slide_size=slide_size_of(found[0]) if found else None,
    )


def slide_size_of(features: Path) -> tuple[int, int] | None:
    """Return the width and height of a slide in pixels of level 0, where its feature file says so."""
    import h5py

    with h5py.File(features, "r") as file:
        said = dict(file["coords"].attrs) if "coords" in file else {}
    names = ("level0_width", "level0_height")
    return (int(said[names[0]]), int(said[names[1]])) if all(name in said for name in names) else None


def _pixels(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
