"""What a model says of bags: always in evaluation mode, without gradients, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from entroreg.vision.mil.bags import Bags
from entroreg.vision.mil.dataset import BagDataset
from entroreg.vision.mil.fitting.attention_log import AttentionLog
from entroreg.vision.mil.fitting.batching import Indices, evaluation_batches
from entroreg.vision.mil.fitting.culprits import culprits_among
from entroreg.vision.mil.fitting.distributed import Processes
from entroreg.vision.mil.fitting.reading import BagReader, read_ahead, reader_for
from entroreg.vision.mil.models import MILModel
from entroreg.vision.mil.output import MILOutput

BATCH_INSTANCES = 65_536


class Predictions(NamedTuple):
    """Predictions of n bags.

    Attributes:
        logits: (n, C) float32 on the CPU.
        entropies: (2, n) on the CPU, the attention's H in nats and H / log N; None for a model without attention.
    """

    logits: Tensor
    entropies: Tensor | None

    @property
    def probs(self) -> NDArray[np.float64]:
        """(n, C) probabilities."""
        probs: NDArray[np.float64] = self.logits.double().softmax(dim=1).numpy()
        return probs


def predict(
    model: MILModel,
    dataset: BagDataset,
    indices: Sequence[int],
    *,
    reader: BagReader | None = None,
    amp: bool = False,
    processes: Processes | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Predictions:
    """Return a model's predictions of bags; its mode and its gradients are afterwards as before.

    Args:
        model: on any device.
        dataset: with the bags.
        indices: (n,) of the bags, at least one.
        reader: of the data set on the model's device; made if left out.
        amp: whether to run the model in bfloat16 autocast.
        processes: that share the work, and each have all predictions.
        stop: asked before each batch; once it is True in any process, what is returned is incomplete.

    Raises:
        FloatingPointError: the logits of a bag are not finite.

    Example:
        >>> from entroreg.vision.mil import BagsInMemory, MeanPooling
        >>> dataset = BagsInMemory([torch.zeros(3, 4), torch.ones(2, 4)], labels=[0, 1])
        >>> predict(MeanPooling(4, classes=2), dataset, [1, 0]).logits.shape
        torch.Size([2, 2])
    """
    processes = processes or Processes()
    wanted = np.asarray(indices, dtype=np.int64)
    device = next(model.parameters()).device
    reader = reader or reader_for(dataset, device)
    log = AttentionLog()
    own = processes.own(np.arange(len(wanted)))
    logits: list[Tensor] = []
    with evaluating(model):
        for bags in _batches(reader, wanted[own], np.asarray(dataset.sizes)[wanted[own]]):
            if stop():
                break
            output = run_model(model, bags, amp=amp)
            logits.append(output.logits)
            log.add(output, bags)
    table = torch.zeros(len(wanted), model.classes + 3)
    if logits:
        own = own[: sum(map(len, logits))]  # all of them, unless stopped
        table[own, : model.classes] = torch.cat(logits).float().cpu()
    if (entropies := log.entropies()) is not None:
        table[own, model.classes : -1] = entropies.T.cpu()
        table[own, -1] = 1.0  # a process without bags does not know whether there is attention
    processes.sum(table)  # each has filled its own rows, and x + 0 is x to the last bit
    _require_finite_logits(table[:, : model.classes], dataset, wanted)
    attended = bool(table[:, -1].all())
    return Predictions(table[:, : model.classes], table[:, model.classes : -1].T if attended else None)


def _require_finite_logits(logits: Tensor, dataset: BagDataset, indices: Indices) -> None:
    bad = ~logits.isfinite().all(dim=1)
    if bool(bad.any()):
        place = int(bad.nonzero()[0])
        found = logits[place][~logits[place].isfinite()][0]
        raise FloatingPointError(f"logits became {float(found)}: {culprits_among(dataset, [int(indices[place])])}")


def run_model(model: MILModel, bags: Bags, *, amp: bool) -> MILOutput:
    """Return a model's output in its parameters' dtype; with ``amp`` computed in bfloat16, returned in float32.

    Args:
        model: of any parameters' dtype; float32 for ``amp``.
        bags: on its device, in any floating dtype.
        amp: whether to use autocast.
    """
    if not amp:
        parameter = next(model.parameters())
        output: MILOutput = model(bags.to(parameter.device, parameter.dtype))
        return output
    with torch.autocast(bags.features.device.type, torch.bfloat16):
        output = model(bags)
    # Losses and entropies sum over thousands of instances, more than the 8 bits of bfloat16 can tell apart.
    return output._replace(**{name: part.float() for name, part in output._asdict().items() if part is not None})


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluate inside the block, without gradients; afterwards each module of the model has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _batches(reader: BagReader, indices: Indices, sizes: Indices) -> Iterator[Bags]:
    jobs = (
        partial(reader.read, indices[places], [None] * len(places))
        for places in evaluation_batches(sizes, BATCH_INSTANCES)
    )
    return (job() for job in jobs) if reader.resident else read_ahead(jobs)
