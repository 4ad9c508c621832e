"""Which feature files and which labels belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.files.feature_files import read_slides
from entroreg.vision.mil.files.labels import SlideLabels
from entroreg.vision.mil.files.slide import H5_ENDINGS, TORCH_ENDINGS, FeatureSlide


def find_slides(path: Path) -> dict[str, FeatureSlide]:
    """Return the slides of a folder by name; features are not read.

    Args:
        path: a folder, searched with all folders in it, or one feature file.

    Raises:
        DataError: there is no feature file, a slide is in two, or one cannot be read.
    """
    endings = H5_ENDINGS + TORCH_ENDINGS
    files = [path]
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in endings)
        found = bool(files) and path.exists()
    except OSError as error:  # such as a name that is too long
        raise DataError(f"{path} must be a folder or a file that can be read, got: {error}") from error
    if not found:
        raise DataError(f"{path} must be a folder with {', '.join(endings)} files or one of them, got none")
    slides: dict[str, FeatureSlide] = {}
    for slide in (slide for file in files for slide in read_slides(file)):
        other = slides.setdefault(slide.slide, slide)
        if other is not slide:
            raise DataError(
                f"slide {slide.slide!r} must be in one file, got {other.where} and {slide.where}: "
                "give the folder of one of them"
            )
    return slides


def own_labels(path: Path, slides: Mapping[str, FeatureSlide]) -> SlideLabels:
    """Return the labels that the files give themselves.

    Args:
        path: where the slides come from, for messages.
        slides: by name.

    Raises:
        DataError: no file gives one.
    """
    class_of = {name: slide.label for name, slide in slides.items() if slide.label is not None}
    if not class_of:
        raise DataError(f"{path} must give labels of its own, got none in its files: give a CSV file of labels")
    return SlideLabels(str(path), class_of, None)


def labelled_slides(
    path: Path,
    slides: Mapping[str, FeatureSlide],
    table: SlideLabels,
    *,
    ignore_unlabelled: bool,
    ignore_without_features: bool,
) -> list[str]:
    """Return the names of the slides with features and a label, sorted.

    Args:
        path: where the slides come from, for messages.
        slides: by name.
        table: their labels.
        ignore_unlabelled: leave out slides without a label instead of refusing them.
        ignore_without_features: leave out labels without features instead of refusing them.

    Raises:
        DataError: a slide has no label, a label no slide, or nothing is left.
    """
    lost = [name for name in table.class_of if name not in slides]
    if lost and not ignore_without_features:
        raise DataError(
            f"{table.source}: every label must have a feature file in {path}, got none for {_few(lost)}: "
            "extract their features, remove the rows, or set ignore_without_features"
        )
    unlabelled = [slide.where for name, slide in slides.items() if name not in table.class_of]
    if unlabelled and not ignore_unlabelled:
        raise DataError(
            f"{table.source}: every slide must have a label, got none for {_few(unlabelled)}: "
            "add rows, remove the files, or set ignore_unlabelled"
        )
    names = sorted(name for name in slides if name in table.class_of)
    if not names:
        raise DataError(
            f"{table.source}: some label must have a feature file in {path}, got none: compare the names"
        )
    return names


def require_alike(slides: Sequence[FeatureSlide]) -> None:
    """Refuse slides whose features differ in width or dtype: they could not be in one batch.

    Raises:
        DataError: they differ; the message names two files.
    """
    first = slides[0]
    for slide in slides:
        for what, expected, got in (
            ("width", first.features.shape[1], slide.features.shape[1]),
            ("dtype", first.features.dtype, slide.features.dtype),
        ):
            if expected != got:
                raise DataError(
                    f"features must be of one {what}, got {expected} in {first.where} and {got} in {slide.where}: "
                    "extract them with one extractor"
                )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
