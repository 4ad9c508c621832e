"""The token measure's path on CUDA: its kernels in Triton's interpreter, compiled, and, with a GPU, at work."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entroreg.measures import token as token_module
from entroreg.measures import token_logprob_entropy

needs_triton = pytest.mark.skipif(
    not token_module._HAS_TRITON, reason="needs Triton, which runs without a GPU: pip install triton"
)


@needs_triton
def test_in_the_interpreter() -> None:
    file = Path(__file__).with_name("interpreted_token_triton.py")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=--import-mode=importlib",
            file,
        ],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=file.parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])
    assert [word for _, word in counts] == ["passed"], done.stdout


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from entroreg.measures import _token_triton as kernels

element, aligned = sys.argv[1], sys.argv[2] == "aligned"
lanes, vector = kernels._LANES, kernels._VECTOR_BYTES // (4 if element == "fp32" else 2)
steps = (vector, 1) if aligned else (1, lanes)
constants = dict(zip(["LANES", "VECTOR", "LANE_STEP", "STEP"], [lanes, vector, *steps])) | {"BLOCK": kernels._BLOCK}
pointers = {name: "*fp32" for name in ("centre", "slope", "offset", "given")} | {"logits": "*" + element}
for kernel, out in ((kernels._statistics_kernel, "*fp32"), (kernels._gradient_kernel, "*" + element)):
    numbers = {"to_binary": "fp32", "tokens": "*i64", "out": out}
    types = pointers | numbers | {name: "constexpr" for name in constants}
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    divisible = [n for n, t in signature.items() if t[0] == "*" or (t == "i32" and aligned and n != "blocks")]
    source = triton.compiler.ASTSource(
        kernel, signature, {n: v for n, v in constants.items() if n in signature},
        {(kernel.arg_names.index(n),): [["tt.divisibility", 16]] for n in divisible},
    )
    target = GPUTarget("cuda", 90, 32)
    print(triton.compile(source, target=target, options={"num_warps": kernels._WARPS}).asm["ptx"])
    print("END OF KERNEL")
"""


