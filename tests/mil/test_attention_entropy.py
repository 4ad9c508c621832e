"""AEM against its formula, by loops that share no code with it."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from entroreg import Dual, EntropyRegularizer, Fixed, Scheduled
from entroreg.schedules import CosineSchedule
from entroreg.vision.mil import ABMIL, ACMIL, DSMIL, AttentionEntropy, Bags, MeanPooling, MILOutput, pack

SIZES = (5, 1, 30)


def attended(rows: int) -> tuple[Tensor, Bags]:
    generator = torch.Generator().manual_seed(3)
    logits = 3.0 * torch.randn(rows, sum(SIZES), generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), pack([torch.zeros(size, 2) for size in SIZES])


def output_of(logits: Tensor) -> MILOutput:
    return MILOutput(torch.zeros(len(SIZES), 2), attention_logits=logits)


def aem(weight: float, **settings: object) -> AttentionEntropy:
    return AttentionEntropy(EntropyRegularizer(Fixed(weight), sign="maximize"), **settings)  # type: ignore[arg-type]


def paper(logits: Tensor, weight: float) -> tuple[float, list[list[float]]]:
    """lambda sum p log p, mean over rows and bags, and its gradient p (log p + H), in plain Python."""
    value, gradient, cells = 0.0, [[0.0] * sum(SIZES) for _ in logits], len(logits) * len(SIZES)
    for row, values in enumerate(logits.tolist()):
        begin = 0
        for size in SIZES:
            part = values[begin : begin + size]
            weights = [math.exp(a) for a in part]
            probs = [w / math.fsum(weights) for w in weights]
            entropy = -math.fsum(p * math.log(p) for p in probs)
            value -= weight * entropy / cells
            for place, p in enumerate(probs, begin):
                gradient[row][place] = weight * p * (math.log(p) + entropy) / cells
            begin += size
    return value, gradient


@pytest.mark.parametrize("rows", [1, 5])
def test_value_and_gradient_are_the_papers(rows: int) -> None:
    logits, bags = attended(rows)
    loss, entropy = aem(0.25)(output_of(logits), bags)  # lambda is a float32, which holds 0.25 exactly
    value, gradient = paper(logits, 0.25)
    assert abs(float(loss.detach()) - value) < 1e-10
    assert abs(float(entropy) + value / 0.25) < 1e-10
    found = torch.autograd.grad(loss, logits)[0]
    assert float((found - torch.tensor(gradient, dtype=torch.float64)).abs().max()) < 1e-10


def test_a_step_down_the_loss_raises_entropy() -> None:
    logits, bags = attended(2)
    loss, before = aem(1.0)(output_of(logits), bags)
    moved = logits - 0.5 * torch.autograd.grad(loss, logits)[0]
    assert float(aem(1.0)(output_of(moved), bags).entropy) > float(before)


def test_normalized_by_log_n() -> None:
    logits, bags = attended(1)
    whole = aem(0.2).measure(output_of(logits), bags)[0].tolist()
    shares = aem(0.2, normalize="log_n").measure(output_of(logits), bags)[0].tolist()
    expected = [whole[0] / math.log(5), 0.0, whole[2] / math.log(30)]
    assert shares == pytest.approx(expected, abs=1e-12)


def test_top_k_counts_the_largest_alone() -> None:
    logits, bags = attended(1)
    found = aem(0.2, top_k=3).measure(output_of(logits), bags)[0, 2]
    probs = logits[0, 6:].softmax(0).topk(3).values
    probs = probs / probs.sum()
    torch.testing.assert_close(found, -(probs * probs.log()).sum())


@pytest.mark.parametrize("model", [ABMIL(2, 2), DSMIL(2, 2), ACMIL(2, 2)], ids=["abmil", "dsmil", "acmil"])
def test_it_stands_in_the_models_graph(model: torch.nn.Module) -> None:
    bags = pack([torch.randn(size, 2, generator=torch.Generator().manual_seed(size)) for size in SIZES])
    aem(1.0)(model.eval()(bags), bags).loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_streamed_entropy_is_taken_as_it_comes() -> None:
    entropy = torch.tensor([[1.0, 0.0, 3.0]])
    _, bags = attended(1)
    output = MILOutput(torch.zeros(3, 2), attention_entropy=entropy)
    assert float(aem(0.5)(output, bags).loss) == pytest.approx(-0.5 * 4 / 3)
    shares = aem(0.5, normalize="log_n").measure(output, bags)
    torch.testing.assert_close(shares, entropy / torch.tensor([math.log(5), math.log(2), math.log(30)]))
    with pytest.raises(ValueError, match="top_k needs all attention logits"):
        aem(0.5, top_k=2).measure(output, bags)


def test_cosine_annealing_is_the_formula() -> None:
    annealed = AttentionEntropy(EntropyRegularizer(Scheduled(CosineSchedule(0.1, 0.0, steps=10)), sign="maximize"))
    logits, bags = attended(1)
    for step in range(12):
        loss, entropy = annealed(output_of(logits), bags)
        expected = 0.1 * (1 + math.cos(math.pi * min(step / 10, 1))) / 2
        assert float(loss.detach()) == pytest.approx(-expected * float(entropy), rel=1e-6, abs=1e-9)
        annealed.update(entropy)


def test_a_dual_lambda_holds_the_share_of_log_n() -> None:
    held = AttentionEntropy(
        EntropyRegularizer(Dual(0.8, initial=0.1, learning_rate=0.01), sign="maximize"), normalize="log_n"
    )
    generator = torch.Generator().manual_seed(0)
    pull, bags = torch.randn(1, 200, generator=generator), pack([torch.zeros(200, 2)])
    logits = torch.zeros(1, 200, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    shares = []
    for _ in range(1500):  # the task wants attention on the instance of the largest pull
        output = MILOutput(torch.zeros(1, 2), attention_logits=logits)
        loss, entropy = held(output, bags)
        task = -(logits.softmax(1) * pull).sum()
        optimizer.zero_grad()
        (task + loss).backward()
        optimizer.step()
        held.update(entropy)
        shares.append(float(entropy))
    assert min(shares) < 0.75  # it was pulled below the target first
    assert sum(shares[-100:]) / 100 == pytest.approx(0.8, abs=0.005)


def test_state_goes_on() -> None:
    def new() -> AttentionEntropy:
        return AttentionEntropy(EntropyRegularizer(Dual(0.8), sign="maximize"), normalize="log_n")

    first, second = new(), new()
    first.update(torch.tensor(0.2))
    second.load_state_dict(first.state_dict())
    first.update(torch.tensor(0.3))
    second.update(torch.tensor(0.3))
    assert torch.equal(first.regularizer.controller.value, second.regularizer.controller.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": "n"}, "normalize must be one of ['log_n'], got 'n'"),
        ({"top_k": 0}, "top_k must be finite and at least 1, got 0"),
        ({"normalize": "log_n", "top_k": 3}, "normalize and top_k exclude each other"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        aem(0.1, **settings)


def test_a_model_without_attention() -> None:
    bags = pack([torch.zeros(3, 2)])
    with pytest.raises(ValueError, match="output must hold attention, got a model without any"):
        aem(0.1)(MeanPooling(2, 2)(bags), bags)
