from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from entroreg.controllers import Controller, FromObservation


@given(rows=st.integers(1, 5), size=st.integers(1, 6), data=st.data())
def test_values_are_the_column(rows: int, size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(-size, size - 1))
    observations = torch.rand(2, rows, size, requires_grad=True)
    values = FromObservation(index).values(observations)
    assert values.shape == (2, rows)
    assert not values.requires_grad
    assert torch.equal(values, observations.detach().select(-1, index))


def test_nothing_is_learned() -> None:
    controller = FromObservation(0)
    entropy = torch.tensor([1.0, 3.0], requires_grad=True)
    metrics = controller.update(entropy, torch.tensor([[0.5, 9.0], [0.1, 9.0]]))
    assert metrics["alpha"].item() == pytest.approx(0.3)
    assert metrics["entropy"].item() == 2.0
    assert not any(value.requires_grad for value in metrics.values())
    assert controller.state_dict() == {}
    controller.load_state_dict({})
    assert controller.to("cpu") is controller


def test_it_is_no_controller_of_one_coefficient() -> None:
    assert not isinstance(FromObservation(), Controller), "who multiplies by value must not take it"


def test_bad_input() -> None:
    for index in (True, 1.0, "last"):
        with pytest.raises(TypeError, match="index must be an int"):
            FromObservation(index)  # type: ignore[arg-type]
    for index in (2, -3):
        with pytest.raises(ValueError, match=f"observations must have a component {index}, got the size 2"):
            FromObservation(index).values(torch.zeros(4, 2))
    with pytest.raises(TypeError, match="observations"):
        FromObservation().values(torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="state of FromObservation"):
        FromObservation().load_state_dict({"alpha": 1.0})
