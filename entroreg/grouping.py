"""Groups for `entroreg.measures.group_entropy`, without gradient: by end point, by k-means, by identity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from entroreg import _checks

__all__ = ["Clusters", "by_end_point", "by_id", "by_kmeans"]


class Clusters(NamedTuple):
    """Points and their clusters.

    Attributes:
        groups: (N,) int64 in [0, K).
        centres: (K, D) in the dtype of the points.
    """

    groups: Tensor
    centres: Tensor


def by_end_point(trajectories: Tensor, num_groups: int, axis: int = 1) -> Tensor:
    r"""Return groups of trajectories that end side by side: bins of equal width between the outermost end points.

    $$c_n = \min\Big(K - 1, \Big\lfloor K \frac{y_n - \min y}{\max y - \min y} \Big\rfloor\Big),
      \qquad y_n = x_{n,T,axis}$$

    Args:
        trajectories: (..., N, T, D) floating, finite positions over time.
        num_groups: K, from 1.
        axis: the coordinate of D that is compared; the lateral one of a vehicle.

    Returns:
        (..., N) int64 in [0, K); all 0 where the trajectories end alike. A bin may be empty.

    Raises:
        TypeError: trajectories not a floating tensor.
        ValueError: fewer than three dimensions, an empty one, an axis that is not there, or K below 1.

    Example:
        >>> ends = torch.tensor([-1.0, -0.9, 0.0, 1.0])
        >>> by_end_point(torch.stack([torch.ones(4), ends], dim=-1)[:, None], num_groups=3)
        tensor([0, 0, 1, 2])

    Reference:
        Centaur (2025), arXiv 2503.11650. Differs from the paper: its bins are not published; these are ours.
    """
    _checks.require_floating("trajectories", trajectories, min_dim=3)
    _checks.require_number("num_groups", num_groups, low=1)
    if 0 in trajectories.shape[-3:]:
        raise ValueError(f"trajectories must have at least one point, got shape {tuple(trajectories.shape)}")
    if not -trajectories.shape[-1] <= axis < trajectories.shape[-1]:
        raise ValueError(f"axis must be one of the {trajectories.shape[-1]} coordinates, got {axis}")
    ends = trajectories.detach()[..., -1, axis]
    low, high = ends.aminmax(dim=-1, keepdim=True)
    width = torch.where(high > low, high - low, 1.0)
    return ((ends - low) / width * num_groups).long().clamp(0, num_groups - 1)


def by_kmeans(points: Tensor, num_groups: int, generator: torch.Generator, *, iterations: int = 50) -> Clusters:
    """Return k-means clusters, begun by k-means++: SciPy's, on the CPU.

    Args:
        points: (N, D) floating, finite, at least K of them different.
        num_groups: K, from 1.
        generator: on the CPU; one number is drawn from it.
        iterations: of Lloyd's algorithm, from 1.

    Returns:
        The clusters, on the device of ``points``.

    Raises:
        TypeError: points not a floating tensor.
        ValueError: points not (N, D), not finite or too few different ones, or a number below 1.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> by_kmeans(points, 2, torch.Generator().manual_seed(0)).centres.sort(0).values.flatten()
        tensor([0.0500, 5.0500])

    Reference:
        Arthur and Vassilvitskii (2007), "k-means++: the advantages of careful seeding".
    """
    _checks.require_floating("points", points)
    _checks.require_number("num_groups", num_groups, low=1)
    _checks.require_number("iterations", iterations, low=1)
    if points.dim() != 2:
        raise ValueError(f"points must have shape (N, D), got {tuple(points.shape)}")
    values = points.detach().cpu().double()
    if not bool(values.isfinite().all()):
        raise ValueError("points must be finite, got NaN or infinity")
    if (different := len(np.unique(values.numpy(), axis=0))) < num_groups:
        raise ValueError(f"points must have at least num_groups={num_groups} different rows, got {different}")
    seed = int(torch.randint(2**31, (), generator=generator))
    centres, groups = kmeans2(values.numpy(), num_groups, iter=iterations, minit="++", rng=seed)
    return Clusters(torch.from_numpy(groups).to(points.device, torch.int64), torch.from_numpy(centres).to(points))


def by_id(ids: Tensor) -> Tensor:
    """Return groups of equal identities, numbered from 0 in their order.

    Args:
        ids: (N,) integer, such as tracks, tokens or answers.

    Returns:
        (N,) int64; ``num_groups`` is their maximum plus 1.

    Raises:
        TypeError: ids not an integer tensor.
        ValueError: ids not (N,).

    Example:
        >>> by_id(torch.tensor([40, 7, 40, 9]))
        tensor([2, 0, 2, 1])
    """
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex():
        got = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"ids must be an integer tensor, got {got}")
    if ids.dim() != 1:
        raise ValueError(f"ids must have shape (N,), got {tuple(ids.shape)}")
    groups = np.unique(ids.cpu().numpy(), return_inverse=True)[1]
    return torch.from_numpy(groups).to(ids.device, torch.int64)
