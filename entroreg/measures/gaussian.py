"""Entropies of Gaussian and tanh-Gaussian policies."""

from __future__ import annotations

import math

from torch import Tensor

from entroreg import _checks

_ENTROPY_OF_UNIT_NORMAL = 0.5 * (1.0 + math.log(2.0 * math.pi))


def gaussian_entropy(log_std: Tensor) -> Tensor:
    r"""Return the differential entropy of a diagonal Gaussian, in nats, non-negated.

    $$H = \sum_d \left(\log \sigma_d + \tfrac12 \log(2 \pi e)\right)$$

    Args:
        log_std: (..., D) floating, log of the standard deviation of each dimension.

    Returns:
        (...) in the dtype of ``log_std``; any real number.

    Raises:
        TypeError: log_std not a floating tensor.

    Example:
        >>> gaussian_entropy(torch.zeros(2))
        tensor(2.8379)

    Reference:
        Cover and Thomas (2006), "Elements of Information Theory", theorem 8.4.1.
    """
    _checks.require_floating("log_std", log_std)
    wide = log_std.to(_checks.accumulation_dtype(log_std))
    return (wide + _ENTROPY_OF_UNIT_NORMAL).sum(dim=-1).to(log_std.dtype)


def tanh_gaussian_entropy_bound(log_std: Tensor) -> Tensor:
    r"""Return an upper bound of the entropy of tanh(u), u a diagonal Gaussian, in nats, non-negated.

    $$H(\tanh u) = H(u) + \mathbb{E} \sum_d \log(1 - \tanh^2 u_d) \le \sum_d \min(H(u_d), \log 2)$$

    There is no closed form of the entropy itself; sample it with ``pathwise_entropy``. The second bound holds
    because no density on [-1, 1] has more entropy than the uniform one.

    Args:
        log_std: (..., D) floating, log of the standard deviation before the tanh.

    Returns:
        (...) in the dtype of ``log_std``, at most D log 2.

    Raises:
        TypeError: log_std not a floating tensor.

    Example:
        >>> tanh_gaussian_entropy_bound(torch.tensor([0.0, -3.0]))
        tensor(-0.8879)

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, appendix C (the change of variables).
    """
    _checks.require_floating("log_std", log_std)
    wide = log_std.to(_checks.accumulation_dtype(log_std))
    per_dimension = (wide + _ENTROPY_OF_UNIT_NORMAL).clamp(max=math.log(2.0))
    return per_dimension.sum(dim=-1).to(log_std.dtype)


def pathwise_entropy(log_probs: Tensor) -> Tensor:
    r"""Return the one-sample entropy estimate -log pi(a), in nats, non-negated.

    $$\hat H(s) = -\log \pi(a_\theta(s, \epsilon) \mid s)$$

    Only for *reparameterised* samples: there the gradient flows through the action. For actions or tokens that
    were drawn without reparameterisation the gradient of this estimate is about 0 while the entropy's is not;
    use it there for monitoring and as the input of a dual controller, never as a loss.

    Args:
        log_probs: (...) floating, log pi(a) of a reparameterised sample, summed over action dimensions.

    Returns:
        (...) in the dtype of ``log_probs``; any real number.

    Raises:
        TypeError: log_probs not a floating tensor.

    Example:
        >>> pathwise_entropy(torch.tensor([-1.5, 0.25]))
        tensor([ 1.5000, -0.2500])

    Reference:
        Haarnoja et al. (2018), arXiv 1812.05905, eq. 9.
    """
    _checks.require_floating("log_probs", log_probs, min_dim=0)
    return -log_probs


def max_categorical_entropy(count: int) -> float:
    """Return log N in nats, the entropy that no distribution over ``count`` outcomes exceeds.

    Args:
        count: N, at least 1.

    Returns:
        log N.

    Raises:
        ValueError: count below 1.

    Example:
        >>> round(max_categorical_entropy(4), 4)
        1.3863
    """
    return math.log(_checks.require_number("count", count, low=1))


def max_tanh_entropy(dimensions: int) -> float:
    """Return D log 2 in nats, the entropy that no density on [-1, 1]^D exceeds.

    Args:
        dimensions: D, at least 1.

    Returns:
        D log 2.

    Raises:
        ValueError: dimensions below 1.

    Example:
        >>> round(max_tanh_entropy(6), 4)
        4.1589
    """
    return _checks.require_number("dimensions", dimensions, low=1) * math.log(2.0)