@needs_triton
@pytest.mark.parametrize(("element", "rows"), [("bf16", "aligned"), ("bf16", "unaligned"), ("fp32", "aligned")])
def test_the_kernels_compile_for_hopper(element: str, rows: str, tmp_path: Path) -> None:
    """No GPU is needed to see what would run on one: vector loads, no spills, no barrier within the loop."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, element, rows], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    statistics, gradient, _ = done.stdout.split("END OF KERNEL\n")
    for kernel in (statistics, gradient):
        assert ("ld.global.v4.b32" in kernel) == (rows == "aligned")
        assert "max.NaN.f32" in kernel  # a plain max would drop NaN
        assert ".local" not in kernel
    assert ("st.global.v4.b32" in gradient) == (rows == "aligned")
    assert "bar.sync" not in gradient
    loop = re.search(r"^(\$L__BB0_\d+):.*?bra\s+\1;", statistics, flags=re.DOTALL | re.MULTILINE)
    assert loop is not None
    assert "ex2.approx" in loop[0]
    assert "bar.sync" not in loop[0]
    assert "shfl" not in loop[0]


def test_triton_is_loaded_by_those_who_need_it() -> None:
    code = (
        "import sys, torch; from entroreg.measures import token_logprob_entropy as f; "
        "f(torch.zeros(2, 3), torch.tensor([0, 1])); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def _logits(rows: int, size: int, dtype: torch.dtype) -> Tensor:
    logits = 3.0 * torch.randn(rows, size, generator=torch.Generator().manual_seed(0))
    logits[0], logits[1, 1:], logits[2, ::3] = -math.inf, -math.inf, -math.inf
    return logits.to(dtype)


def _run(logits: Tensor, tokens: Tensor, temperature: float, function: Any) -> tuple[Tensor, ...]:
    leaf = logits.detach().requires_grad_(True)
    outputs = function(leaf, tokens, temperature)
    ramp = torch.linspace(-1.0, 2.0, len(logits), dtype=outputs[0].dtype, device=logits.device)
    (gradient,) = torch.autograd.grad(outputs, leaf, [ramp, 1.0 - 0.3 * ramp])
    return *(output.detach().cpu() for output in outputs), gradient.cpu()


def _eager(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    log_probs = torch.log_softmax(logits / temperature, dim=-1)
    return log_probs.gather(1, tokens[:, None])[:, 0], -torch.special.xlogy(log_probs.exp(), log_probs.exp()).sum(
        -1
    )


@pytest.mark.gpu
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("size", [1, 2, 50_257, 151_936])
@pytest.mark.parametrize(
    ("dtype", "digits"), [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)]
)
def test_cuda_is_the_cpu(dtype: torch.dtype, digits: float, size: int, temperature: float) -> None:
    logits, tokens = _logits(9, size, dtype), torch.arange(9) % size
    assert token_module._has_kernels(logits.cuda())
    ours = _run(logits.cuda(), tokens.cuda(), temperature, token_logprob_entropy)
    plain = _run(logits, tokens, temperature, token_logprob_entropy)
    torch.testing.assert_close(ours[:2], plain[:2], atol=2e-5, rtol=1e-6)
    torch.testing.assert_close(ours[2], plain[2], atol=1e-7, rtol=2.0 * digits)


@pytest.mark.gpu
def test_cuda_is_torchs_own() -> None:
    logits, tokens = _logits(9, 4001, torch.float32)[3:], torch.arange(6)
    ours = _run(logits.cuda(), tokens.cuda(), 0.8, token_logprob_entropy)
    theirs = _run(logits.double().cuda(), tokens.cuda(), 0.8, _eager)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_on_cuda_stays_in_its_row(bad: float) -> None:
    logits, tokens = _logits(6, 20_000, torch.float32), torch.arange(6)
    logits[4, 15_000] = bad
    ours = _run(logits.cuda(), tokens.cuda(), 1.0, token_logprob_entropy)
    plain = _run(logits, tokens, 1.0, token_logprob_entropy)
    for one, other in zip(ours, plain, strict=True):
        assert bool(one[4].isnan().all())
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.gpu
def test_more_elements_on_cuda_than_an_int32_counts() -> None:
    logits = torch.zeros(
        16_400, 131_072, dtype=torch.bfloat16, device="cuda"
    )  # 4 GiB, and as much for the gradient
    logits[-1] = _logits(9, 131_072, torch.bfloat16)[-1].cuda()
    tokens = torch.zeros(len(logits), dtype=torch.int64, device="cuda")
    leaf = logits.requires_grad_(True)
    log_probs, entropy = token_logprob_entropy(leaf, tokens)
    (log_probs[-1] + entropy[-1]).backward()
    last = logits.detach()[-1:].cpu()
    plain = last.clone().requires_grad_(True)
    expected = token_logprob_entropy(plain, tokens[-1:].cpu())
    (expected[0] + expected[1]).sum().backward()  # type: ignore[no-untyped-call]
    assert log_probs[-1].item() == pytest.approx(expected[0].item(), abs=2e-5)
    assert entropy[-1].item() == pytest.approx(expected[1].item(), abs=2e-5)
    torch.testing.assert_close(leaf.grad[-1:].cpu(), plain.grad, atol=1e-7, rtol=2.0**-7)  # type: ignore[index]
    assert float(leaf.grad[:-1].abs().max()) == 0.0  # type: ignore[index]


@pytest.mark.gpu
def test_layouts_on_cuda() -> None:
    wide = _logits(9, 6001, torch.float32)[3:].cuda()
    tokens = torch.arange(6, device="cuda")
    for logits in (wide[:, 1:], wide[:, ::2], wide.T.contiguous().T, wide[:1].expand(6, 6001)):
        ours = _run(logits, tokens, 1.0, token_logprob_entropy)
        plain = _run(logits.cpu(), tokens.cpu(), 1.0, token_logprob_entropy)
        torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of its own code
@pytest.mark.parametrize("output", [0, 1])
def test_compiled_on_cuda(output: int) -> None:
    logits, tokens = _logits(9, 4001, torch.float32)[1:].cuda(), torch.arange(8, device="cuda")
    torch._dynamo.reset()
    compiled = torch.compile(lambda z: token_logprob_entropy(z, tokens, 0.7)[output], fullgraph=True)
    eager_leaf, leaf = logits.clone().requires_grad_(True), logits.clone().requires_grad_(True)
    eager, ours = token_logprob_entropy(eager_leaf, tokens, 0.7)[output], compiled(leaf)
    torch.testing.assert_close(ours, eager)
    eager.sum().backward()
    ours.sum().backward()
    torch.testing.assert_close(leaf.grad, eager_leaf.grad)
