"""The suite that every MIL model passes by being listed in ``MODELS``."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from entroreg.vision.mil import ACMIL, MODELS, Bags, GatedABMIL, MultiHeadABMIL, pack
from entroreg.vision.mil.models import ABMIL

every = pytest.mark.parametrize("name", MODELS)
streaming = pytest.mark.parametrize("cls", [ABMIL, GatedABMIL, MultiHeadABMIL])
SIZES = (3, 1, 40, 12)
LABELS = torch.tensor([0, 1, 2, 0])


def drawn(seed: int, *sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 24, generator=generator, dtype=torch.float64) for size in sizes]


def built(name: str, **settings: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[name](24, 3, **settings).double()


def gradients(model: nn.Module, bags: Bags, labels: Tensor) -> list[Tensor]:
    loss = model.bag_losses(model(bags), labels).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


@every
def test_packed_is_one_bag_at_a_time(name: str) -> None:
    model, bags = built(name).eval(), drawn(1, *SIZES)
    together, alone = model(pack(bags)), [model(pack([bag])) for bag in bags]
    torch.testing.assert_close(together.logits, torch.cat([one.logits for one in alone]), rtol=0, atol=1e-12)
    if together.attention_logits is not None:
        rows = torch.cat([one.attention_logits for one in alone], dim=1)
        torch.testing.assert_close(together.attention_logits, rows, rtol=0, atol=1e-12)
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for bag, label in zip(bags, LABELS, strict=True):
        for total, one in zip(expected, gradients(model, pack([bag]), label.unsqueeze(0)), strict=True):
            total += one / len(bags)
    torch.testing.assert_close(gradients(model, pack(bags), LABELS), expected, rtol=0, atol=1e-12)


@every
def test_float32_packing_differs_by_rounding(name: str) -> None:
    model, bags = built(name).float().eval(), [bag.float() for bag in drawn(2, *SIZES)]
    alone = torch.cat([model(pack([bag])).logits for bag in bags])
    torch.testing.assert_close(model(pack(bags)).logits, alone, rtol=0, atol=1e-6)


@every
def test_the_order_of_instances_does_not_matter(name: str) -> None:
    model, (bag,) = built(name).eval(), drawn(3, 17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    straight, mixed = model(pack([bag])), model(pack([bag[order]]))
    torch.testing.assert_close(mixed.logits, straight.logits, rtol=0, atol=1e-12)
    if straight.attention_logits is not None:
        expected = straight.attention_logits[:, order]
        torch.testing.assert_close(mixed.attention_logits, expected, rtol=0, atol=1e-12)


@every
def test_evaluation_repeats_itself(name: str) -> None:
    model, bags = built(name, dropout=0.5).eval(), pack(drawn(4, *SIZES))
    first, second = model(bags), model(bags)
    assert torch.equal(first.logits, second.logits)


@every
def test_the_other_bags_do_not_matter(name: str) -> None:
    model, bags = built(name).eval(), drawn(5, *SIZES)
    others = [bags[0], *(100.0 * bag for bag in bags[1:])]
    torch.testing.assert_close(model(pack(others)).logits[0], model(pack(bags)).logits[0], rtol=0, atol=1e-12)


@every
def test_every_parameter_learns(name: str) -> None:
    found = gradients(built(name), pack(drawn(6, *SIZES)), LABELS)
    names = [key for key, _ in built(name).named_parameters()]
    # A bias of all attention logits shifts them alike; the softmax takes no notice.
    still = {key for key, grad in zip(names, found, strict=True) if not grad.abs().max() > 1e-12}
    assert still <= {key for key in names if key.endswith(("score.bias", "key.bias"))}


@every
def test_sizes_that_make_no_model(name: str) -> None:
    with pytest.raises(ValueError, match="classes must be finite and at least 2, got 1"):
        MODELS[name](24, 1)
    with pytest.raises(ValueError, match="hidden must be finite and at least 1, got 0"):
        MODELS[name](24, 2, hidden=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\], got 2"):
        MODELS[name](24, 2, dropout=2.0)


def test_abmil_is_the_formula() -> None:
    model, (bag,) = built("gated-abmil"), drawn(7, 9)
    weights = model.state_dict()
    hidden = torch.relu(bag @ weights["pooling.trunk.0.weight"].T)
    value = torch.tanh(hidden @ weights["pooling.scores.value.weight"].T + weights["pooling.scores.value.bias"])
    gate = 1 / (
        1 + torch.exp(-(hidden @ weights["pooling.scores.gate.weight"].T + weights["pooling.scores.gate.bias"]))
    )
    logits = (value * gate) @ weights["pooling.scores.score.weight"][0] + weights["pooling.scores.score.bias"]
    pooled = (logits.exp() / logits.exp().sum()) @ hidden
    expected = pooled @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(model(pack([bag])).logits[0], expected)


def test_multi_head_is_torchs_own_attention() -> None:
    model, (bag,) = built("multi-head", heads=4), drawn(8, 9)
    width = model.value.in_features
    torchs = nn.MultiheadAttention(width, 4, batch_first=True, dtype=torch.float64)
    scores = model.pooling.scores
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([torch.eye(width), scores.key.weight, model.value.weight]))
        torchs.in_proj_bias.copy_(torch.cat([torch.zeros(width), scores.key.bias, model.value.bias]))
        torchs.out_proj.weight.copy_(model.projection.weight)
        torchs.out_proj.bias.copy_(model.projection.bias)
    hidden = model.pooling.trunk(bag).unsqueeze(0)
    query = scores.query.reshape(1, 1, -1)
    expected, attention = torchs(query, hidden, hidden, average_attn_weights=False)
    output = model(pack([bag]))
    torch.testing.assert_close(output.logits, model.head(expected[0]))
    torch.testing.assert_close(output.attention_logits.softmax(1), attention[0, :, 0])


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="hidden must be a multiple of heads=8, got 12"):
        MultiHeadABMIL(24, 2, hidden=12)


def test_dsmil_attends_to_the_critical_instance() -> None:
    model, (bag,) = built("dsmil"), drawn(9, 11)
    output = model(pack([bag]))
    hidden = model.trunk(bag)
    scores = model.instance_head(hidden)
    torch.testing.assert_close(output.auxiliary_logits[0, 0], scores.max(0).values)
    queries = model.query(hidden)
    for category in range(3):
        critical = queries[scores[:, category].argmax()]
        expected = queries @ critical / math.sqrt(queries.shape[1])
        torch.testing.assert_close(output.attention_logits[category], expected)
    loss = model.bag_losses(output, torch.tensor([2])).mean()
    parts = [
        nn.functional.cross_entropy(one, torch.tensor([2])) for one in (output.logits, output.auxiliary_logits[0])
    ]
    torch.testing.assert_close(loss, 0.5 * (parts[0] + parts[1]))


def test_acmil_leaves_out_six_of_the_top_ten() -> None:
    model, bags = built("acmil"), pack(drawn(10, 30, 4, 1))
    whole = model.eval()(bags).attention_logits
    torch.manual_seed(0)
    masked = model.train()(bags).attention_logits
    out = masked == -math.inf
    for row, gone in zip(whole, out, strict=True):
        assert gone[:30].sum() == 6
        assert set(gone[:30].nonzero().flatten().tolist()) <= set(row[:30].topk(10).indices.tolist())
        assert gone[30:34].sum() == int(0.6 * 4)
        assert not gone[34]
    assert len({tuple(row.tolist()) for row in out}) > 1  # each branch draws for itself


def test_acmil_loss_is_the_papers() -> None:
    model, bags = ACMIL(24, 3, masked_top=0).double(), drawn(11, 6, 9)
    labels = torch.tensor([2, 1])
    output = model(pack(bags))
    similarity = []
    for rows in torch.split(output.attention_logits, [6, 9], dim=1):
        attention = rows.softmax(1)
        pairs = [
            nn.functional.cosine_similarity(attention[i], attention[j], dim=0) for i in range(5) for j in range(i)
        ]
        similarity.append(torch.stack(pairs).mean())
    branches = [nn.functional.cross_entropy(rows, labels) for rows in output.auxiliary_logits]
    expected = (
        nn.functional.cross_entropy(output.logits, labels)
        + torch.stack(branches).mean()
        + torch.stack(similarity).mean()
    )
    torch.testing.assert_close(model.bag_losses(output, labels).mean(), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branches": 1}, "branches must be finite and at least 2, got 1"),
        ({"masked_top": -1}, "masked_top must be finite and at least 0, got -1"),
        ({"mask_share": 1.0}, r"mask_share must be in \[0, 1\), got 1.0: a branch needs an instance"),
    ],
)
def test_acmil_refuses(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ACMIL(24, 2, **settings)


@every
def test_losses_are_of_each_bag(name: str) -> None:
    model, bags = built(name).eval(), drawn(12, *SIZES)
    alone = [model.bag_losses(model(pack([bag])), label[None]) for bag, label in zip(bags, LABELS, strict=True)]
    torch.testing.assert_close(model.bag_losses(model(pack(bags)), LABELS), torch.cat(alone), rtol=0, atol=1e-12)


@streaming
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_streaming_is_exact(cls: type[ABMIL], dropout: float) -> None:
    torch.manual_seed(0)
    whole = cls(24, 3, dropout=dropout).double()
    chunked = cls(24, 3, dropout=dropout, chunk_size=7).double()
    chunked.load_state_dict(whole.state_dict())
    bags = pack(drawn(13, *SIZES))
    torch.manual_seed(1)
    streamed = chunked(bags)
    loss = chunked.bag_losses(streamed, LABELS).mean() - 0.1 * streamed.attention_entropy.mean()
    found = torch.autograd.grad(loss, list(chunked.parameters()))
    assert streamed.attention_logits is None
    if dropout:  # masks are drawn chunk by chunk, so only the recomputation can be compared: it drew the same ones
        torch.manual_seed(1)
        again = chunked(bags)
        loss = chunked.bag_losses(again, LABELS).mean() - 0.1 * again.attention_entropy.mean()
        direct = torch.autograd.grad(loss, list(chunked.parameters()))
        torch.testing.assert_close(found, direct, rtol=0, atol=0)
        return
    from entroreg.measures import packed_entropy

    output = whole(bags)
    entropy = packed_entropy(output.attention_logits, bags.offsets)
    expected = torch.autograd.grad(
        whole.bag_losses(output, LABELS).mean() - 0.1 * entropy.mean(), list(whole.parameters())
    )
    torch.testing.assert_close(streamed.logits, output.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(streamed.attention_entropy, entropy, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@streaming
def test_streaming_without_gradients_keeps_the_attention(cls: type[ABMIL]) -> None:
    model, bags = cls(24, 3, chunk_size=5).double().eval(), pack(drawn(14, *SIZES))
    with torch.no_grad():
        streamed = model(bags)
        model.pooling.chunk_size = None
        whole = model(bags)
    torch.testing.assert_close(streamed.attention_logits, whole.attention_logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(streamed.logits, whole.logits, rtol=0, atol=1e-12)


def test_chunks_of_nothing() -> None:
    with pytest.raises(ValueError, match="chunk_size must be finite and at least 1, got 0"):
        ABMIL(24, 2, chunk_size=0)
