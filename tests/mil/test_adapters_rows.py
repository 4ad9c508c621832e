"""Attention that a model returns, as rows: the same AEM in every layout, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from entroreg import EntropyRegularizer, Fixed
from entroreg.measures import categorical_entropy
from entroreg.vision.mil.adapters import AttentionTap, attention_rows

LOGITS = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Returning(nn.Module):
    """Somebody's model of padded bags (B, N, D): it returns bag logits and attention logits (B, N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.head = nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, bags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(bags)
        probs = scores.masked_fill(~mask[..., None], -float("inf")).softmax(1)
        return self.head((probs * bags).sum(1)), scores


@pytest.mark.parametrize(
    ("attention", "layout"),
    [
        (LOGITS.T, "instances_first"),
        (LOGITS.T[None], "instances_first"),
        (LOGITS, "rows_first"),
        (LOGITS[None], "rows_first"),
        (LOGITS, "bags_first"),
        (LOGITS[..., None], "bags_first"),
    ],
)
def test_every_layout_gives_the_same_rows(attention: Tensor, layout: str) -> None:
    assert torch.equal(attention_rows(attention, layout=layout, validate=True), LOGITS)


def test_aem_on_returned_attention_of_padded_bags_is_that_of_each_bag_alone() -> None:
    torch.manual_seed(0)
    model, bags = Returning().double(), torch.randn(2, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    aem = EntropyRegularizer(Fixed(0.3), sign="maximize")
    _, attention = model(bags, mask)
    found = aem(categorical_entropy(attention_rows(attention, layout="bags_first"), mask)).loss
    probs = [model.scores(bag).flatten().softmax(0) for bag in (bags[0], bags[1, :3])]
    by_hand = 0.3 * sum((p * p.log()).sum() for p in probs) / 2
    assert found.item() == pytest.approx(by_hand.item(), abs=1e-7)  # a controller's value is float32
    one, other = (torch.autograd.grad(loss, model.scores.weight)[0] for loss in (found, by_hand))
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)
    with AttentionTap(model, "scores") as tap:
        _, attention = model(bags, mask)
    assert torch.equal(tap.logits(layout="bags_first"), attention[..., 0])


@pytest.mark.parametrize("validate", [True, False])
def test_probabilities_are_refused_where_asked(validate: bool) -> None:
    probs = LOGITS.softmax(1)
    if not validate:
        assert torch.equal(attention_rows(probs, layout="rows_first"), probs)
        return
    with pytest.raises(ValueError, match=r"attention must be logits, got rows of prob.*before the softmax"):
        attention_rows(probs, layout="rows_first", validate=True)


def test_what_only_looks_like_probabilities_is_taken() -> None:
    one_instance = torch.ones(2, 1)  # sums to 1 as any attention over one instance does
    assert torch.equal(attention_rows(one_instance, layout="rows_first", validate=True), one_instance)
    negative = torch.tensor([[2.0, -1.0]])  # sums to 1, but no probability is negative
    assert torch.equal(attention_rows(negative, layout="rows_first", validate=True), negative)


@pytest.mark.parametrize(
    ("attention", "layout", "error", "message"),
    [
        (LOGITS[..., None], "instances_first", ValueError, r"one bag's, .*, got \(3, 5, 1\): run .* or use bags_f"),
        (LOGITS[:2, :, None], "rows_first", ValueError, r"must be one bag's, .* got \(2, 5, 1\)"),
        (
            torch.zeros(2, 5, 3),
            "bags_first",
            ValueError,
            r"\(B, N\) or \(B, N, 1\) for bags_first, got \(2, 5, 3\)",
        ),
        (torch.zeros(5), "bags_first", ValueError, r"for bags_first, got \(5,\): run one bag at a time"),
        (torch.tensor(0.0), "rows_first", ValueError, "attention must have at least 1 dimension"),
        (torch.zeros(5, dtype=torch.int64), "rows_first", TypeError, "must be floating, got torch.int64"),
        ((LOGITS, LOGITS), "rows_first", TypeError, "attention must be a torch.Tensor, got tuple"),
        (torch.tensor([0.0, float("nan")]), "rows_first", ValueError, "must be finite or -inf, got nan"),
        (LOGITS, "columns", ValueError, "layout must be one of .*'bags_first'.*, got 'columns'"),
    ],
)
def test_refuses(attention: Tensor, layout: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        attention_rows(attention, layout=layout, validate=True)
