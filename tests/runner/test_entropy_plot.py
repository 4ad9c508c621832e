"""The picture of an entropy monitor: a PNG whose lines are its columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from entroreg.benchmarks.entropy_plot import plot_entropy_monitor
from entroreg.policy_gradient import EntropyMonitor


def _columns() -> dict[str, list[float | None]]:
    monitor = EntropyMonitor(eta=0.5)
    for step, entropy, covariance in [(10, 0.9, 0.2), (20, 0.8, 0.3), (30, 0.7, -0.1), (40, 0.75, 0.0)]:
        monitor.update(step, entropy, covariance)
    return monitor.columns()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *a, **k: figures.append(self) or save(self, *a, **k)
    )
    return figures


def test_the_lines_are_the_columns(tmp_path: Path, drawn: list[Any]) -> None:
    picture = tmp_path / "entropy.png"
    picture.write_bytes(b"an older one")
    plot_entropy_monitor(_columns(), picture, "A title")
    assert [path.name for path in tmp_path.iterdir()] == ["entropy.png"]
    with Image.open(picture) as image:
        assert image.format == "PNG"
        colours = image.convert("RGB").getcolors(1 << 20)
        assert image.size == (910, 910)
    assert len(colours) > 50  # curves and words, no blank sheet
    top, middle, bottom = drawn[0].axes
    lines = {line.get_label(): line for line in top.get_lines()}
    steps = [10, 20, 30, 40]
    expected = {
        "measured": (lines["measured"], [np.nan, -0.1, -0.1, 0.05]),
        "predicted": (lines["predicted: -eta Cov(log pi, A)"], [np.nan, -0.1, -0.15, 0.05]),
        "covariance": (middle.get_lines()[0], [0.2, 0.3, -0.1, 0.0]),
        "entropy": (bottom.get_lines()[0], [0.9, 0.8, 0.7, 0.75]),
    }
    for name, (line, values) in expected.items():
        np.testing.assert_array_equal(line.get_xdata(), steps, err_msg=name)
        np.testing.assert_allclose(line.get_ydata(), values, atol=1e-15, err_msg=name)
    assert (top.get_title(), bottom.get_xlabel()) == ("A title", "step")
    assert [axes.get_ylabel() for axes in (top, middle, bottom)] == [
        "change of entropy (nats)",
        "Cov(log pi, A)",
        "entropy (nats)",
    ]


@pytest.mark.parametrize("updates", [0, 1])
def test_a_history_without_a_change(updates: int, tmp_path: Path, drawn: list[Any]) -> None:
    monitor = EntropyMonitor()
    for step in range(updates):
        monitor.update(step, 0.5, 0.1)
    plot_entropy_monitor(monitor.columns(), tmp_path / "entropy.png")
    assert (tmp_path / "entropy.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawn[0].axes[2].get_lines()[0].get_xdata()) == updates


def test_bad_columns(tmp_path: Path) -> None:
    columns = _columns()
    short = columns | {"entropy": [0.9]}
    with pytest.raises(ValueError, match=r"of one length, got \{'step': 4, 'entropy': 1,.*EntropyMonitor.columns"):
        plot_entropy_monitor(short, tmp_path / "entropy.png")
    del columns["predicted"]
    with pytest.raises(ValueError, match=r"missing \['predicted'\]: take EntropyMonitor.columns"):
        plot_entropy_monitor(columns, tmp_path / "entropy.png")
    assert list(tmp_path.iterdir()) == []
