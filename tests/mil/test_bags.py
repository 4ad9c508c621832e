from __future__ import annotations

import pytest
import torch

from entroreg.vision.mil import BagsInMemory, DataError, pack


def test_bags_come_back() -> None:
    parts = [torch.randn(size, 3, generator=torch.Generator().manual_seed(size)) for size in (2, 1, 4)]
    bags = pack(parts)
    assert len(bags) == 3
    assert bags.offsets.tolist() == [0, 2, 3, 7]
    assert bags.sizes == (2, 1, 4)
    for index, part in enumerate(parts):
        assert torch.equal(bags.bag(index), part)
    assert bags.to("cpu", torch.float64).features.dtype == torch.float64


@pytest.mark.parametrize(
    ("bags", "error", "message"),
    [
        ([], ValueError, "bags must hold at least one bag, got none"),
        ([torch.zeros(2, 3), torch.zeros(0, 3)], ValueError, "bag 1 must have at least one instance, got none"),
        ([torch.zeros(3)], ValueError, r"bag 0 must have shape \(instances, features\), got \(3,\)"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], ValueError, "bag 1 must have the features of bag 0, 3, got 4"),
        ([torch.zeros(2, 3), torch.zeros(2, 3).half()], ValueError, "bag 1 must have the dtype of bag 0"),
        ([torch.zeros(2, 3).long()], TypeError, "bag 0 must be floating, got torch.int64"),
    ],
)
def test_what_cannot_be_packed(bags, error, message) -> None:
    with pytest.raises(error, match=message):
        pack(bags)


def test_a_data_set_in_memory() -> None:
    data = BagsInMemory([torch.zeros(2, 3), torch.zeros(4, 3)], labels=[0, 1], patients=["a", "a"])
    assert (list(data.sizes), data.in_features, list(data.names)) == ([2, 4], 3, ["0", "1"])
    assert data.instance_labels(0) is None
    assert data.coords(0) is None
    assert data.parts(1)[0][:3] == ("1", 0, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bags": [], "labels": []}, "a data set must hold at least one bag, got none"),
        ({"bags": [torch.zeros(2, 3)], "labels": [0, 1]}, "labels must be one for each of 1 bags, got 2"),
    ],
)
def test_a_data_set_that_does_not_fit(settings, message) -> None:
    with pytest.raises(DataError, match=message):
        BagsInMemory(**settings)
