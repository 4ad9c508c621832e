"""Robust training and entropy-balanced distillation: attacks, losses, one loop, evaluation."""

from entroreg.vision.distillation.attacks import Attack, attacked, fgsm, margin_loss, pgd
from entroreg.vision.distillation.autoattack import autoattack
from entroreg.vision.distillation.balance import Balance
from entroreg.vision.distillation.evaluation import accuracies, accuracy, weighted_robust_accuracy
from entroreg.vision.distillation.methods import METHODS
from entroreg.vision.distillation.objectives import (
    ard_loss,
    divergence,
    mtard_losses,
    rslad_loss,
    trades_loss,
)
from entroreg.vision.distillation.settings import BalanceSettings, DistillationSettings, OptimizerSettings
from entroreg.vision.distillation.teachers import Teacher
from entroreg.vision.distillation.training import Trainer, train

__all__ = [
    "METHODS",
    "Attack",
    "Balance",
    "BalanceSettings",
    "DistillationSettings",
    "OptimizerSettings",
    "Teacher",
    "Trainer",
    "accuracies",
    "accuracy",
    "ard_loss",
    "attacked",
    "autoattack",
    "divergence",
    "fgsm",
    "margin_loss",
    "mtard_losses",
    "pgd",
    "rslad_loss",
    "trades_loss",
    "train",
    "weighted_robust_accuracy",
]
