"""One training step of ABMIL with AEM in several ways with one gradient: forward and backward of all bags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from entroreg import EntropyRegularizer, Fixed
from entroreg.vision.mil import ABMIL, AttentionEntropy, pack

Step: TypeAlias = Callable[[], None]
WEIGHT = 0.25  # of AEM
PASS_INSTANCES = 4_096  # of a packed pass: its activations stay in the processor's cache
ALONE = 512  # instances from which a bag is a pass of its own, which copies nothing
PEERS = {"torchmil": "pip install torchmil"}


def steps(bags: Sequence[Tensor], labels: Tensor, hidden: int) -> dict[str, tuple[nn.Module, Step]]:
    """Return for each method its model and a function that leaves the gradients of a step in it.

    All models start with the same weights; all gradients are of the mean over bags of CE - 0.25 H.

    Args:
        bags: each (N, D).
        labels: (B,) in {0, 1}.
        hidden: width of the trunk.
    """
    ways: dict[str, Callable[[ABMIL, Sequence[Tensor], Tensor], None]] = {
        "entroreg": _packed,
        "loop": _loop,
        "padded": _padded,
    }
    found: dict[str, tuple[nn.Module, Step]] = {}
    torch.manual_seed(0)
    origin = ABMIL(bags[0].shape[1], 2, hidden=hidden)
    for name, way in ways.items():
        model = ABMIL(bags[0].shape[1], 2, hidden=hidden)
        model.load_state_dict(origin.state_dict())
        found[name] = (model, _bound(way, model, bags, labels))
    if find_spec("torchmil"):
        found["torchmil"] = _torchmil(bags, labels, hidden)
    return found


def missing_peers() -> dict[str, str]:
    """Return how to install what is not here."""
    return {name: remedy for name, remedy in PEERS.items() if not find_spec(name)}


def gemms(bags: Sequence[Tensor], hidden: int, attention: int = 128) -> Step:
    """Return the matrix products of a step and nothing else, pass by pass, as the packed method makes them.

    Args:
        bags: each (N, D).
        hidden: width of the trunk.
        attention: width of the attention.
    """
    trunk, value, score = (
        torch.randn(shape) for shape in ((hidden, bags[0].shape[1]), (attention, hidden), (1, attention))
    )
    passes = [torch.cat(list(part)) for part in _passes(bags)]

    def step() -> None:
        for features in passes:
            activations = features @ trunk.T
            keys = activations @ value.T
            logits = keys @ score.T
            back = logits @ score  # gradient of the keys
            logits.T @ keys
            back.T @ activations
            (back @ value).T @ features

    return step


def _bound(
    way: Callable[[ABMIL, Sequence[Tensor], Tensor], None], model: ABMIL, bags: Sequence[Tensor], labels: Tensor
) -> Step:
    def step() -> None:
        model.zero_grad()
        way(model, bags, labels)

    return step


def _passes(bags: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """Return the bags, in their order, in passes of at most ``PASS_INSTANCES``, the large ones alone."""
    passes, begin, instances = [], 0, 0
    for place, bag in enumerate(bags):
        large = max(len(bag), len(bags[place - 1])) >= ALONE
        if place > begin and (large or instances + len(bag) > PASS_INSTANCES):
            passes.append(bags[begin:place])
            begin, instances = place, 0
        instances += len(bag)
    return [*passes, bags[begin:]]


def _packed(model: ABMIL, bags: Sequence[Tensor], labels: Tensor) -> None:
    aem = AttentionEntropy(EntropyRegularizer(Fixed(WEIGHT), sign="maximize"))
    begin = 0
    for part in _passes(bags):
        packed = pack(part)
        output = model(packed)
        losses = model.bag_losses(output, labels[begin : begin + len(part)])
        loss = losses.mean() + aem(output, packed).loss
        (loss * (len(part) / len(bags))).backward()  # type: ignore[no-untyped-call]
        begin += len(part)


def _loop(model: ABMIL, bags: Sequence[Tensor], labels: Tensor) -> None:
    """What is written by hand: a bag at a time, gradients added up."""
    for bag, label in zip(bags, labels, strict=True):
        hidden = model.pooling.trunk(bag)
        logits = model.pooling.scores(hidden)
        weights = torch.softmax(logits, dim=0)
        loss = F.cross_entropy(model.head(weights.T @ hidden), label.unsqueeze(0))
        loss = loss + WEIGHT * (weights * torch.log_softmax(logits, dim=0)).sum()
        (loss / len(bags)).backward()  # type: ignore[no-untyped-call]


def _padded(model: ABMIL, bags: Sequence[Tensor], labels: Tensor) -> None:
    """What collate functions do: all bags as long as the longest, and a mask."""
    features = nn.utils.rnn.pad_sequence(list(bags), batch_first=True)
    sizes = torch.tensor([len(bag) for bag in bags])
    mask = torch.arange(features.shape[1]) < sizes.unsqueeze(1)
    hidden = model.pooling.trunk(features)
    logits = model.pooling.scores(hidden).squeeze(2).masked_fill(~mask, -torch.inf)
    weights, rows = torch.softmax(logits, dim=1), torch.log_softmax(logits, dim=1).masked_fill(~mask, 0.0)
    pooled = torch.bmm(weights.unsqueeze(1), hidden).squeeze(1)
    entropy = -(weights * rows).sum(dim=1).mean()
    (F.cross_entropy(model.head(pooled), labels) - WEIGHT * entropy).backward()  # type: ignore[no-untyped-call]


def _torchmil(bags: Sequence[Tensor], labels: Tensor, hidden: int) -> tuple[nn.Module, Step]:
    """The peer's ABMIL on padded bags and their mask; binary, without AEM, which it does not have."""
    from torchmil.models import ABMIL as TheirABMIL

    width = bags[0].shape[1]
    trunk = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU())
    model = TheirABMIL(in_shape=(width,), att_dim=128, feat_ext=trunk)
    sizes = torch.tensor([len(bag) for bag in bags])

    def step() -> None:
        model.zero_grad()
        features = nn.utils.rnn.pad_sequence(list(bags), batch_first=True)
        mask = torch.arange(features.shape[1]) < sizes.unsqueeze(1)
        _, losses = model.compute_loss(labels.float(), features, mask)
        sum(losses.values()).backward()

    return model, step
