"""EfficientNet-Lite0: names, shapes and values of the published network, and which weights are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from entroreg.vision.data.errors import DataError
from entroreg.vision.mil.slides.efficientnet_lite import EfficientNetLite0, embed_tiles, load_efficientnet_lite0


def _drawn(model: nn.Module) -> nn.Module:
    """Return the network with weights that a frozen random stream gives, in float64."""
    draws = np.random.RandomState(0)
    state = model.state_dict()
    for name, old in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        drawn = torch.from_numpy(draws.standard_normal(old.shape))
        if old.dim() == 4:
            state[name] = drawn * (2.5 / old[0].numel()) ** 0.5
        else:
            state[name] = (1.0 + 0.2 * drawn).abs() if name.endswith(("weight", "var")) else 0.2 * drawn
    model.load_state_dict(state)
    return model.double().eval()


def _tiles() -> Tensor:
    tiles = np.random.RandomState(1).randint(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    tiles[1, :, :32] //= 4
    return torch.from_numpy(tiles)


def test_names_and_shapes_are_those_of_the_checkpoint() -> None:
    state = EfficientNetLite0().state_dict()
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert state["_blocks.3._depthwise_conv.weight"].shape == (144, 1, 5, 5)
    # That of efficientnet-lite0-57934424.pth, in the file's own order.
    assert hashlib.sha256(lines.encode()).hexdigest() == (
        "f19038aa9e94bf262b0215da87b05190b42be4fca8356448dc428d5a7e017bb6"
    )


def test_features_are_those_of_the_published_network() -> None:
    # Made by efficientnet_lite_pytorch 0.1.0 with the same weights and (pixel - 127) / 128, in float64.
    expected = torch.tensor(
        [
            [0.0, 1.5, 2.415197, 0.0, 0.01524, 0.806353, 4.182863],
            [0.659183, 4.125695, 2.166488, 0.0, 0.061927, 1.239218, 2.577361],
        ],
        dtype=torch.float64,
    )
    model = _drawn(EfficientNetLite0())
    with torch.no_grad():
        features = model((_tiles().permute(0, 3, 1, 2).double() - 127.0) / 128.0)
    torch.testing.assert_close(features[:, ::183], expected, rtol=0, atol=1e-6)
    assert features.sum(1).tolist() == pytest.approx([2232.2415213773183, 2215.848209990757], rel=1e-9)
    # float32, as the tiles go through it
    embedded = embed_tiles(model.float(), _tiles())
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.double()[:, ::183], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(33, 50), (7, 96)])
def test_pads_as_tensorflow_at_any_size(size: tuple[int, int]) -> None:
    """The rule: ceil(n / stride) outputs; the padding is centred, and the odd pixel comes last."""
    convolution = EfficientNetLite0()._blocks[1]._depthwise_conv
    images = torch.randn(1, 96, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = convolution(images)
    rows, columns = ((n + 1) // 2 for n in size)
    assert found.shape == (1, 96, rows, columns)
    before = [((out - 1) * 2 + 3 - n) // 2 for out, n in zip((rows, columns), size, strict=True)]
    padded = torch.zeros(96, size[0] + 4, size[1] + 4)
    padded[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1]] = images[0]
    for row, column in [(0, 0), (rows - 1, 0), (0, columns - 1), (rows - 1, columns - 1)]:
        window = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected = (window * convolution.weight[:, 0]).sum((1, 2))
        torch.testing.assert_close(found[0, :, row, column], expected.detach(), rtol=1e-5, atol=1e-6)


def test_batches_do_not_change_the_features() -> None:
    model = _drawn(EfficientNetLite0()).float()
    tiles = torch.from_numpy(np.random.RandomState(2).randint(0, 256, (5, 32, 48, 3)).astype(np.uint8))
    whole = embed_tiles(model, tiles)
    assert whole.shape == (5, 1280)
    assert not whole.requires_grad
    for batch_size in (1, 2, 5, 9):
        torch.testing.assert_close(embed_tiles(model, tiles, batch_size), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(embed_tiles(model, tiles[3:4]), whole[3:4], rtol=1e-4, atol=1e-4)


def test_features_can_train_a_model() -> None:
    features = embed_tiles(EfficientNetLite0().eval(), torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    layer = nn.Linear(1280, 1)
    layer(features).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    ("tiles", "error", "message"),
    [
        (torch.zeros(1, 32, 32, 3), TypeError, r"tiles must be uint8, got torch\.float32"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ValueError, r"tiles must have shape \(n, h, w, 3\)"),
        (torch.zeros(0, 32, 32, 3, dtype=torch.uint8), ValueError, r"with no 0, got \(0, 32, 32, 3\)"),
    ],
)
def test_what_are_no_tiles_is_refused(tiles: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        embed_tiles(EfficientNetLite0().eval(), tiles)


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        embed_tiles(EfficientNetLite0().eval(), torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 0)


def test_loads_a_checkpoint_frozen(tmp_path: Path) -> None:
    saved = _drawn(EfficientNetLite0()).float()
    torch.save(saved.state_dict(), tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    loaded = load_efficientnet_lite0(tmp_path / "weights.pth")
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    torch.testing.assert_close(embed_tiles(loaded, _tiles()), embed_tiles(saved, _tiles()), rtol=0, atol=0)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    state = EfficientNetLite0().state_dict()
    short = {name: value for name, value in state.items() if name != "_fc.bias"}
    for number, (content, message) in enumerate(
        [
            (short, r"with _fc\.bias \(1000,\), got nothing: get them with"),
            ({**state, "_fc.bias": torch.zeros(2)}, r"with _fc\.bias \(1000,\), got \(2,\)"),
            ({**state, "extra": torch.zeros(2)}, r"with extra nothing, got \(2,\)"),
            (torch.zeros(3), "must hold the weights of EfficientNet-Lite0 by their names, got a Tensor"),
            ({"epoch": 3}, "by their names, got a dict"),
        ]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path)
        with pytest.raises(DataError, match=message) as caught:
            load_efficientnet_lite0(path)
        assert str(caught.value).startswith(f"{path} must hold")
        assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(EfficientNetLite0().state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(DataError, match=r"none\.pth must be a file .* got none: .*entroreg data fetch"):
        load_efficientnet_lite0(tmp_path / "none.pth")
    for name in ("half.pth", "text.pth"):
        with pytest.raises(DataError, match=rf"{name} must be a torch checkpoint, .* get it again"):
            load_efficientnet_lite0(tmp_path / name)
