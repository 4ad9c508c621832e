from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.grouping import by_end_point, by_id, by_kmeans
from entroreg.measures import group_entropy


def _trajectories(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**31), count=st.integers(1, 20), groups=st.integers(1, 6))
def test_end_points_fall_into_bins_of_equal_width(seed: int, count: int, groups: int) -> None:
    trajectories = _trajectories(seed, 3, count, 4, 2)
    found = by_end_point(trajectories, groups)
    for row, ends in zip(found, trajectories[:, :, -1, 1].numpy(), strict=True):
        edges = np.linspace(ends.min(), ends.max(), groups + 1, dtype=np.float64)
        expected = np.clip(np.digitize(ends.astype(np.float64), edges[1:-1]), 0, groups - 1) if count > 1 else [0]
        near = np.abs(ends[:, None] - edges).min(axis=1) < 1e-5  # on an edge, rounding decides
        assert all((row.numpy() == expected) | near)
    assert int(found.min()) >= 0
    assert int(found.max()) < groups


def test_the_axis_and_only_the_last_point_count() -> None:
    trajectories = torch.zeros(3, 5, 2)
    trajectories[:, -1, 0] = torch.tensor([0.0, 1.0, 2.0])
    trajectories[:, 0, 1] = torch.tensor([5.0, 1.0, 0.0])
    assert by_end_point(trajectories, 3, axis=0).tolist() == [0, 1, 2]
    assert by_end_point(trajectories, 3, axis=1).tolist() == [0, 0, 0]
    assert by_end_point(trajectories, 3, axis=-2).tolist() == [0, 1, 2]


def test_end_points_make_groups_for_cluster_entropy() -> None:
    trajectories = _trajectories(0, 100, 6, 2)
    entropy = group_entropy(
        torch.zeros(100), by_end_point(trajectories, 5), agg="mean", num_groups=5, validate=True
    )
    assert float(entropy) == pytest.approx(np.log(5), abs=1e-6)


def test_kmeans_finds_clusters_that_are_far_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(60) % 4
    points = 10.0 * torch.eye(4)[truth] + 0.1 * torch.randn(60, 4, generator=generator)
    groups, centres = by_kmeans(points, 4, generator)
    assert len({(int(a), int(b)) for a, b in zip(truth, groups, strict=True)}) == 4
    for group in range(4):
        assert torch.allclose(centres[group], points[groups == group].mean(dim=0), atol=1e-5)
    assert groups.dtype == torch.int64
    assert centres.dtype == points.dtype


def test_kmeans_is_a_function_of_its_generator() -> None:
    points = _trajectories(1, 50, 3)
    first = by_kmeans(points, 7, torch.Generator().manual_seed(3))
    again = by_kmeans(points, 7, torch.Generator().manual_seed(3))
    assert torch.equal(first.groups, again.groups)
    assert torch.equal(first.centres, again.centres)


@given(ids=st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_equal_identities_share_a_group(ids: list[int]) -> None:
    groups = by_id(torch.tensor(ids)).tolist()
    assert sorted(set(groups)) == list(range(len(set(ids))))
    for one, its_group in zip(ids, groups, strict=True):
        for other, other_group in zip(ids, groups, strict=True):
            assert (one == other) == (its_group == other_group)


def test_bad_input() -> None:
    trajectories, points = torch.zeros(3, 4, 2), torch.zeros(3, 2)
    generator = torch.Generator().manual_seed(0)
    for call, message in (
        (lambda: by_end_point(points, 2), r"^trajectories must have at least 3 dimension"),
        (lambda: by_end_point(trajectories[:, :0], 2), r"^trajectories must have at least one point, got shape"),
        (lambda: by_end_point(trajectories, 0), r"^num_groups must be finite and at least 1"),
        (lambda: by_end_point(trajectories, 2, axis=2), r"^axis must be one of the 2 coordinates, got 2$"),
        (lambda: by_kmeans(trajectories, 2, generator), r"^points must have shape \(N, D\), got \(3, 4, 2\)$"),
        (
            lambda: by_kmeans(points, 2, generator),
            r"^points must have at least num_groups=2 different rows, got 1$",
        ),
        (lambda: by_kmeans(points * torch.nan, 1, generator), r"^points must be finite, got NaN or infinity$"),
        (lambda: by_kmeans(points, 0, generator), r"^num_groups must be finite and at least 1"),
        (lambda: by_kmeans(points, 1, generator, iterations=0), r"^iterations must be finite and at least 1"),
        (lambda: by_id(torch.zeros(2, 2, dtype=torch.int64)), r"^ids must have shape \(N,\), got \(2, 2\)$"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^ids must be an integer tensor, got torch.float32$"):
        by_id(torch.zeros(2))
    with pytest.raises(TypeError, match=r"^trajectories must be floating"):
        by_end_point(trajectories.long(), 2)
    with pytest.raises(TypeError, match=r"^points must be floating"):
        by_kmeans(points.long(), 1, generator)
