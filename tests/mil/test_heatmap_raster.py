"""Tiles to cells: places against a loop over pixels, averages, and what it refuses."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.vision.mil import adapters, heatmaps
from entroreg.vision.mil.heatmaps import attention_raster, infer_tile_size, over_uniform

tiles = st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=12)


@given(corners=tiles, side=st.integers(1, 20), seed=st.integers(0, 99))
def test_every_cell_has_the_mean_of_the_tiles_over_it(corners: list[tuple[int, int]], side: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(corners))
    raster = attention_raster(np.array(corners), side, values)
    left, top = raster.origin
    for row, column in np.ndindex(raster.values.shape):
        x, y = left + column * raster.scale, top + row * raster.scale  # the first pixel of the cell
        over = [
            value for (a, b), value in zip(corners, values, strict=True) if a <= x < a + side and b <= y < b + side
        ]
        expected = np.mean(over) if over else np.nan
        assert raster.values[row, column] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_one_hot_tile_lands_in_its_cell_and_nowhere_else() -> None:
    corners = np.array([(x, y) for x in range(1000, 2536, 256) for y in range(500, 1268, 256)])
    values = np.where((corners == (1512, 1012)).all(axis=1), 5.0, 0.0)
    raster = attention_raster(corners, 256, values)
    assert raster.values.shape == (3, 6)  # rows are y
    assert np.argwhere(raster.values == 5.0).tolist() == [[2, 2]]
    assert (raster.origin, raster.scale) == ((1000, 500), 256)
    assert raster.extent == (1000, 2536, 1268, 500)


@given(corners=tiles, seed=st.integers(0, 99))
def test_downscaled_keeps_every_tile(corners: list[tuple[int, int]], seed: int) -> None:
    hot = np.random.default_rng(seed).integers(len(corners))
    values = np.zeros(len(corners))
    values[hot] = 1.0
    raster = attention_raster(np.array(corners) * 7, 3, values, longest=10)
    assert max(raster.values.shape) <= 10
    x, y = np.array(corners[hot]) * 7 + 1 - np.array(raster.origin)  # the middle pixel of the tile
    assert raster.values[y // raster.scale, x // raster.scale] > 0.0


def test_a_slide_of_400_000_tiles_is_at_most_2000_cells_wide() -> None:
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 150_000, size=(400_000, 2))
    raster = attention_raster(corners, 256, np.ones(400_000))
    assert 1900 < max(raster.values.shape) <= 2000
    assert np.nanmax(np.abs(raster.values - 1.0)) < 1e-9


@given(corners=tiles, seed=st.integers(0, 99))
def test_the_order_of_tiles_does_not_matter(corners: list[tuple[int, int]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    values, order = generator.normal(size=len(corners)), generator.permutation(len(corners))
    one = attention_raster(np.array(corners), 5, values)
    other = attention_raster(np.array(corners)[order], 5, values[order])
    np.testing.assert_allclose(one.values, other.values, atol=1e-9)


def test_tensors_are_taken_as_arrays_are() -> None:
    corners, values = torch.tensor([[0, 0], [8, 0]]), torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert attention_raster(corners, None, values.requires_grad_()).values.tolist() == [[1.0, 2.0]]


def test_tile_size_is_inferred_within_rows_and_columns() -> None:
    grid = np.array([(x, y) for x in range(0, 900, 224) for y in range(0, 900, 224)])
    assert infer_tile_size(grid) == 224
    assert infer_tile_size(np.concatenate([grid, grid + np.array([2003, 5])])) == 224  # a second region, shifted


@pytest.mark.parametrize(
    ("corners", "side", "values", "message"),
    [
        (np.zeros((3, 2), int), 4, np.zeros(2), r"values must have shape .* each of 3 tiles, got \(1, 2\)"),
        (np.zeros((2, 2), int), 4, [0.0, np.nan], "values must be finite, got nan at row 0, tile 1: look"),
        (np.zeros((2, 2), int), 4, np.zeros((2, 2)), "values must be one row, got 2"),
        (np.zeros((0, 2), int), 4, np.zeros(0), r"coords must have shape \(N, 2\) with N from 1, got \(0, 2\)"),
        (np.zeros((1, 3), int), 4, np.zeros(1), r"coords must have shape \(N, 2\)"),
        (np.zeros((1, 2), int), 0, np.zeros(1), "tile_size must be finite and at least 1, got 0"),
        (np.array([[0, 0], [4, 4]]), None, np.zeros(2), "tile_size must be given: no two tiles"),
    ],
)
def test_refuses(corners: np.ndarray, side: int | None, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_raster(corners, side, np.asarray(values))


def test_refuses_coordinates_that_are_no_pixels() -> None:
    with pytest.raises(TypeError, match="coords must be integers, pixels of level 0, got float64"):
        attention_raster(np.zeros((1, 2)), 4, np.zeros(1))


@given(seed=st.integers(0, 99), tiles=st.integers(1, 50), shift=st.floats(-1e4, 1e4))
def test_over_uniform_is_the_multiple_of_uniform_attention(seed: int, tiles: int, shift: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(3, tiles)) * 5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) * tiles
    np.testing.assert_allclose(2.0 ** over_uniform(logits + shift), expected, rtol=1e-8)
    np.testing.assert_allclose(over_uniform(torch.from_numpy(logits)), np.log2(expected), atol=1e-9)


def test_over_uniform_of_attention_on_one_tile_stays_finite() -> None:
    values = over_uniform(np.array([[1e4, -1e4, 0.0, 0.0]]))
    assert values[0, 0] == pytest.approx(2.0)
    assert np.isfinite(values).all()


def test_over_uniform_refuses() -> None:
    with pytest.raises(ValueError, match="logits must be finite, got inf at row 1, tile 0"):
        over_uniform(np.array([[0.0], [np.inf]]))
    with pytest.raises(ValueError, match="logits must have at least one tile, got none"):
        over_uniform(np.zeros((2, 0)))


MODULES = [
    f"{package.__name__}.{m.name}"
    for package in (heatmaps, adapters)
    for m in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    module = importlib.import_module(name)
    globs = {**vars(module), "torch": torch, "np": np}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name, globs=globs):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
