"""Entropy measures: pure functions in nats, per element unless ``batch`` says otherwise, no reduction, no state."""

from entroreg.measures.batch import (
    knn_entropy,
    manifold_entropy,
    marginal_entropy,
    particle_entropy,
    spectral_entropy,
)
from entroreg.measures.categorical import categorical_entropy, normalized_entropy
from entroreg.measures.ensemble import mutual_information
from entroreg.measures.gaussian import (
    gaussian_entropy,
    max_categorical_entropy,
    max_tanh_entropy,
    pathwise_entropy,
    tanh_gaussian_entropy_bound,
)
from entroreg.measures.generalized import renyi_entropy, tsallis_entropy
from entroreg.measures.group import group_entropy
from entroreg.measures.packed import packed_entropy, packed_normalized_entropy, packed_topk_entropy
from entroreg.measures.token import linear_token_logprob_entropy, token_logprob_entropy

__all__ = [
    "categorical_entropy",
    "gaussian_entropy",
    "group_entropy",
    "knn_entropy",
    "linear_token_logprob_entropy",
    "manifold_entropy",
    "marginal_entropy",
    "max_categorical_entropy",
    "max_tanh_entropy",
    "mutual_information",
    "normalized_entropy",
    "packed_entropy",
    "packed_normalized_entropy",
    "packed_topk_entropy",
    "particle_entropy",
    "pathwise_entropy",
    "renyi_entropy",
    "spectral_entropy",
    "tanh_gaussian_entropy_bound",
    "token_logprob_entropy",
    "tsallis_entropy",
]
