"""Words for the bags that made something NaN or infinite."""

from __future__ import annotations

import torch

from entroreg.vision.mil.dataset import BagDataset


def culprits_among(dataset: BagDataset, indices: list[int]) -> str:
    """Return words for bags of which one or all have made a model's numbers NaN or infinite, and what to do.

    Args:
        dataset: with the bags.
        indices: of the bags, at least one.
    """
    names = [repr(dataset.names[index]) for index in indices]
    for index, name in zip(indices, names, strict=True):
        if not bool(torch.isfinite(dataset.features(index)).all()):
            return f"features of bag {name} are not finite: extract them again"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"bags {', '.join(names[:3])}{more}: lower learning_rate, or scale the features"
