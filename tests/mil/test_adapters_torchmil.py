"""torchmil's models: which are taken, which are refused and why, and padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from entroreg.measures import categorical_entropy
from entroreg.vision.mil.adapters import torchmil_attention_logits

FEATURES = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


class _Base(nn.Module):
    """Returns as torchmil 1.0.2 does: bag logits (B,), attention logits (B, N), padding not masked."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.classifier = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, X: Tensor, mask: Tensor, return_att: bool) -> tuple[Tensor, Tensor]:
        assert return_att
        scores = self.scores(X)
        probs = scores if mask is None else scores.masked_fill(mask[..., None] == 0, -float("inf"))
        pooled = (probs.softmax(1) * X).sum(1)
        return self.classifier(pooled).squeeze(-1), scores.squeeze(-1)


def _named(name: str, base: type[nn.Module] = _Base, module: str = "torchmil.models.some") -> nn.Module:
    return type(name, (base,), {"__module__": module})()


@pytest.mark.parametrize("name", ["ABMIL", "CLAM_SB", "TransformerABMIL"])
def test_padding_is_no_instance(name: str) -> None:
    model = _named(name)
    logits, attention = torchmil_attention_logits(model, FEATURES, MASK)
    alone, attention_alone = torchmil_attention_logits(model, FEATURES[1:, :3], None)
    torch.testing.assert_close(logits[1:], alone)
    torch.testing.assert_close(attention[1:, :3], attention_alone)
    assert attention[1, 3:].tolist() == [-float("inf")] * 2
    entropy = categorical_entropy(attention)
    torch.testing.assert_close(entropy[1:], categorical_entropy(attention_alone))
    entropy.sum().backward()
    assert all(bool(one.grad.isfinite().all()) for one in model.scores.parameters())
    assert float(model.scores.weight.grad.norm()) > 0.0


def test_a_subclass_is_taken_too() -> None:
    mine = _named("Mine", type(_named("ABMIL")), module="mine")
    assert torchmil_attention_logits(mine, FEATURES, None)[1].shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("DSMIL", "torchmil.models.dsmil", "torchmil's DSMIL has no attention logits: its return_att gives prob"),
        ("TransMIL", "torchmil.models.transmil", "TransMIL has no attention logits: .* class token's row"),
        (
            "SETMIL",
            "torchmil.models.setmil",
            "must be torchmil's ABMIL, CLAM_SB, TransformerABMIL, got SETMIL: use A",
        ),
        ("ABMIL", "mine", "must be torchmil's ABMIL, .* got ABMIL: use AttentionTap"),
    ],
)
def test_refuses_other_models(name: str, module: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        torchmil_attention_logits(_named(name, module=module), FEATURES, MASK)


def test_refuses_shapes() -> None:
    with pytest.raises(ValueError, match=r"mask must have shape \(B, N\)=\(2, 5\), got \(2, 4\): pass both"):
        torchmil_attention_logits(_named("ABMIL"), FEATURES, MASK[:, :4])

    class Other(_Base):
        def forward(self, X: Tensor, mask: Tensor, return_att: bool) -> tuple[Tensor, Tensor]:
            logits, scores = super().forward(X, mask, return_att)
            return logits, scores[..., None]

    with pytest.raises(ValueError, match=r"attention must have shape .*, got \(2, 5, 1\): install torchmil 1.0.2"):
        torchmil_attention_logits(_named("ABMIL", Other), FEATURES, MASK)


def test_the_real_models() -> None:
    models = pytest.importorskip("torchmil.models", reason="torchmil is no dependency")
    attended: list[Tensor] = []
    for model in (
        models.ABMIL(in_shape=(6,), gated=True),
        models.CLAM_SB(in_shape=(6,)),
        models.TransformerABMIL(in_shape=(6,), transf_att_dim=8, transf_n_heads=2),
    ):
        # what the pooling is given and what it makes of it
        model.pool.register_forward_hook(lambda _pool, given, made: attended.extend((given[0], made[0])))
        _, attention = torchmil_attention_logits(model.eval(), FEATURES, MASK)
        instances, pooled = attended[-2:]
        torch.testing.assert_close((attention.softmax(1)[..., None] * instances).sum(1), pooled)
        assert attention[1, 3:].tolist() == [-float("inf")] * 2
    for kind in (models.DSMIL, models.TransMIL):
        with pytest.raises(TypeError, match=f"{kind.__name__} has no attention logits"):
            torchmil_attention_logits(kind(in_shape=(6,)), FEATURES, MASK)
