"""Published methods as settings of the one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from entroreg.adaptation.adapter import Adapter, Objective
from entroreg.adaptation.anchor import FisherAnchor
from entroreg.adaptation.parameters import module_parameters, normalisation_parameters, use_batch_statistics
from entroreg.adaptation.selection import Reliable, ReliableAndDiverse
from entroreg.measures.batch import marginal_entropy
from entroreg.measures.categorical import categorical_entropy

__all__ = ["centaur", "eata", "memo", "sar", "tent"]


def tent(model: nn.Module, *, learning_rate: float = 1e-3, steps: int = 1) -> Adapter:
    """Return TENT: the mean entropy, by scales and shifts of normalisation layers, online.

    Batch normalisation uses each batch's statistics from now on (`use_batch_statistics` changes the model).

    Args:
        model: from inputs to logits (B, K), with normalisation layers.
        learning_rate: of Adam.
        steps: for each batch.

    Raises:
        ValueError: the model has no normalisation layer, or a number is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> tent(model).adapt(torch.eye(2)).output.shape
        torch.Size([2, 3])

    Reference:
        Wang et al. (2021), TENT, arXiv 2006.10726. Differs from the paper: the model stays in evaluation mode, so
        that dropout is off.
    """
    parameters = normalisation_parameters(model)
    use_batch_statistics(model)
    optimizer = partial(torch.optim.Adam, lr=learning_rate)
    return Adapter(model, categorical_entropy, parameters, optimizer=optimizer, steps=steps)


def eata(
    model: nn.Module,
    classes: int,
    source: Iterable[Tensor],
    *,
    learning_rate: float = 1e-3,
    margin: float = 0.4,
    similarity: float = 0.05,
    beta: float = 2000.0,
) -> Adapter:
    """Return EATA: TENT on samples that are certain and unlike the others, weighted, with a Fisher anchor.

    Args:
        model: from inputs to logits (B, K), with normalisation layers.
        classes: K.
        source: batches of the training distribution, without labels; 2,000 images in the paper.
        learning_rate: of SGD with momentum 0.9; the paper's for 64 images are 0.00025 (ImageNet) and 0.005 (CIFAR).
        margin: E_0 as a share of log K.
        similarity: epsilon; 0.05 for ImageNet, 0.4 for CIFAR-10.
        beta: weight of the anchor; 2,000 for ImageNet, 1 for CIFAR-10.

    Raises:
        ValueError: no normalisation layer, no batch of the source, or a number out of its range.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> eata(model, 3, [torch.eye(2)], similarity=0.4).adapt(torch.eye(2)).output.shape
        torch.Size([2, 3])

    Reference:
        Niu et al. (2022), EATA, arXiv 2204.02610.
    """
    parameters = normalisation_parameters(model)
    use_batch_statistics(model)
    return Adapter(
        model,
        categorical_entropy,
        parameters,
        optimizer=partial(torch.optim.SGD, lr=learning_rate, momentum=0.9),
        select=ReliableAndDiverse(classes, margin, similarity),
        anchor=FisherAnchor(model, parameters, source, beta),
    )


def sar(
    model: nn.Module,
    classes: int,
    *,
    learning_rate: float = 1e-3,
    margin: float = 0.4,
    radius: float = 0.05,
    collapse: float = 0.2,
    frozen: Iterable[str] = (),
) -> Adapter:
    """Return SAR: reliable samples, sharpness-aware steps, and a reset where the entropy collapses.

    Args:
        model: from inputs to logits (B, K), with normalisation layers.
        classes: K.
        learning_rate: of SGD with momentum 0.9; 0.00025 (ResNet) and 0.001 (ViT) in the paper.
        margin: E_0 as a share of log K.
        radius: rho of the sharpness-aware step.
        collapse: entropy in nats below which the running average resets the model.
        frozen: submodules whose normalisation layers stay, such as the last stage, as the paper has it.

    Raises:
        ValueError: no normalisation layer is left, or a number is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> sar(model, 3).adapt(torch.eye(2)).output.shape
        torch.Size([2, 3])

    Reference:
        Niu et al. (2023), SAR, arXiv 2302.12400. Differs from the paper: the second pass is over the whole batch,
        so that batch statistics stay the same; samples are selected in both.
    """
    parameters = normalisation_parameters(model, frozen)
    use_batch_statistics(model)
    return Adapter(
        model,
        categorical_entropy,
        parameters,
        optimizer=partial(torch.optim.SGD, lr=learning_rate, momentum=0.9),
        select=Reliable(margin * math.log(classes)),
        sharpness=radius,
        collapse=collapse,
    )


def memo(
    model: nn.Module, augment: Callable[[Tensor], Tensor], *, learning_rate: float = 5e-3, steps: int = 1
) -> Adapter:
    """Return MEMO: for one input, the entropy of the mean prediction over its augmentations, by all parameters.

    Each input begins from the trained model; the output is the model's after the step.

    Args:
        model: from inputs to logits (B, K).
        augment: from one input (1, ...) to A augmented ones (A, ...).
        learning_rate: of SGD; 0.005 for CIFAR-10 in the paper.
        steps: for each input.

    Example:
        >>> model = nn.Linear(2, 3)
        >>> memo(model, lambda one: one + torch.linspace(-1, 1, 5)[:, None]).adapt(torch.ones(1, 2)).output.shape
        torch.Size([1, 3])

    Reference:
        Zhang et al. (2022), MEMO, arXiv 2110.09506, eq. 2.
    """
    return Adapter(
        model,
        lambda logits: marginal_entropy(logits)[None],
        dict(model.named_parameters()),
        optimizer=partial(torch.optim.SGD, lr=learning_rate),
        steps=steps,
        restart=True,
        predict_after=True,
        views=augment,
    )


def centaur(
    model: nn.Module,
    uncertainty: Objective,
    decoder: Iterable[str],
    *,
    learning_rate: float = 1e-4,
    frames: int = 4,
) -> Adapter:
    """Return Centaur: at each frame one step on the uncertainty of the last frames, from the trained weights.

    Args:
        model: from observations (1, ...) to what ``uncertainty`` takes.
        uncertainty: to a value for each observation, such as the cluster entropy of a planner's scores:
            ``group_entropy(scores, groups, agg="mean", num_groups=5)``.
        decoder: names of the submodules that are adapted: the decoder of the scores.
        learning_rate: eta of plain gradient descent.
        frames: how many of the last ones the gradient is the mean over.

    Raises:
        ValueError: a submodule is not there, or a number is out of its range.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> planner = centaur(model, categorical_entropy, ["2"])
        >>> planner.adapt(torch.ones(1, 2)).output.shape
        torch.Size([1, 3])

    Reference:
        Centaur (2025), arXiv 2503.11650. Differs from the paper, whose code is not public: past frames are measured
        anew with the trained weights.
    """
    return Adapter(
        model,
        uncertainty,
        module_parameters(model, decoder),
        optimizer=partial(torch.optim.SGD, lr=learning_rate),
        buffer=frames,
        restart=True,
        predict_after=True,
    )
