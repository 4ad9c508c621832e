"""The public names, checked in: to add or remove one is a decision, taken here."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

PUBLIC = {
    "entroreg": [
        "Controller",
        "Dual",
        "EntropyRegularizer",
        "Fixed",
        "FromObservation",
        "GammaCurriculum",
        "LossBalance",
        "MatchTemperature",
        "PerStateDual",
        "Scheduled",
        "adaptation",
        "checkpoint",
        "controllers",
        "grouping",
        "guards",
        "measures",
        "penalties",
        "policy_gradient",
        "schedules",
        "selectors",
    ],
    "entroreg.measures": [
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
    ],
    "entroreg.checkpoint": [
        "CheckpointError",
        "Table",
        "UnfitCheckpointError",
        "load_checkpoint",
        "refusing_unfit",
        "save_checkpoint",
    ],
    "entroreg.controllers": [
        "Controller",
        "Dual",
        "Fixed",
        "FromObservation",
        "PerStateDual",
        "Scheduled",
        "Target",
        "alpha_loss",
        "log_alpha_loss",
    ],
    "entroreg.curriculum": [
        "GammaCurriculum",
        "gamma_kl",
        "importance_weighted_return",
        "nearest_feasible",
        "trust_region",
    ],
    "entroreg.grouping": ["Clusters", "by_end_point", "by_id", "by_kmeans"],
    "entroreg.guards": [
        "CollapseWatch",
        "EntropyCollapseWarning",
        "EntropyWarning",
        "RunawayWatch",
        "TemperatureRunawayWarning",
        "categorical_floor",
        "gaussian_floor",
        "require_finite",
    ],
    "entroreg.loss_balance": ["LossBalance"],
    "entroreg.temperature_matching": ["MatchTemperature", "sign_step", "solve_temperatures"],
    "entroreg.vision.images.data": ["ImageName", "ImageSet", "Part", "as_float", "load_images"],
    "entroreg.vision.images.networks": ["ResNet18", "SmallConvNet"],
    "entroreg.integrations.trl": ["GRPOTrainer"],
    "entroreg.segments": [
        "SegmentSoftmax",
        "segment_argmax",
        "segment_ids",
        "segment_softmax",
        "segment_sum",
        "segment_weighted_sum",
    ],
    "entroreg.vision.mil": [
        "ABMIL",
        "ACMIL",
        "AttentionEntropy",
        "BagDataset",
        "BagPart",
        "Bags",
        "BagsInMemory",
        "DSMIL",
        "DataError",
        "GatedABMIL",
        "MILModel",
        "MILOutput",
        "MODELS",
        "MaxPooling",
        "MeanPooling",
        "MultiHeadABMIL",
        "pack",
    ],
    "entroreg.policy_gradient": [
        "ClipCov",
        "ConstantLength",
        "ControlledClipCov",
        "EntropyLaw",
        "EntropyMonitor",
        "EntropyReport",
        "KLCov",
        "PPOClip",
        "PolicyLoss",
        "PolicyMetrics",
        "Quantiles",
        "clip_cov_loss",
        "fit_entropy_law",
        "kl_cov_loss",
        "logit_step_entropy_change",
        "ppo_clip_loss",
        "reinforce_loss",
        "sequence_mean",
        "token_mean",
    ],
}
FLAT = {
    "entroreg.penalties": ["band", "hinge", "linear", "squared"],
    "entroreg.schedules": ["CosineSchedule", "LinearSchedule", "from_json", "to_json"],
    "entroreg.selectors": [
        "covariance_band",
        "covariance_topk",
        "low_entropy",
        "share_count",
        "token_covariance",
        "top_count",
        "top_quantile_entropy",
    ],
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_the_inventory_and_resolve(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    assert all(getattr(module, public) is not None for public in PUBLIC[name])
    assert set(PUBLIC[name]) <= set(dir(module))


@pytest.mark.parametrize("name", FLAT)
def test_modules_without_all_define_the_inventory(name: str) -> None:
    module = importlib.import_module(name)
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name and key[0] != "_"]
    assert sorted(own) == FLAT[name]


def test_names_of_the_root_are_those_of_their_homes() -> None:
    import entroreg
    from entroreg import controllers, loss_balance, regularizer, temperature_matching

    for name in ("Controller", "Dual", "Fixed", "PerStateDual", "Scheduled"):
        assert getattr(entroreg, name) is getattr(controllers, name)
    assert entroreg.LossBalance is loss_balance.LossBalance
    assert entroreg.MatchTemperature is temperature_matching.MatchTemperature
    assert entroreg.EntropyRegularizer is regularizer.EntropyRegularizer
    assert entroreg.measures is importlib.import_module("entroreg.measures")
    with pytest.raises(AttributeError, match=r"^module 'entroreg' has no attribute 'Dula'$"):
        _ = entroreg.Dula


def test_importing_the_root_imports_no_torch() -> None:
    code = "import sys, entroreg; dir(entroreg); assert not {'torch', 'numpy'} & set(sys.modules), 'eager import'"
    subprocess.run([sys.executable, "-c", code], check=True)
