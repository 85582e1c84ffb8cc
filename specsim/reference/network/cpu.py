"""What this CPU can do, as torch and oneDNN see it: asked once, here.

It decides the dtype that is measured by default, whether weights are packed for oneDNN, and what is told of a dtype
that the CPU has no instructions for.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

DEFAULT_CACHE_BYTES = 32 * 2**20  # where the system does not tell its last-level cache
PACKABLE = (torch.float32, torch.bfloat16)
_SMALLEST = 64  # rows and columns of the matrix that packing is tried on


@dataclass(frozen=True, slots=True)
class Cpu:
    """``instructions``: the widest vectors that torch's own kernels use here. ``packed``: dtypes whose weights oneDNN
    takes in its blocked layout. ``native``: dtypes with multiply instructions of their own; others are widened first.
    """

    name: str
    instructions: str
    threads: int
    last_level_cache_bytes: int
    packed: frozenset[torch.dtype]
    native: frozenset[str]

    @property
    def default_dtype(self) -> str:
        """What models run in unless somebody names a dtype: bfloat16 where it is native, else float32."""
        return "bfloat16" if "bfloat16" in self.native else "float32"

    def emulation(self, dtype: str) -> str | None:
        """A sentence about a dtype that this CPU emulates; None for a native one."""
        if dtype in self.native:
            return None
        return (
            f"{dtype} is emulated on this CPU ({self.instructions} has no instructions for it): these are its times, "
            f"longer than in {self.default_dtype}, which is native"
        )


@lru_cache(maxsize=1)
def this_cpu() -> Cpu:
    """Look at the CPU that this process runs on, once."""
    packed = frozenset(dtype for dtype in PACKABLE if _packs(dtype))
    native = {"float32", "float64"} | ({"bfloat16"} if _has_bfloat16(packed) else set())
    return Cpu(
        _name(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        _cache_bytes(),
        packed,
        frozenset(native),
    )


def _packs(dtype: torch.dtype) -> bool:
    """Whether torch packs such a weight for oneDNN and multiplies by it: it is tried, since builds and CPUs differ."""
    if not torch.backends.mkldnn.is_available():
        return False
    matrix = torch.zeros(_SMALLEST, _SMALLEST, dtype=dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, _SMALLEST)
        torch.ops.mkldnn._linear_pointwise(matrix, packed, None, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return bool(packed.is_mkldnn)


def _has_bfloat16(packed: frozenset[torch.dtype]) -> bool:
    """x86: AVX512_BF16 or AMX, which oneDNN must be allowed to use. ARM: what oneDNN says of FEAT_BF16."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        asked = (_answer(torch.cpu, name) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return torch.bfloat16 in packed and any(asked)
    return _answer(torch.ops.mkldnn, "_is_mkldnn_bf16_supported")


def _answer(owner: object, question: str) -> bool:
    """What torch answers to one of its own questions; False where this version or build does not know it."""
    try:
        ask: Callable[[], bool] = getattr(owner, question)
        return bool(ask())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False


def _name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", text, re.MULTILINE))
    name = fields.get("model name", platform.machine())
    return f"{name} family {fields['cpu family']} model {fields['model']}" if "cpu family" in fields else name


def _cache_bytes() -> int:
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KM])", path.read_text().strip())
        if found:
            sizes.append(int(found.group(1)) * {"K": 2**10, "M": 2**20}[found.group(2)])
    return max(sizes, default=DEFAULT_CACHE_BYTES)
