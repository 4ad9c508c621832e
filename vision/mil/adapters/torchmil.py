"""Attention logits of torchmil's models, as far as these return logits (torchmil 1.0.2)."""

from __future__ import annotations

from torch import Tensor, nn

_RETURN_LOGITS = ("ABMIL", "CLAM_SB", "TransformerABMIL")
_REFUSED = {
    "DSMIL": "its return_att gives probabilities",
    "TransMIL": "its return_att gives the class token's row of a self-attention, after the softmax",
}


def torchmil_attention_logits(model: nn.Module, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return a torchmil model's bag logits and its attention logits, both with their graph, from one forward pass.

    torchmil's attention logits of padding are ordinary numbers; here they are -inf, so that softmax and
    `categorical_entropy` count the instances alone.

    Args:
        model: an ``ABMIL``, ``CLAM_SB`` or ``TransformerABMIL`` of torchmil, or a subclass of one.
        features: (B, N, D) floating, bags padded to one length.
        mask: (B, N), 0 or False = padding, as torchmil takes it; None for bags without padding. A bag that is all
            padding makes torchmil return NaN.

    Returns:
        Bag logits (B,), and attention logits (B, N), -inf at padding.

    Raises:
        TypeError: another model; the message says why.
        ValueError: mask of another shape, or attention of another shape than torchmil 1.0.2 gives.

    Example:
        >>> bag_logits, attention = torchmil_attention_logits(model, features, mask)  # doctest: +SKIP
        >>> aem(categorical_entropy(attention)).loss  # doctest: +SKIP
    """
    _check_model(model)
    if mask is not None and mask.shape != features.shape[:2]:
        raise ValueError(
            f"mask must have shape (B, N)={tuple(features.shape[:2])}, got {tuple(mask.shape)}: "
            "pass both as torchmil's collate_fn gives them"
        )
    bag_logits, attention = model(features, mask, return_att=True)
    if attention.shape != features.shape[:2]:
        raise ValueError(
            f"attention must have shape (B, N)={tuple(features.shape[:2])}, got {tuple(attention.shape)}: "
            "install torchmil 1.0.2"
        )
    return bag_logits, attention if mask is None else attention.masked_fill(mask == 0, -float("inf"))


def _check_model(model: nn.Module) -> None:
    names = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("torchmil.")]
    for name in names:
        if name in _REFUSED:
            raise TypeError(f"torchmil's {name} has no attention logits: {_REFUSED[name]}")
    if not any(name in _RETURN_LOGITS for name in names):
        raise TypeError(
            f"model must be torchmil's {', '.join(_RETURN_LOGITS)}, got {type(model).__name__}: "
            "use AttentionTap for other models"
        )
