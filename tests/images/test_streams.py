from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from entroreg.benchmarks.image_adaptation.report import stream_row
from entroreg.benchmarks.image_adaptation.streams import (
    METHODS,
    make_stream,
    method,
    run_stream,
    trained_classifier,
)
from entroreg.benchmarks.suites import image_adaptation
from entroreg.vision.images.data import ImageSet


def _bars(count: int = 240, seed: int = 0) -> ImageSet:
    """Images of four classes that a small network learns at once: a bright bar in one of four places."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    images = rng.integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 4 * label : 4 * label + 3] = 220
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels), 4)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return trained_classifier(tmp_path_factory.mktemp("made") / "classifier", _bars(), 6, 0)


def test_a_classifier_is_made_once_and_only_for_its_settings(tmp_path: Path) -> None:
    made = trained_classifier(tmp_path / "one", _bars(64), 1, 0)
    read = trained_classifier(tmp_path / "one", _bars(64), 1, 0)
    assert not read.training
    pairs = zip(made.state_dict().values(), read.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match=r"must hold a classifier of .*'epochs': 2.*: remove it$"):
        trained_classifier(tmp_path / "one", _bars(64), 2, 0)


def test_streams_hold_every_image_once_and_keep_labels_beside_them() -> None:
    images = _bars(50)
    stream = make_stream(images, "none", 5, 16, by_class=False, seed=1)
    assert [len(batch) for batch in stream.batches] == [16, 16, 16, 2]
    for image, label in zip(torch.cat(stream.batches), stream.labels, strict=True):
        assert float(image[0, :, 4 * label : 4 * label + 3].mean()) > 0.8
    ordered = make_stream(images, "contrast", 5, 16, by_class=True, seed=1)
    assert bool((ordered.labels.diff() >= 0).all())
    assert float(torch.cat(ordered.batches).std()) < 0.1


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_predicts_the_clean_stream(name: str, classifier: torch.nn.Module) -> None:
    before = [parameter.clone() for parameter in classifier.parameters()]
    stream = make_stream(_bars(48, seed=5), "none", 5, 16, by_class=False, seed=2)
    found = run_stream(method(name, classifier, _bars(64), 0), stream)
    assert found["images"] == 48
    # crop_and_flip moves a bar into another's place, so MEMO's augmentations are wrong for these classes
    assert found["error"] < (1.0 if name == "memo" else 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.parameters(), strict=True))  # a copy adapts


def test_figures_of_a_stream_by_hand() -> None:
    stream = make_stream(_bars(40), "none", 5, 10, by_class=False, seed=0)

    def predict(images: Tensor) -> Tensor:
        return torch.eye(4)[torch.ones(len(images), dtype=torch.int64)]

    found = run_stream(predict, stream)
    wrong = (stream.labels != 1).double()
    assert found["error"] == pytest.approx(float(wrong.mean()))
    assert found["first_quarter_error"] == pytest.approx(float(wrong[:10].mean()))
    assert found["last_quarter_error"] == pytest.approx(float(wrong[-10:].mean()))
    assert found["largest_class_share"] == 1.0
    assert np.mean(found["running_error"]) == pytest.approx(found["error"])
    row = stream_row([{**found, "seed": 3}], {3: {"error": 0.25, "images": 40}})
    assert row["difference"] == [pytest.approx(found["error"] - 0.25)]
    assert stream_row([{**found, "seed": 3}], {3: {"error": 0.25, "images": 41}})["difference"] == []
    assert row["collapsed"] == [True]


def test_cells_name_what_there_is() -> None:
    assert set(image_adaptation.METHODS) == set(METHODS)
    cells = image_adaptation.cells("small")
    assert len(cells) == len(set(cells)) == 3 * 5 * 6
