"""Kernel times without measurements: max(compute, bandwidth) at stated default efficiencies, plus a launch floor.

The defaults are assumptions, not fits: 0.8 of peak bandwidth (the empirical factor that aiconfigurator 0.12 ships in
its system files) and 0.7 of peak FLOP/s (large dense GEMMs on Hopper reach 0.7 to 0.8 of the datasheet).
"""

from __future__ import annotations

import numpy as np

from specsim.arrays import Reals
from specsim.cost.collective import collective_error, collective_s
from specsim.cost.forward import SOURCES, Kernel, Price
from specsim.specs.formats import format_of, widening
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import weights_read

PRODUCTS = ("gemm", "moe")
BANDWIDTH_EFFICIENCY = 0.8
COMPUTE_EFFICIENCY = 0.7
KERNEL_FLOOR_S = {
    "gpu": 2e-6,
    "cpu": 5e-6,
}  # a kernel that does nothing, launched from a graph (gpu) or eagerly (cpu)
# One standard deviation each, of the machine as a whole and of a kernel class: how far nine measured cards are from
# their own rooflines over 432 passes of four models at 1 to 256 sequences of 1 to 8 tokens (each class's logarithms
# around their mean: products 0.16, experts 0.36, attention 0.63; whole passes 0.2 around -0.13). Of the other classes
# nothing was measured: a judgement.
MACHINE_ERROR = 0.15
RELATIVE_ERROR = {"gemm": 0.16, "moe": 0.36, "attention": 0.63}
OTHER_ERROR = 0.4
# What one kernel of a pass writes and the next reads stays in the last-level cache if it fits beside what else passes
# through. An H100's reads 5.5 to 7 TB/s (chipsandcheese.com, "Nvidia's H100: Funny L2, and Tons of Bandwidth") beside
# 2 to 3.35 of its memory, an A100's 7.2 at most (5,120 bytes a clock, A100 whitepaper) beside 2.
CACHE_SPEEDUP, CACHED_SHARE = 2.0, 0.5
CACHED = ("elementwise", "sampling")  # parts of a pass; keys and states come from memory
ROOFLINE_RANK = float(SOURCES.index("roofline"))


class Roofline:
    """Prices kernels from a datasheet; ``dtype`` is that of activations."""

    def __init__(self, hardware: Hardware, dtype: str) -> None:
        self._hardware = hardware
        self._dtype = dtype
        self._bandwidth = hardware.bandwidth_bytes_per_s * BANDWIDTH_EFFICIENCY
        self._compute = hardware.sustained_flops_per_s(dtype) * COMPUTE_EFFICIENCY
        self.floor_s = KERNEL_FLOOR_S[hardware.kind]

    @property
    def name(self) -> str:
        return "roofline"

    @property
    def machine_error(self) -> float:
        """How far a real machine may be from its datasheet at the default efficiencies."""
        return MACHINE_ERROR

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """``warm`` changes nothing here: a datasheet has no cache bandwidth."""
        if kernel.kind == "collective":
            return Price(collective_s(kernel, self._hardware), ROOFLINE_RANK, collective_error(self._hardware), 0.0)
        error = RELATIVE_ERROR.get(kernel.kind, OTHER_ERROR)
        seconds = self.floor_s + _larger(self.ideal_s(kernel), self.widened_s(kernel))
        return Price(seconds, ROOFLINE_RANK, error, self.compute_bound(kernel))

    def ideal_s(self, kernel: Kernel) -> Reals:
        """The longer of arithmetic and memory at the default efficiencies, without a floor."""
        return _larger(kernel.flops / self._flops_per_s(kernel), self._memory_s(kernel))

    def compute_bound(self, kernel: Kernel) -> Reals:
        """1 where a kernel's FLOPs take longer than its bytes, else 0."""
        return 1.0 * (kernel.flops / self._flops_per_s(kernel) > self._memory_s(kernel))

    def _flops_per_s(self, kernel: Kernel) -> float:
        """Narrow weights times narrow activations run at the rate of their format, all else at that of ``dtype``."""
        found = format_of(kernel.dtype)
        if kernel.kind not in PRODUCTS or found.bits >= 16:
            return self._compute
        if found.rate is None:
            return self._compute * found.reach.compute * widening().share_on(self._hardware)
        return self._hardware.sustained_flops_per_s(found.rate) * COMPUTE_EFFICIENCY * found.reach.compute

    def widened_s(self, kernel: Kernel) -> Reals:
        """The least that a product of widened weights takes, however well 16 bits multiply; 0 of other kernels."""
        found = format_of(kernel.dtype)
        if kernel.kind != "gemm" or found.bits >= 16 or found.rate is not None:
            return 0.0
        most = widening().most_on(self._hardware) * self._hardware.sustained_flops_per_s(self._dtype)
        return kernel.flops / most

    def _memory_s(self, kernel: Kernel) -> Reals:
        """Of a kernel's bytes, or of widening its weights where that takes longer."""
        found = format_of(kernel.dtype)
        if kernel.kind not in PRODUCTS or found.bits >= 16:
            return self._moved_s(kernel)
        moving_s = kernel.bytes / (self._bandwidth * found.reach.memory)
        if found.rate is not None or self._hardware.processors is None or self._hardware.kind == "cpu":
            return moving_s
        widened_per_s = widening().weights_per_s_and_processor * self._hardware.processors
        return _larger(moving_s, weights_read(kernel.kind, kernel.shape) / widened_per_s)

    def _moved_s(self, kernel: Kernel) -> Reals:
        """Of a kernel's bytes, those that the last-level cache holds at its rate."""
        cached: Reals = 0.0
        if kernel.part in CACHED and self._hardware.kind == "gpu":
            cached = np.minimum(kernel.bytes, CACHED_SHARE * self._hardware.last_level_cache_bytes)
        return (kernel.bytes - cached * (1 - 1 / CACHE_SPEEDUP)) / self._bandwidth

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return None


def _larger(one: Reals, other: Reals) -> Reals:
    """np.maximum, without its cost for two plain numbers."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return max(one, other)
    larger: Reals = np.maximum(one, other)
    return larger
