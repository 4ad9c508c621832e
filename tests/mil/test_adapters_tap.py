"""AEM on a user's own model by a hook: the same value and gradient as by hand, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from entroreg import EntropyRegularizer, Fixed
from entroreg.measures import categorical_entropy
from entroreg.vision.mil.adapters import AttentionTap


class Pooling(nn.Module):
    """Somebody's attention pooling of one bag (N, D), with K rows."""

    def __init__(self, rows: int = 1) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, rows))
        self.head = nn.Linear(6 * rows, 2)

    def forward(self, bag: Tensor) -> Tensor:
        probs = self.attention(bag).softmax(0)
        return self.head((probs.T @ bag).flatten())


class Returns(nn.Module):
    """Its only submodule returns what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Identity()

    def forward(self, output: object) -> object:
        return self.scores(output)


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@given(seed=st.integers(0, 99), tiles=st.integers(1, 9), rows=st.integers(1, 3))
def test_aem_through_the_tap_equals_aem_by_hand(seed: int, tiles: int, rows: int) -> None:
    torch.manual_seed(seed)
    model, bag = Pooling(rows).double(), torch.randn(tiles, 6, dtype=torch.float64)
    label, parameters = torch.tensor(1), list(model.parameters())
    aem = EntropyRegularizer(Fixed(0.3), sign="maximize")
    with AttentionTap(model, "attention.2") as tap:
        loss = nn.functional.cross_entropy(model(bag), label)
        loss = loss + aem(categorical_entropy(tap.logits(layout="instances_first"))).loss
    found = torch.autograd.grad(loss, parameters)
    probs = model.attention(bag).softmax(0)
    by_hand = nn.functional.cross_entropy(model(bag), label) + 0.3 * (probs * probs.log()).sum(0).mean()
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-7)  # a controller's value is float32
    for one, other in zip(found, torch.autograd.grad(by_hand, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((5,), "instances_first", (1, 5)),
        ((5, 1), "instances_first", (1, 5)),
        ((5, 3), "instances_first", (3, 5)),
        ((1, 5, 3), "instances_first", (3, 5)),
        ((5,), "rows_first", (1, 5)),
        ((3, 5), "rows_first", (3, 5)),
        ((1, 3, 5), "rows_first", (3, 5)),
        ((3, 3), "rows_first", (3, 3)),
    ],
)
def test_layouts(shape: tuple[int, ...], layout: str, expected: tuple[int, int]) -> None:
    model, output = Returns(), torch.randn(shape)
    with AttentionTap(model, "scores") as tap:
        model(output)
    rows = tap.logits(layout=layout, validate=True)
    assert rows.shape == expected
    last = output.reshape(shape[-2:]) if len(shape) > 1 else output[None]
    assert torch.equal(rows, last.T if layout == "instances_first" and len(shape) > 1 else last)


def test_hooks_are_gone_after_the_block_and_after_an_error_in_it() -> None:
    model = Pooling()
    with AttentionTap(model, "attention") as tap:
        assert _hooks(model) == 2
        with pytest.raises(RuntimeError, match="in use already"):
            tap.__enter__()
    assert _hooks(model) == 0
    with pytest.raises(KeyError), AttentionTap(model, "attention"):
        raise KeyError
    assert _hooks(model) == 0
    with tap:  # and again
        model(torch.zeros(4, 6))
    assert tap.logits(layout="instances_first").shape == (1, 4)


def test_a_pass_forgets_the_one_before() -> None:
    model = Pooling()
    with AttentionTap(model, "attention") as tap:
        model(torch.zeros(4, 6))
        assert tap.logits(layout="instances_first").shape == (1, 4)
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            model(torch.zeros(4, 7))
        with pytest.raises(RuntimeError, match="nothing was captured from 'attention': call the model inside"):
            tap.logits(layout="instances_first")


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"a submodule of Pooling, got 'atention.2': the nearest are \['attention.2'"
    ):
        AttentionTap(Pooling(), "atention.2")


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ((torch.zeros(2), torch.zeros(2)), TypeError, "'scores' must return a tensor, got tuple: name the layer"),
        (torch.zeros(2, dtype=torch.int64), TypeError, "the output of 'scores' must be floating, got torch.int64"),
        (torch.zeros(2, 5, 1), ValueError, r"got \(2, 5, 1\): run one bag at a time"),
        (torch.eye(3).softmax(0), ValueError, "must be logits, got rows of probabilities"),
        (torch.tensor([0.0, float("nan")]), ValueError, "must be finite or -inf, got nan"),
    ],
)
def test_outputs_it_refuses(output: object, error: type[Exception], message: str) -> None:
    model = Returns()
    with AttentionTap(model, "scores") as tap:
        model(output)
    with pytest.raises(error, match=message):
        tap.logits(layout="instances_first", validate=True)


def test_refuses_another_layout() -> None:
    with pytest.raises(ValueError, match=r"layout must be one of .*, got 'rows'"):
        AttentionTap(Pooling(), "attention").logits(layout="rows")
