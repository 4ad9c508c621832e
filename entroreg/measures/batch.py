"""Entropies of a whole batch.

Unlike the per-element measures these cannot be masked per element and must not be averaged over micro-batches:
the entropy of a union is not the mean of the entropies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from entroreg import _checks
from entroreg.measures._softmax import check_logits, entropy_of_weights, masked_log_softmax


def marginal_entropy(logits: Tensor, temperature: float = 1.0, *, validate: bool = False) -> Tensor:
    r"""Return the entropy of the batch's mean distribution, in nats, non-negated.

    $$H\left(\tfrac1B \sum_b \mathrm{softmax}(z_b / \tau)\right)$$

    Args:
        logits: (..., B, N) floating, unnormalised; the mean runs over B. Rows of -inf alone are left out.
        temperature: logit divisor tau, above 0.
        validate: read the values and refuse NaN and +inf; costs a device sync.

    Returns:
        (...) in the dtype of ``logits``, between 0 and log N.

    Raises:
        TypeError: logits not a floating tensor.
        ValueError: fewer than two dimensions, temperature not above 0, or NaN found by ``validate``.

    Example:
        >>> marginal_entropy(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
        tensor(0.6931)

    Reference:
        Liang et al. (2020), SHOT, arXiv 2002.08546 (the diversity term).
    """
    _checks.require_floating("logits", logits, min_dim=2)
    check_logits(logits, None, temperature, validate)
    _, probs, _, empty = masked_log_softmax(logits, None, temperature)
    rows = (~empty).sum(dim=-1, keepdim=True).clamp(min=1)  # an empty batch divides by 1 and has entropy 0
    mean = torch.where(empty.unsqueeze(-1), 0.0, probs).sum(dim=-2) / rows
    return entropy_of_weights(mean).to(logits.dtype)


def spectral_entropy(features: Tensor) -> Tensor:
    r"""Return the von Neumann entropy of the batch's covariance, in nats, non-negated.

    $$S = -\sum_i \lambda_i \log \lambda_i, \quad \lambda = \mathrm{eig}(C / \mathrm{tr}\,C),\ C = \mathrm{Cov}(x)$$

    exp(S) is an effective rank. Features that do not vary have entropy 0.

    Args:
        features: (..., B, D) floating; the covariance is over B.

    Returns:
        (...) in the dtype of ``features``, between 0 and log min(B - 1, D).

    Raises:
        TypeError: features not a floating tensor.
        ValueError: fewer than two dimensions, or fewer than two rows.

    Example:
        >>> spectral_entropy(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        tensor(0.6931)

    Reference:
        Roy and Vetterli (2007), "The effective rank: a measure of effective dimensionality".
    """
    _require_rows("features", features, 2)
    wide = features.to(_checks.accumulation_dtype(features))
    centred = wide - wide.mean(dim=-2, keepdim=True)
    # The entropy does not depend on the scale, and squares of very large or small features leave the dtype.
    scale = centred.detach().abs().amax(dim=(-2, -1), keepdim=True)
    centred = centred / torch.where(scale > 0, scale, 1.0)
    # The Gram matrix has the covariance's non-zero eigenvalues: take whichever is smaller.
    gram = centred.shape[-2] < centred.shape[-1]
    scatter = centred @ centred.mT if gram else centred.mT @ centred
    eigenvalues = torch.linalg.eigvalsh(scatter)
    # Rounding leaves null directions at +-eps, where log has no meaning: they are exact zeros without gradient.
    floor = eigenvalues.detach().abs().amax(-1, keepdim=True) * scatter.shape[-1] * torch.finfo(wide.dtype).eps
    positive = torch.where(eigenvalues > floor, eigenvalues, 0.0)
    total = positive.sum(dim=-1, keepdim=True)
    weights = positive / torch.where(total > 0, total, 1.0)
    return entropy_of_weights(weights).to(features.dtype)


def knn_entropy(features: Tensor, k: int = 3) -> Tensor:
    r"""Return the Kozachenko-Leonenko estimate of differential entropy, in nats, non-negated.

    $$\hat H = \psi(B) - \psi(k) + \log V_D + \tfrac DB \sum_b \log \lVert x_b - x_b^{(k)} \rVert$$

    V_D is the volume of the unit ball, x^(k) the k-th nearest other sample. A distance of 0 (duplicates, or so
    close that the square underflows) counts as the dtype's smallest normal number and has no gradient.

    Args:
        features: (B, D) floating.
        k: neighbour to measure to, between 1 and B - 1.

    Returns:
        scalar in the dtype of ``features``.

    Raises:
        TypeError: features not a floating tensor, or k not an integer.
        ValueError: features not of two dimensions, or k not between 1 and B - 1.

    Example:
        >>> knn_entropy(torch.linspace(0, 1, 1000)[:, None], k=3)
        tensor(0.4648)

    Reference:
        Kraskov et al. (2004), "Estimating mutual information", eq. 20 (with its epsilon twice our distance).
    """
    rows, dimensions = _require_neighbours(features, k)
    distances = _neighbour_distances(features, k)[:, -1]
    log_volume = 0.5 * dimensions * math.log(math.pi) - math.lgamma(0.5 * dimensions + 1.0)
    constants = torch.tensor([float(rows), float(k)], device=features.device, dtype=distances.dtype)
    digamma_rows, digamma_k = torch.digamma(constants).unbind()
    entropy: Tensor = digamma_rows - digamma_k + log_volume + dimensions * _safe_log(distances).mean()
    return entropy.to(features.dtype)


def particle_entropy(features: Tensor, k: int = 12) -> Tensor:
    r"""Return the particle entropy of each sample, log(1 + mean distance to its k neighbours), non-negated.

    $$h_b = \log\left(1 + \tfrac1k \sum_{j \le k} \lVert x_b - x_b^{(j)} \rVert\right)$$

    An intrinsic reward, not an estimate in nats: proportional to entropy up to constants, and bounded below by 0.

    Args:
        features: (B, D) floating.
        k: number of neighbours, between 1 and B - 1.

    Returns:
        (B,) in the dtype of ``features``, at least 0.

    Raises:
        TypeError: features not a floating tensor, or k not an integer.
        ValueError: features not of two dimensions, or k not between 1 and B - 1.

    Example:
        >>> particle_entropy(torch.tensor([[0.0], [1.0], [3.0]]), k=1)
        tensor([0.6931, 0.6931, 1.0986])

    Reference:
        Liu and Abbeel (2021), APT, arXiv 2103.04551 (the particle-based reward).
    """
    _require_neighbours(features, k)
    return torch.log1p(_neighbour_distances(features, k).mean(dim=-1)).to(features.dtype)


def manifold_entropy(features: Tensor, memory: Tensor) -> Tensor:
    r"""Return log of each sample's distance to its nearest neighbour in a memory, non-negated.

    $$h_b = \log \min_m \lVert x_b - y_m \rVert$$

    Args:
        features: (B, D) floating.
        memory: (M, D) floating, M at least 1; gets no gradient.

    Returns:
        (B,) in the dtype of ``features``; a distance of 0 counts as the dtype's smallest normal number.

    Raises:
        TypeError: features or memory not a floating tensor.
        ValueError: not of two dimensions, an empty memory, or another width or device.

    Example:
        >>> manifold_entropy(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0]]))
        tensor([0.0000, 0.6931])

    Reference:
        Kozachenko and Leonenko (1987): the k = 1 estimate of entropy, per sample and up to constants.
    """
    _require_rows("features", features, 1)
    _require_rows("memory", memory, 1)
    if features.dim() != 2 or memory.dim() != 2 or features.shape[-1] != memory.shape[-1]:
        raise ValueError(
            f"features and memory must have shapes (B, D) and (M, D), got {tuple(features.shape)} "
            f"and {tuple(memory.shape)}"
        )
    if features.device != memory.device:
        raise ValueError(f"memory must be on the device of features, {features.device}, got {memory.device}")
    wide = features.to(_checks.accumulation_dtype(features))
    others = memory.detach().to(wide.dtype)
    nearest = _exact_distances(wide.detach(), others).argmin(dim=-1)
    return _safe_log(_norm(wide - others[nearest])).to(features.dtype)


def _neighbour_distances(features: Tensor, k: int) -> Tensor:
    """Return (B, k) distances to the k nearest other samples, nearest first, in the accumulation dtype."""
    wide = features.to(_checks.accumulation_dtype(features))
    distances = _exact_distances(wide.detach(), wide.detach())
    distances.fill_diagonal_(torch.inf)
    neighbours = distances.topk(k, dim=-1, largest=False).indices
    # Recomputed on the chosen pairs alone: cdist has no second derivative.
    return _norm(wide.unsqueeze(1) - wide[neighbours])


def _exact_distances(x: Tensor, y: Tensor) -> Tensor:
    # The matrix-product form of cdist cancels for near neighbours, which are the only ones used here.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _norm(difference: Tensor) -> Tensor:
    squared = difference.square().sum(dim=-1)
    # sqrt has an infinite derivative at 0: duplicates get distance 0 and gradient 0.
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def _safe_log(distances: Tensor) -> Tensor:
    return distances.clamp(min=torch.finfo(distances.dtype).tiny).log()  # log 0 would make the batch -inf


def _require_rows(name: str, tensor: Tensor, least: int) -> None:
    _checks.require_floating(name, tensor, min_dim=2)
    if tensor.shape[-2] < least or tensor.shape[-1] < 1:
        raise ValueError(f"{name} must have at least {least} row(s) and 1 column, got {tuple(tensor.shape)}")


def _require_neighbours(features: Tensor, k: int) -> tuple[int, int]:
    _require_rows("features", features, 2)
    if features.dim() != 2:
        raise ValueError(f"features must have shape (B, D), got {tuple(features.shape)}")
    if not isinstance(k, int) or isinstance(k, bool):
        raise TypeError(f"k must be an integer, got {type(k).__name__}")
    rows, dimensions = features.shape
    if not 1 <= k < rows:
        raise ValueError(f"k must be between 1 and B - 1 = {rows - 1}, got {k}: use a larger batch or a smaller k")
    return rows, dimensions
