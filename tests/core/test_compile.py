"""``torch.compile(fullgraph=True)`` accepts every functional and gives the same values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from entroreg import measures, penalties, policy_gradient, selectors
from entroreg.controllers import alpha_loss, log_alpha_loss


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _logits() -> Tensor:
    logits = _normal(0, 6, 5)
    logits[1], logits[2, 3] = -math.inf, -math.inf
    return logits


MASK = _normal(1, 6, 5) > -0.5
MASK[0] = False
OTHER, GROUPS = _normal(2, 6, 5), torch.arange(30).reshape(6, 5) % 3
SOFT = torch.softmax(_normal(3, 6, 5, 4), -1)
LOGITS, FEATURES = _logits(), _normal(4, 6, 5)
TOKENS = torch.tensor([0, 1, 4, 2])
OFFSETS = torch.tensor([0, 2, 2, 5])
FAST = {"validate": False}
ALL = {"validate": False, "fraction": 1.0, "band": policy_gradient.Quantiles(0.2, 0.8)}  # nothing is left to chance

CASES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "categorical": (lambda z: measures.categorical_entropy(z, MASK, 0.7), LOGITS),
    "normalized": (lambda z: measures.normalized_entropy(z, MASK), LOGITS),
    "tsallis": (lambda z: measures.tsallis_entropy(z, 0.5, MASK), LOGITS),
    "renyi": (lambda z: measures.renyi_entropy(z, 2.0, MASK), LOGITS),
    "renyi near 1": (lambda z: measures.renyi_entropy(z, 1.05, MASK), LOGITS),
    "renyi inf": (lambda z: measures.renyi_entropy(z, math.inf, MASK), LOGITS),
    "group sum": (lambda z: measures.group_entropy(z, GROUPS, MASK, num_groups=3), LOGITS),
    "group mean": (lambda z: measures.group_entropy(z, SOFT, MASK, "mean"), LOGITS),
    "group count": (lambda z: measures.group_entropy(z, GROUPS, MASK, "count", num_groups=3), LOGITS),
    "packed": (lambda z: measures.packed_entropy(z, OFFSETS), LOGITS),
    "packed normalized": (lambda z: measures.packed_normalized_entropy(z, OFFSETS), LOGITS),
    "packed top k": (lambda z: measures.packed_topk_entropy(z, OFFSETS, 2), LOGITS),
    "gaussian": (measures.gaussian_entropy, FEATURES),
    "tanh bound": (measures.tanh_gaussian_entropy_bound, FEATURES),
    "pathwise": (measures.pathwise_entropy, FEATURES),
    "marginal": (measures.marginal_entropy, LOGITS),
    "spectral": (measures.spectral_entropy, FEATURES),
    "knn": (lambda x: measures.knn_entropy(x, 2), FEATURES),
    "particle": (lambda x: measures.particle_entropy(x, 2), FEATURES),
    "manifold": (lambda x: measures.manifold_entropy(x, OTHER), FEATURES),
    "linear": (penalties.linear, FEATURES),
    "hinge": (lambda h: penalties.hinge(h, 0.3), FEATURES),
    "band": (lambda h: penalties.band(h, 0.1, 0.2), FEATURES),
    "squared": (lambda h: penalties.squared(h, 0.1), FEATURES),
    "low entropy": (lambda h: selectors.low_entropy(h, 0.1, MASK), FEATURES),
    "top quantile": (lambda h: selectors.top_quantile_entropy(h, 0.4, MASK), FEATURES),
    "top quantile, all": (lambda h: selectors.top_quantile_entropy(h, 0.4), FEATURES),
    "token covariance": (lambda x: selectors.token_covariance(x, OTHER, MASK), FEATURES),
    "covariance band": (lambda c: selectors.covariance_band(c, -0.5, 0.5, MASK), FEATURES),
    "covariance topk": (lambda c: selectors.covariance_topk(c, 0.3, MASK), FEATURES),
    "token log-probability": (lambda z: measures.token_logprob_entropy(z, TOKENS)[0], LOGITS[2:]),
    "token entropy": (lambda z: measures.token_logprob_entropy(z, TOKENS, 0.7)[1], LOGITS[2:]),
    "linear token": (lambda h: measures.linear_token_logprob_entropy(h, OTHER, TOKENS)[1], FEATURES[2:]),
    "reinforce": (lambda x: policy_gradient.reinforce_loss(x, OTHER, SOFT[..., 0], MASK, **FAST)[0], FEATURES),
    "ppo": (lambda x: policy_gradient.ppo_clip_loss(x, OTHER, SOFT[..., 0], MASK, **FAST)[0], FEATURES),
    "clip-cov": (lambda x: policy_gradient.clip_cov_loss(x, OTHER, FEATURES, MASK, **ALL)[0], FEATURES),
    "kl-cov": (lambda x: policy_gradient.kl_cov_loss(x, OTHER, FEATURES, MASK, **FAST)[0], FEATURES),
    "logit step": (lambda z: policy_gradient.logit_step_entropy_change(z, OTHER), LOGITS),
    "covariance quantiles": (
        lambda x: policy_gradient.ppo_clip_loss(x, OTHER, FEATURES, MASK, **FAST)[1][2],
        FEATURES,
    ),
    "log alpha loss": (lambda a: log_alpha_loss(a, OTHER), FEATURES),
    "alpha loss": (lambda a: alpha_loss(a, OTHER), FEATURES),
}
# Inductor takes 1.5 to 16 s for each on two cores, aot_eager 0.3 s: it gets the two with the most `where`s.
INDUCTOR = ("tsallis", "group mean")


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own
@pytest.mark.filterwarnings("ignore:<class .torch.autograd.function.Function:DeprecationWarning")  # Dynamo's own
@pytest.mark.parametrize(
    ("name", "backend"), [*((name, "aot_eager") for name in CASES), *((name, "inductor") for name in INDUCTOR)]
)
def test_compiled_is_eager(name: str, backend: str) -> None:
    function, values = CASES[name]
    torch._dynamo.reset()
    eager_leaf, leaf = values.clone().requires_grad_(True), values.clone().requires_grad_(True)
    eager, compiled = function(eager_leaf), torch.compile(function, fullgraph=True, backend=backend)(leaf)
    torch.testing.assert_close(compiled, eager)
    assert eager.requires_grad == compiled.requires_grad
    if eager.requires_grad:
        weights = torch.arange(1.0, eager.numel() + 1.0).reshape(eager.shape)
        (eager * weights).sum().backward()
        (compiled * weights).sum().backward()
        torch.testing.assert_close(leaf.grad, eager_leaf.grad)
