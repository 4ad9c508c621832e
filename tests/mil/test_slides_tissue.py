from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entroreg.vision.mil.slides.tissue import otsu_threshold, saturation, tissue_mask, tissue_share

GLASS, PINK, PALE = (245, 243, 246), (220, 120, 170), (235, 205, 222)


def _picture(height: int, width: int) -> np.ndarray:
    """Return glass with the noise of a scanner."""
    noise = np.random.RandomState(0).randint(-3, 4, (height, width, 3))
    return (np.array(GLASS) + noise).clip(0, 255).astype(np.uint8)


def _disc(height: int, width: int, centre: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def test_saturation_is_that_of_hsv() -> None:
    image = np.random.RandomState(1).randint(32, 256, (5, 7, 3)).astype(np.uint8)
    expected = [[colorsys.rgb_to_hsv(*(pixel / 255.0))[1] for pixel in row] for row in image]
    np.testing.assert_allclose(saturation(image), expected, atol=1e-6)


def test_saturation_of_black_noise_is_none() -> None:
    assert saturation(np.array([[[31, 0, 5], [0, 0, 0]]], dtype=np.uint8)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)])
def test_saturation_refuses_what_is_no_rgb_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image must be \(h, w, 3\) uint8"):
        saturation(image)


def _otsu(values: np.ndarray) -> float:
    """Return the threshold as the paper defines it, split by split, with the variance within the classes."""
    counts, edges = np.histogram(values, 256, (values.min(), values.max()))
    middles = (edges[:-1] + edges[1:]) / 2
    within = []
    for split in range(1, 256):
        parts = [(counts[:split], middles[:split]), (counts[split:], middles[split:])]
        total = 0.0
        for weights, places in parts:
            mean = np.average(places, weights=weights)
            total += float((weights * (places - mean) ** 2).sum())
        within.append(total)
    return float(middles[int(np.argmin(within))])


@given(seed=st.integers(0, 10**6), share=st.floats(0.02, 0.98), gap=st.floats(0.05, 0.9))
def test_otsu_is_the_least_variance_within_the_classes(seed: int, share: float, gap: float) -> None:
    draws = np.random.RandomState(seed)
    upper = draws.uniform(size=400) < share
    values = draws.normal(0.1, 0.03, 400) + gap * upper
    width = (values.max() - values.min()) / 256
    found, expected = ((threshold - values.min()) // width for threshold in (otsu_threshold(values), _otsu(values)))
    # Empty bins between the classes make splits that part the values alike: compare the parts.
    bins = np.minimum((values - values.min()) // width, 255)
    assert ((bins > found) == (bins > expected)).all()


def test_otsu_known_values_of_scikit_image() -> None:
    # threshold_otsu of scikit-image 0.26.0 on the same values
    values = np.concatenate([np.linspace(0.0, 0.2, 50), np.linspace(0.5, 1.0, 30)])
    assert otsu_threshold(values) == pytest.approx(0.201171875, abs=1e-12)


def test_otsu_of_one_value_is_the_value() -> None:
    assert otsu_threshold(np.full(5, 0.25)) == 0.25


@pytest.mark.parametrize("values", [np.zeros(0), np.array([0.0, np.nan])])
def test_otsu_refuses_nothing_and_nan(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values must be finite and at least one"):
        otsu_threshold(values)


def test_mask_is_the_disc_of_tissue_and_not_the_dust() -> None:
    image = _picture(200, 300)
    disc = _disc(200, 300, (90, 110), 60)
    image[disc] = PINK
    image[20:24, 250:254] = PINK
    mask = tissue_mask(image, smallest=100)
    assert not mask[15:30, 240:265].any()
    assert mask[_disc(200, 300, (90, 110), 58)].all()
    assert not mask[~_disc(200, 300, (90, 110), 64)].any()
    assert tissue_mask(image)[22, 252]


def test_pale_tissue_counts_beside_dark_tissue() -> None:
    image = _picture(100, 100)
    image[10:50, 10:90] = (120, 40, 110)
    image[60:95, 10:90] = (225, 180, 205)
    mask = tissue_mask(image)
    assert mask[12:48, 12:88].all()
    assert mask[62:93, 12:88].all()


def test_a_slide_that_is_all_tissue_is_kept_whole() -> None:
    image = np.empty((80, 80, 3), np.uint8)
    image[:, :40], image[:, 40:] = PINK, (110, 30, 100)
    assert tissue_mask(image).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_grey_slide_has_no_tissue(level: int) -> None:
    noise = np.random.RandomState(2).randint(-3, 4, (60, 60, 3))
    assert not tissue_mask((level + noise).clip(0, 255).astype(np.uint8)).any()


def test_share_of_known_tiles() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[:, 2:] = True  # the slide is ten times as large
    corners = np.array([[0, 0], [10, 0], [15, 10], [20, 20], [40, 20]])
    np.testing.assert_allclose(
        tissue_share(mask, corners, 20, (60, 40)), [0.0, 0.5, 0.75, 1.0, 1.0], rtol=0, atol=1e-12
    )


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factors=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    data=st.data(),
)
def test_share_is_the_mean_of_the_enlarged_mask(
    seed: int, shape: tuple[int, int], factors: tuple[int, int], data: st.DataObject
) -> None:
    mask = np.random.RandomState(seed).uniform(size=shape) < 0.5
    large = mask.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
    height, width = large.shape
    side = data.draw(st.integers(1, min(height, width)))
    x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    share = tissue_share(mask, np.array([[x, y]]), side, (width, height))
    np.testing.assert_allclose(share, large[y : y + side, x : x + side].mean(), rtol=0, atol=1e-8)


def test_share_of_a_whole_tile_is_exactly_one() -> None:
    corners = np.array([[x, y] for y in range(0, 900, 97) for x in range(0, 900, 89)])
    assert (tissue_share(np.ones((333, 271), dtype=bool), corners, 61, (1000, 1000)) == 1.0).all()
