"""The matrix products of one SAC update and nothing else, by ``torch.mm``: the floor of an update in torch.

Another library may multiply faster, so its update over this one's products can be below 1.
"""

from __future__ import annotations

from collections.abc import Callable

from entroreg.benchmarks.speed.worker import BATCH, HIDDEN

OBSERVATION, ACTION = 17, 6  # of HalfCheetah-v5
_INPUT = OBSERVATION + ACTION

# (times, kind, inputs, outputs) of a linear layer Y = X W^T with X (BATCH, inputs), W (outputs, inputs):
# "forward" is X W^T, "weights" is dY^T X, the gradient of W, and "inputs" is dY W, that of X.
PRODUCTS: tuple[tuple[int, str, int, int], ...] = (
    # Actor forward, at the observations and at the next ones; mean and log std are one product.
    (2, "forward", OBSERVATION, HIDDEN),
    (2, "forward", HIDDEN, HIDDEN),
    (2, "forward", HIDDEN, 2 * ACTION),
    # Both target critics forward, for the Bellman target.
    (2, "forward", _INPUT, HIDDEN),
    (2, "forward", HIDDEN, HIDDEN),
    (2, "forward", HIDDEN, 1),
    # Both critics forward and backward, for their own loss: gradients of all weights and of the hidden layers.
    (2, "forward", _INPUT, HIDDEN),
    (2, "forward", HIDDEN, HIDDEN),
    (2, "forward", HIDDEN, 1),
    (2, "weights", HIDDEN, 1),
    (2, "inputs", HIDDEN, 1),
    (2, "weights", HIDDEN, HIDDEN),
    (2, "inputs", HIDDEN, HIDDEN),
    (2, "weights", _INPUT, HIDDEN),
    # Both critics forward for the actor's loss, and back to the action: no weights, of the input the action only.
    (2, "forward", _INPUT, HIDDEN),
    (2, "forward", HIDDEN, HIDDEN),
    (2, "forward", HIDDEN, 1),
    (2, "inputs", HIDDEN, 1),
    (2, "inputs", HIDDEN, HIDDEN),
    (2, "inputs", ACTION, HIDDEN),
    # Actor backward.
    (1, "weights", HIDDEN, 2 * ACTION),
    (1, "inputs", HIDDEN, 2 * ACTION),
    (1, "weights", HIDDEN, HIDDEN),
    (1, "inputs", HIDDEN, HIDDEN),
    (1, "weights", OBSERVATION, HIDDEN),
)


def products_of_an_update() -> Callable[[int], None]:
    """Return a function that computes the products of that many updates, each in matrices of its own."""
    import torch

    operands = []
    for times, kind, inputs, outputs in PRODUCTS:
        for _ in range(times):
            x, w, dy = torch.randn(BATCH, inputs), torch.randn(outputs, inputs), torch.randn(BATCH, outputs)
            left, right = {"forward": (x, w.t()), "weights": (dy.t(), x), "inputs": (dy, w)}[kind]
            operands.append((left, right, torch.empty(len(left), right.shape[1])))

    def updates(count: int) -> None:
        for _ in range(count):
            for left, right, out in operands:
                torch.mm(left, right, out=out)

    return updates
