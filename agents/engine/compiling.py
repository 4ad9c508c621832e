"""How an update is compiled: one graph, no guards, C++ all the way."""

from __future__ import annotations

import functools
import shutil
import types
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch._dynamo.exc
import torch._inductor.exc
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

aten = torch.ops.aten
# It looks at the bounds of an image space, which Dynamo takes for data; they never change. Before 2.13 Dynamo takes
# no space for a constant: there policies of vectors compile without this, and those of images stay eager.
if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13):
    torch.compiler.assume_constant_result(is_image_space)  # type: ignore[no-untyped-call]
# What torch raises when it cannot trace or compile; by then nothing has been changed.
COMPILE_ERRORS = (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError)
CompiledUpdate: TypeAlias = Callable[..., tuple[Tensor, Tensor]]


def compile_update(update: Callable[..., tuple[Tensor, Tensor]], device: torch.device) -> CompiledUpdate:
    """Return an update compiled as one graph; the first call compiles.

    The graph assumes what the first call had: shapes, dtypes, devices and number of threads. Nothing checks them,
    so the caller keeps one compiled function for each combination.

    Args:
        update: tensors in, tensors out, with in-place changes of its inputs.
        device: of the tensors.

    Returns:
        The compiled function.
    """
    # Without guards Dynamo tells compiled functions apart by their code object: each gets its own.
    own = types.FunctionType(
        update.__code__.replace(), update.__globals__, update.__name__, update.__defaults__, update.__closure__
    )
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if device.type == "cpu":
        options |= {"cpp_wrapper": True, "post_grad_custom_post_pass": _CheaperProducts()}
    return torch.compile(own, fullgraph=True, dynamic=False, options=options)


@functools.cache
def why_not_compile(device_type: str) -> str | None:
    """Return why nothing can be compiled on this machine, or None where it can."""
    if device_type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            compiler = get_cpp_compiler()
        except Exception as error:  # torch raises an error of its own for each way to have no compiler
            return f"no C++ compiler was found ({type(error).__name__})"
        return None if shutil.which(compiler) else f"the C++ compiler {compiler!r} was not found"
    return None


class _CheaperProducts(CustomGraphPass):
    """Rewrite matrix products that cost a CPU more than they need to.

    ``addmm`` first fills its output with the bias, a pass over memory that an addition fused with the activation
    saves. Products with one row, or over one element, are sums and scalings that fuse with their neighbours.
    """

    def __call__(self, graph: torch.fx.Graph) -> None:
        for node in list(graph.nodes):
            if node.target is aten.addmm.default and not node.kwargs:
                _split_addmm(graph, node)
        for node in list(graph.nodes):
            if node.target is aten.mm.default:
                _write_out(graph, node)

    def uuid(self) -> bytes:
        """Return the name under which torch caches what this pass has changed: a new one for each source."""
        return get_hash_for_files((__file__,))


def _split_addmm(graph: torch.fx.Graph, node: Any) -> None:
    bias, left, right = node.args
    with graph.inserting_before(node):
        product = graph.call_function(aten.mm.default, (left, right))
        total = graph.call_function(aten.add.Tensor, (product, bias))
    # The values of the node stand for both: same shape, dtype and strides.
    product.meta, total.meta = dict(node.meta), dict(node.meta)
    node.replace_all_uses_with(total)
    graph.erase_node(node)


def _write_out(graph: torch.fx.Graph, node: Any) -> None:
    left, right = node.args
    rows, inner = left.meta["val"].shape
    if rows != 1 and inner != 1:
        return
    with graph.inserting_before(node):
        if inner == 1:
            result = graph.call_function(aten.mul.Tensor, (left, right))
            result.meta = dict(node.meta)
        else:
            column = graph.call_function(aten.permute.default, (left, [1, 0]))
            scaled = graph.call_function(aten.mul.Tensor, (column, right))
            result = graph.call_function(aten.sum.dim_IntList, (scaled, [0], True))
            column.meta = {"val": left.meta["val"].permute(1, 0)}
            scaled.meta = {"val": column.meta["val"] * right.meta["val"]}
            result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    graph.erase_node(node)
