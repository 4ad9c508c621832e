from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from entroreg.adaptation import (
    AdaptationWarning,
    Adapter,
    FisherAnchor,
    Reliable,
    ReliableAndDiverse,
    centaur,
    eata,
    memo,
    module_parameters,
    normalisation_parameters,
    sar,
    tent,
    use_batch_statistics,
)
from entroreg.measures import categorical_entropy, group_entropy, marginal_entropy

CLASSES = 4


def _network(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    for _ in range(5):  # so that batch normalisation has statistics of its own
        network(torch.randn(16, 3, generator=generator))
    return network.eval()


def _inputs(seed: int, rows: int = 12) -> Tensor:
    return 2.0 * torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed)) + 1.0


def _values(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def _entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def test_tent_is_adam_on_the_scales_and_shifts_of_batch_normalisation() -> None:
    network, hand = _network(), _network()
    adapter = tent(network, learning_rate=0.01)
    norm = hand[1]
    assert isinstance(norm, nn.BatchNorm1d)
    optimizer = torch.optim.Adam([norm.weight, norm.bias], lr=0.01)
    for step in range(4):
        inputs = _inputs(step)
        hand.train()  # batch statistics
        logits = hand(inputs)
        report = adapter.adapt(inputs)
        assert torch.allclose(report.output, logits, atol=1e-6)  # the forward before the step, as published
        optimizer.zero_grad()
        _entropy(logits).mean().backward()
        optimizer.step()
        for mine, theirs in zip(network.parameters(), hand.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)
    assert not torch.equal(network[1].weight, _network()[1].weight)


def test_only_the_chosen_parameters_move_and_no_gradient_is_left() -> None:
    network = _network()
    network[0].weight.requires_grad_(False)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    Adapter(
        network,
        categorical_entropy,
        module_parameters(network, ["3"]),
        optimizer=partial(torch.optim.SGD, lr=0.1),
    ).adapt(_inputs(0))
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]) == (not name.startswith("3."))
        assert value.grad is None
        assert value.requires_grad == (name != "0.weight")


def test_eata_by_numpy() -> None:
    select = ReliableAndDiverse(CLASSES, margin=0.4, similarity=0.5)
    mean = None
    for step in range(3):
        logits = 4.0 * torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        found = select(logits, _entropy(logits)).numpy()
        probs = torch.softmax(logits, -1).numpy()
        entropy = _entropy(logits).numpy()
        limit = 0.4 * math.log(CLASSES)
        kept = entropy < limit
        if mean is not None:
            cosine = probs @ mean / np.linalg.norm(probs, axis=1) / np.linalg.norm(mean)
            kept &= np.abs(cosine) < 0.5
        assert 0 < kept.sum() < 20
        assert found == pytest.approx(np.where(kept, np.exp(limit - entropy), 0.0), abs=1e-6)
        new = probs[kept].mean(axis=0)
        mean = new if mean is None else 0.9 * mean + 0.1 * new


@given(seed=st.integers(0, 2**31), margin=st.floats(0.05, 1.0))
def test_no_uncertain_sample_is_kept(seed: int, margin: float) -> None:
    logits = 3.0 * torch.randn(10, CLASSES, generator=torch.Generator().manual_seed(seed))
    entropy = _entropy(logits)
    for select in (Reliable(margin * math.log(CLASSES)), ReliableAndDiverse(CLASSES, margin)):
        weights = select(logits, entropy)
        assert not bool(weights[entropy >= margin * math.log(CLASSES)].any())
        assert bool((weights >= 0).all())


