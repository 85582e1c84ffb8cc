"""Weights in each format a profile knows, and the product that multiplies by them.

16 and 32 bit weights run the reference engine's own linear layer. ``fp8`` and ``int8`` have narrow activations as
well; weight-only formats widen inside the kernel: ``int8-weight`` has one scale a row, ``int4-weight-gG`` one scale
and zero for each G values of a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from specsim.profiling.device.machine import DTYPES
from specsim.reference.network.kernels import linear, pack

INT4_STEPS, INT4_MIDDLE = 15, 8  # unsigned 4-bit codes; the kernels multiply (code - 8) by the scale
INNER_K_TILES = 8  # layout parameter of the CUDA int4 kernel
LEAST_INT8_ROWS = 32  # torch's CUDA kernel refuses 16 and fewer; engines pad to tiles too
WEIGHT_BYTES = {"fp8": 1.0, "int8": 1.0, "int8-weight": 1.0, "float32": 4.0}


@dataclass(frozen=True, slots=True)
class Weight:
    """One matrix [n, k] ready to multiply by: the tensors its kernel reads."""

    format: str
    tensors: tuple[Tensor, ...]

    def clone(self) -> Weight:
        """The same matrix elsewhere in memory."""
        return Weight(self.format, tuple(tensor.clone() for tensor in self.tensors))


def weight_bytes(n: float, k: float, name: str) -> float:
    """Bytes a kernel streams for a matrix in this format, scales included (4 bytes a group of int4)."""
    group = _group(name)
    if group is not None:
        return n * k * (0.5 + 4.0 / group)
    return n * k * WEIGHT_BYTES.get(name, 2.0)


def activation_dtype(name: str, dtype: str) -> torch.dtype:
    """What the rows multiplied by it are stored in; ``dtype`` is the sweep's own."""
    narrow = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
    return narrow.get(name) or DTYPES.get(name) or DTYPES[dtype]


def rows_multiplied(rows: int, name: str, device: str) -> int:
    """How many rows a product runs on, padding included."""
    return max(rows, LEAST_INT8_ROWS) if name == "int8" and device == "cuda" else rows


def convert(weight: Tensor, name: str, dtype: str) -> Weight:
    """A matrix [n, k] in format ``name``; raises RuntimeError where this device or torch has no such kernel."""
    group = _group(name)
    if group is not None:
        return Weight(name, _int4(weight, group, DTYPES[dtype]))
    if name == "fp8":
        one = torch.ones((), device=weight.device)
        return Weight(name, (weight.to(torch.float8_e4m3fn), one))
    if name in ("int8", "int8-weight"):
        scale = weight.float().abs().amax(dim=1) / 127
        codes = (weight / scale[:, None]).round().to(torch.int8)
        return Weight(name, (codes, scale.to(DTYPES[dtype])))
    return Weight(name, (pack(weight.to(DTYPES[name])),))


def multiply(x: Tensor, weight: Weight) -> Tensor:
    """x [m, k] times the matrix, [m, n]; products of narrow activations come back unscaled."""
    matrix, *scales = weight.tensors
    group = _group(weight.format)
    product: Tensor
    if group is not None:
        product = _int4_product(x, matrix, group, scales[0])
    elif weight.format == "fp8":
        product = torch._scaled_mm(x, matrix.t(), scales[0], scales[0], out_dtype=torch.bfloat16, use_fast_accum=True)
    elif weight.format == "int8":
        product = torch._int_mm(x, matrix.t())
    elif weight.format == "int8-weight":
        product = torch.ops.aten._weight_int8pack_mm(x, matrix, scales[0])
    else:
        product = linear(x, matrix)
    return product


def kernel_name(weight: Weight) -> str:
    """What runs, for the profile's table."""
    narrow = f"_int_mm, {LEAST_INT8_ROWS} rows at least" if weight.tensors[0].is_cuda else "_int_mm"
    names = {"fp8": "_scaled_mm, fast accumulation", "int8": narrow, "int8-weight": "_weight_int8pack_mm"}
    if _group(weight.format) is not None:
        return "_weight_int4pack_mm"
    return names.get(weight.format) or ("linear, packed" if weight.tensors[0].is_mkldnn else "linear")


def _group(name: str) -> int | None:
    found = re.fullmatch(r"int4-weight-g(\d+)", name)
    return int(found.group(1)) if found else None


def _int4(weight: Tensor, group: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Packed codes, and scales and zeros [k / group, n, 2] of the affine code of each group."""
    n, k = weight.shape
    grouped = weight.float().view(n, k // group, group)
    low, high = grouped.amin(-1), grouped.amax(-1)
    scale = ((high - low) / INT4_STEPS).clamp_min(1e-9)
    codes = ((grouped - low[..., None]) / scale[..., None]).round().clamp_(0, INT4_STEPS).to(torch.int32).view(n, k)
    affine = torch.stack((scale, low + INT4_MIDDLE * scale), dim=-1).transpose(0, 1).contiguous().to(dtype)
    if weight.device.type == "cpu":
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), affine
    pairs = (codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8)
    return torch.ops.aten._convert_weight_to_int4pack(pairs, INNER_K_TILES), affine


def _int4_product(x: Tensor, codes: Tensor, group: int, affine: Tensor) -> Tensor:
    operations = torch.ops.aten
    run = operations._weight_int4pack_mm_for_cpu if x.device.type == "cpu" else operations._weight_int4pack_mm
    product: Tensor = run(x, codes, group, affine)
    return product
