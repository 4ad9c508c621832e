"""AEM: attention-entropy maximisation over the attention of any MIL model here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from entroreg import _checks
from entroreg.measures import packed_entropy, packed_normalized_entropy, packed_topk_entropy
from entroreg.regularizer import EntropyRegularizer, RegularizerOutput
from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.output import MILOutput


class AttentionEntropy:
    r"""The entropy of each bag's attention, held up by a regulariser.

    $$L = \mathrm{CE} + \lambda \sum_n p_n \log p_n = \mathrm{CE} - \lambda H(p), \qquad p = \mathrm{softmax}(a)$$

    With several rows of attention (heads, classes, branches) the mean over rows; over bags the mean. The paper does
    not divide by log N, so lambda acts more strongly on larger bags; ``normalize="log_n"`` removes that.

    Args:
        regularizer: of a `Fixed`, `Scheduled` or `Dual` lambda, with ``sign="maximize"``; a Dual's target is in
            nats, or with ``normalize="log_n"`` a share of log N.
        normalize: "log_n" for H / log N, or None for H as in the paper.
        top_k: count only the k largest probabilities, renormalised; None counts all.

    Raises:
        ValueError: another word for ``normalize``, both options at once, or top_k below 1.

    Example:
        >>> from entroreg import EntropyRegularizer, Fixed
        >>> from entroreg.vision.mil import ABMIL, pack
        >>> bags = pack([torch.zeros(4, 8)])
        >>> output = ABMIL(8, classes=2)(bags)
        >>> aem = AttentionEntropy(EntropyRegularizer(Fixed(0.1), sign="maximize"))
        >>> aem(output, bags).entropy
        tensor(1.3863)

    Reference:
        Zhang et al. (2024), "AEM: attention entropy maximization for multiple instance learning ...",
        arXiv 2406.15303, eq. 2-3.
    """

    def __init__(
        self, regularizer: EntropyRegularizer, *, normalize: str | None = None, top_k: int | None = None
    ) -> None:
        if normalize is not None:
            _checks.require_choice("normalize", normalize, ("log_n",))
        if normalize is not None and top_k is not None:
            raise ValueError(
                "normalize and top_k exclude each other: the k largest are not to be shared out over N"
            )
        self.regularizer = regularizer
        self.normalize = normalize
        self.top_k = None if top_k is None else int(_checks.require_number("top_k", top_k, low=1))

    def measure(self, output: MILOutput, bags: Bags) -> Tensor:
        """Return (K, B), the entropy of each row of attention over each bag, with its graph.

        Raises:
            ValueError: the model has no attention, or streams and ``top_k`` needs what streaming does not keep.
        """
        if output.attention_logits is not None:
            logits = output.attention_logits
            if self.top_k is not None:
                return packed_topk_entropy(logits, bags.offsets, self.top_k)
            measure = packed_entropy if self.normalize is None else packed_normalized_entropy
            return measure(logits, bags.offsets)
        if output.attention_entropy is None:
            raise ValueError("output must hold attention, got a model without any: AEM needs one such as ABMIL")
        if self.top_k is not None:
            raise ValueError(
                "top_k needs all attention logits, which a streamed bag does not keep: raise chunk_size"
            )
        if self.normalize is None:
            return output.attention_entropy
        # log 1 = 0: a bag of one instance has entropy 0 whatever it is divided by.
        return output.attention_entropy / bags.offsets.diff().clamp(min=2).log()

    def __call__(self, output: MILOutput, bags: Bags) -> RegularizerOutput:
        """Return the loss to add, and the mean entropy, detached; call ``update`` after the optimiser's step."""
        return self.regularizer(self.measure(output, bags))

    def update(self, entropy: Tensor) -> dict[str, Tensor]:
        """Let the controller take its step: a dual one learns, a scheduled one moves on.

        Args:
            entropy: any shape, as ``measure`` or ``__call__`` gave it.

        Returns:
            The controller's metrics.
        """
        return self.regularizer.controller.update(entropy.detach())

    def state_dict(self) -> dict[str, Any]:
        """Return the controller's state."""
        return self.regularizer.controller.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the controller's state."""
        self.regularizer.controller.load_state_dict(state)