def test_fisher_anchor_by_hand() -> None:
    network = _network()
    parameters = module_parameters(network, ["3"])
    batches = [_inputs(1), _inputs(2)]
    anchor = FisherAnchor(network, parameters, batches, beta=3.0)
    squares = torch.zeros(CLASSES)
    for batch in batches:
        logits = network(batch)
        error = logits.softmax(-1) - nn.functional.one_hot(logits.argmax(-1), CLASSES)
        squares += error.mean(0).detach() ** 2 / 2
    assert torch.allclose(anchor.fisher[1], squares, atol=1e-8)
    assert float(anchor().detach()) == 0.0
    with torch.no_grad():
        network[3].bias += 0.5
    penalty = anchor()
    assert float(penalty.detach()) == pytest.approx(float(3.0 * (squares * 0.25).sum()), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, network[3].bias)
    assert torch.allclose(gradient, 3.0 * 2.0 * squares * 0.5, atol=1e-7)


def test_an_eata_step_by_hand() -> None:
    network, hand = _network(), _network()
    source = [_inputs(7)]
    adapter = eata(network, CLASSES, source, learning_rate=0.05, margin=0.9, similarity=0.99, beta=2.0)
    use_batch_statistics(hand)
    fisher = FisherAnchor(hand, normalisation_parameters(hand), source, 2.0)
    chosen = [hand[1].weight, hand[1].bias]
    optimizer = torch.optim.SGD(chosen, lr=0.05, momentum=0.9)
    select = ReliableAndDiverse(CLASSES, 0.9, 0.99)
    for step in range(3):
        logits = hand(_inputs(step))
        entropy = _entropy(logits)
        weights = select(logits, entropy)
        kept = weights > 0
        assert 0 < int(kept.sum())
        optimizer.zero_grad()
        ((weights * entropy)[kept].mean() + fisher()).backward()
        optimizer.step()
        assert adapter.adapt(_inputs(step)).kept == int(kept.sum())
        for mine, theirs in zip(network.parameters(), hand.parameters(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_sharpness_aware_step_by_hand() -> None:
    network, hand = _network(), _network()
    adapter = sar(network, CLASSES, learning_rate=0.05, margin=0.99, radius=0.3, collapse=0.0)
    use_batch_statistics(hand)
    chosen = [hand[1].weight, hand[1].bias]
    limit = 0.99 * math.log(CLASSES)
    inputs = _inputs(0)
    entropy = _entropy(hand(inputs))
    first = entropy < limit
    grads = torch.autograd.grad(entropy[first].mean(), chosen)
    norm = torch.cat(grads).norm()
    here = [parameter.detach().clone() for parameter in chosen]
    with torch.no_grad():
        for parameter, grad in zip(chosen, grads, strict=True):
            parameter += 0.3 * grad / norm
    entropy = _entropy(hand(inputs))
    grads = torch.autograd.grad(entropy[first & (entropy < limit)].mean(), chosen)
    assert adapter.adapt(inputs).kept == int((first & (entropy < limit)).sum())
    for mine, start, grad in zip((network[1].weight, network[1].bias), here, grads, strict=True):
        assert torch.allclose(mine, start - 0.05 * grad, atol=1e-6)


def test_sar_resets_where_the_entropy_collapses() -> None:
    network = _network()
    source = _values(network)
    adapter = sar(network, CLASSES, learning_rate=0.5, margin=1.0, collapse=0.6)
    reports = [adapter.adapt(_inputs(step)) for step in range(30)]
    assert sum(report.was_reset for report in reports) >= 1
    while not adapter.adapt(_inputs(0)).was_reset:
        pass
    assert _same(source, _values(network))


def test_centaur_descends_the_mean_of_the_last_frames_from_the_trained_weights() -> None:
    network, trained = _network(), _network()
    groups = torch.tensor([0, 0, 1, 1])

    def cluster(scores: Tensor) -> Tensor:
        return group_entropy(scores, groups.expand(scores.shape), agg="mean", num_groups=2)

    adapter = centaur(network, cluster, ["3"], learning_rate=0.2, frames=4)
    frames = [_inputs(step, rows=1) for step in range(7)]
    for step, frame in enumerate(frames):
        report = adapter.adapt(frame)
        hand = copy.deepcopy(trained)
        past = frames[max(0, step - 3) : step + 1]
        gradients = [torch.autograd.grad(cluster(hand(one)).mean(), list(hand[3].parameters())) for one in past]
        with torch.no_grad():
            for place, parameter in enumerate(hand[3].parameters()):
                parameter -= 0.2 * torch.stack([grads[place] for grads in gradients]).mean(0)
        assert torch.allclose(report.output, hand(frame), atol=1e-6)  # driven by what the step made
        assert torch.allclose(network[3].weight, hand[3].weight, atol=1e-6)


def test_memo_by_hand_and_from_the_source_each_time() -> None:
    network, trained = _network(), _network()
    scales = torch.tensor([0.8, 0.9, 1.1, 1.3])[:, None]
    adapter = memo(network, lambda one: scales * one, learning_rate=0.1)
    for step in range(3):
        inputs = _inputs(step, rows=1)
        hand = copy.deepcopy(trained)
        mean = hand(scales * inputs).softmax(-1).mean(0)
        grads = torch.autograd.grad(-(mean * mean.log()).sum(), list(hand.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(hand.parameters(), grads, strict=True):
                parameter -= 0.1 * grad
        report = adapter.adapt(inputs)
        assert torch.allclose(report.output, hand(inputs), atol=1e-6)
        assert report.objective.shape == (1,)
        assert torch.allclose(report.objective, marginal_entropy(trained(scales * inputs))[None], atol=1e-6)


def test_reset_gives_back_the_source_to_the_bit() -> None:
    network = _network()
    source = _values(network)
    adapter = tent(network, learning_rate=0.1)
    first = [adapter.adapt(_inputs(step)).output for step in range(3)]
    assert not _same(source, _values(network))
    adapter.reset()
    assert _same(source, _values(network))
    assert _same(first, [adapter.adapt(_inputs(step)).output for step in range(3)])  # Adam's moments too


@pytest.mark.parametrize("kind", ["tent", "eata", "sar", "centaur"])
def test_a_resumed_adapter_goes_on_exactly(kind: str) -> None:
    def make() -> tuple[nn.Sequential, Adapter]:
        network = _network()
        made = {
            "tent": lambda: tent(network, learning_rate=0.05),
            "eata": lambda: eata(network, CLASSES, [_inputs(9)], margin=1.0, similarity=0.999),
            "sar": lambda: sar(network, CLASSES, margin=1.0),
            "centaur": lambda: centaur(network, categorical_entropy, ["3"], learning_rate=0.1),
        }
        return network, made[kind]()

    network, adapter = make()
    for step in range(3):
        adapter.adapt(_inputs(step))
    other, resumed = make()
    resumed.load_state_dict(copy.deepcopy(adapter.state_dict()))
    for step in range(3, 6):
        one, two = adapter.adapt(_inputs(step)), resumed.adapt(_inputs(step))
        assert torch.equal(one.output, two.output)
        assert _same(_values(network), _values(other))


class _Explodes(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, logits: Tensor) -> Tensor:
        return logits.sum(-1)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return torch.full((len(grad), CLASSES), torch.nan)


def test_a_step_to_nan_is_taken_back_with_the_moments_and_reported() -> None:
    network = _network()
    bad = False

    def objective(logits: Tensor) -> Tensor:
        return _Explodes.apply(logits) if bad else categorical_entropy(logits)  # type: ignore[no-any-return,no-untyped-call]

    optimizer = partial(torch.optim.Adam, lr=0.1)
    adapter = Adapter(network, objective, normalisation_parameters(network), optimizer=optimizer, steps=2)
    adapter.adapt(_inputs(0))
    values, state = _values(network), copy.deepcopy(adapter.state_dict())
    bad = True
    with pytest.warns(AdaptationWarning, match=r"made a parameter NaN or infinite and was taken back"):
        report = adapter.adapt(_inputs(1))
    assert report.rolled_back
    assert report.kept == 0
    assert _same(values, _values(network))
    moments = adapter.state_dict()["optimizer"]["state"]
    assert all(torch.equal(moments[i]["exp_avg"], state["optimizer"]["state"][i]["exp_avg"]) for i in moments)
    bad = False
    assert not adapter.adapt(_inputs(2)).rolled_back


def test_nothing_is_stepped_where_no_sample_is_kept() -> None:
    network = _network()
    before = _values(network)
    report = sar(network, CLASSES, margin=1e-6).adapt(_inputs(0))
    assert report.kept == 0
    assert _same(before, _values(network))


def test_batch_statistics_replace_the_stored_ones() -> None:
    network, trained = _network(), _network()
    use_batch_statistics(network)
    inputs = _inputs(0)
    assert torch.allclose(network(inputs), copy.deepcopy(trained).train()(inputs), atol=1e-6)
    assert not torch.allclose(network(inputs), trained(inputs), atol=1e-2)


def test_entropy_falls_on_average_under_every_setting() -> None:
    for make in (
        lambda net: tent(net, learning_rate=0.01),
        lambda net: eata(net, CLASSES, [_inputs(9)], learning_rate=0.01, margin=1.0, similarity=0.999, beta=0.0),
        lambda net: sar(net, CLASSES, learning_rate=0.01, margin=1.0, collapse=0.0),
    ):
        adapter = make(_network())
        objectives = [float(adapter.adapt(_inputs(0)).objective.mean()) for _ in range(20)]
        assert objectives[-1] < objectives[0]


def test_bad_input() -> None:
    network = _network()
    sgd = partial(torch.optim.SGD, lr=0.1)
    own = module_parameters(network, ["3"])
    count = partial(group_entropy, groups=torch.zeros(12, CLASSES, dtype=torch.int64), agg="count", num_groups=1)
    for call, message in (
        (lambda: module_parameters(network, ["4"]), r"^no parameter stands under '4': the model has 0, 1, 3$"),
        (lambda: normalisation_parameters(nn.Linear(2, 2)), r"must have normalisation layers .*, got Linear"),
        (lambda: normalisation_parameters(network, ["1"]), r"must have normalisation layers with scale and shift"),
        (lambda: Adapter(network, categorical_entropy, {}, optimizer=sgd), r"^parameters must name at least one"),
        (
            lambda: Adapter(network, categorical_entropy, module_parameters(_network(), ["3"]), optimizer=sgd),
            r"^parameter '3.weight' must be the model's",
        ),
        (
            lambda: Adapter(network, categorical_entropy, own, optimizer=sgd, steps=0),
            r"^steps must be",
        ),
        (
            lambda: Adapter(network, categorical_entropy, own, optimizer=sgd, buffer=0),
            r"^buffer must be",
        ),
        (lambda: Adapter(network, categorical_entropy, own, optimizer=sgd, sharpness=-1.0), r"^sharpness must"),
        (
            lambda: Adapter(network, count, own, optimizer=sgd).adapt(_inputs(0)),
            r"^the objective must have a gradient with respect to the adapted parameters, got none: group_entropy",
        ),
        (
            lambda: Adapter(network, torch.mean, own, optimizer=sgd).adapt(_inputs(0)),
            r"^the objective must return a value for each sample, \(B,\), got \(\)$",
        ),
        (lambda: FisherAnchor(network, own, []), r"^batches must hold at least one batch"),
        (lambda: FisherAnchor(network, own, [_inputs(0)], beta=-1.0), r"^beta must be finite and at least 0"),
        (lambda: ReliableAndDiverse(1), r"^classes must be finite and at least 2, got 1$"),
        (lambda: ReliableAndDiverse(3, margin=0.0), r"^margin must be in \(0, 1\], got 0.0$"),
        (lambda: ReliableAndDiverse(3, similarity=2.0), r"^similarity must be in \(0, 1\], got 2.0$"),
        (lambda: Reliable(0.0), r"^margin must be finite and above 0"),
        (lambda: Reliable(1.0).load_state_dict({"mean": 1}), r"unknown keys \['mean'\]"),
        (lambda: tent(_network()).load_state_dict({}), r"^state of Adapter does not fit: missing keys"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
