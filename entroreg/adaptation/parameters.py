"""Which parameters of a model are adapted, and what its normalisation layers do meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["module_parameters", "normalisation_parameters", "use_batch_statistics"]

_NORMALISATIONS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
Named = dict[str, nn.Parameter]


def module_parameters(model: nn.Module, names: Iterable[str]) -> Named:
    """Return the parameters of some submodules, by their names in the model.

    Args:
        model: holds them.
        names: of submodules (``decoder``, ``layers.3``) or of single parameters (``head.weight``).

    Raises:
        ValueError: a name is of neither, or of a module without parameters.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> list(module_parameters(model, ["2"]))
        ['2.weight', '2.bias']
    """
    every = dict(model.named_parameters())
    chosen: Named = {}
    for name in names:
        found = {full: value for full, value in every.items() if full == name or full.startswith(f"{name}.")}
        if not found:
            known = sorted({full.rpartition(".")[0] or full for full in every})
            raise ValueError(f"no parameter stands under {name!r}: the model has {', '.join(known)}")
        chosen |= found
    return chosen


def normalisation_parameters(model: nn.Module, but: Iterable[str] = ()) -> Named:
    """Return the scales and shifts of a model's normalisation layers: batch, instance, group and layer.

    Args:
        model: holds them.
        but: names of submodules that are left out with all that they hold.

    Raises:
        ValueError: there is none.

    Example:
        >>> list(normalisation_parameters(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))))
        ['1.weight', '1.bias']
    """
    left_out = tuple(but)
    chosen: Named = {}
    for name, module in model.named_modules():
        inside = any(name == one or name.startswith(f"{one}.") for one in left_out)
        if isinstance(module, _NORMALISATIONS) and not inside:
            chosen |= {f"{name}.{own}" if name else own: p for own, p in module.named_parameters(recurse=False)}
    if not chosen:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise ValueError(
            f"the model must have normalisation layers with scale and shift, got {', '.join(kinds)}: "
            "choose other parameters with module_parameters"
        )
    return chosen


def use_batch_statistics(model: nn.Module) -> None:
    """Let batch normalisation normalise by the batch at hand, in evaluation too; what it has stored is dropped.

    For a model that is adapted for good: its stored statistics are those of the data that it was trained on. Work
    on a copy (``copy.deepcopy(model)``) to keep the model.

    Args:
        model: changed in place.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2)).eval()
        >>> use_batch_statistics(model)
        >>> model(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))[:, 0]
        tensor([-1.0000,  1.0000], grad_fn=<SelectBackward0>)
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
