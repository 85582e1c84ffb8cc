"""Kernel times without measurements: bytes and FLOPs at what kernels reach of a card's ceilings, plus a floor.

Where both take time, ideal time = sqrt(memory time² + compute time²), as in ``surfaces.efficiency``: a maximum whose
corner is as round as measured ones are. Of weights that are widened first it is the longer of both: their kernels load
and widen the next ones beside the products (Marlin, arXiv 2408.11743, whose gain at 16 rows is that of memory alone).

What a class of a GPU's kernels reaches was fitted on the cards that have a profile
(validation/studies/borrowed-prices/fit_roofline.py), and is how far a card that was left out of the fit is off.
Where no table tells, of other classes and on CPUs, stated defaults stand in: 0.8 of peak bandwidth (the empirical
factor that aiconfigurator 0.12 ships in its system files) and 0.7 of peak FLOP/s (large dense GEMMs on Hopper reach
0.7 to 0.8 of the datasheet).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from specsim.arrays import Reals
from specsim.cost.collective import collective_error, collective_s
from specsim.cost.forward import SOURCES, Kernel, Price
from specsim.specs.formats import format_of, widening
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import weights_read

PRODUCTS = ("gemm", "moe")
WIDEST_VERIFICATION = 64  # query tokens; above, attention is a prompt's


@dataclass(frozen=True, slots=True)
class Reached:
    """What kernels of a class reach: ``floor_s`` is on top of the time of bytes and FLOPs at ``memory`` and
    ``compute``, shares of the card's ceilings. ``error``: one standard deviation of a kernel at one width beside its
    machine's, as a share of its time.
    """

    floor_s: float
    memory: float
    compute: float
    error: float


DEFAULT = Reached(2e-6, 0.8, 0.7, error=0.4)  # floor: a kernel that does nothing, launched from a graph; a judgement
# Over nine cards, as fit_roofline.py prints them; errors of attention and prompts, which it does not tell apart by
# width, are all of theirs.
REACHED = {
    "gemm": Reached(4.7e-6, 0.91, 0.8, error=0.11),
    "moe": Reached(13.3e-6, 0.98, 0.35, error=0.12),
    "attention": Reached(10.1e-6, 0.88, 0.7, error=0.19),
    "prompt": Reached(13.5e-6, 0.49, 0.45, error=0.21),
}
CPU_FLOOR_S = 5e-6  # launched eagerly
CPU_ERROR = {"gemm": 0.16, "moe": 0.36, "attention": 0.63, "prompt": 0.63}  # judgements, of no CPU's tables
# One standard deviation of the machine as a whole: passes of cards left out of the fit are off by 0.16 around the
# card's mean, and that by 0.07; of both, what is not a class's.
MACHINE_ERROR = 0.15
# What one kernel of a pass writes and the next reads stays in the last-level cache if it fits beside what else passes
# through. An H100's reads 5.5 to 7 TB/s (chipsandcheese.com, "Nvidia's H100: Funny L2, and Tons of Bandwidth") beside
# 2 to 3.35 of its memory, an A100's 7.2 at most (5,120 bytes a clock, A100 whitepaper) beside 2.
CACHE_SPEEDUP, CACHED_SHARE = 2.0, 0.5
CACHED = ("elementwise", "sampling")  # parts of a pass; keys and states come from memory
ROOFLINE_RANK = float(SOURCES.index("roofline"))


def class_of(kernel: Kernel) -> str:
    """Of ``REACHED``: ``prompt`` for attention of more than WIDEST_VERIFICATION new tokens, else the kernel's own."""
    return "prompt" if kernel.kind == "attention" and kernel.shape[1] > WIDEST_VERIFICATION else kernel.kind


class Roofline:
    """Prices kernels from a datasheet; ``dtype`` is that of activations."""

    def __init__(self, hardware: Hardware, dtype: str) -> None:
        self._hardware = hardware
        self._bandwidth = hardware.bandwidth_bytes_per_s
        self._compute = hardware.sustained_flops_per_s(dtype)

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
            error = collective_error(self._hardware, kernel.shape[1])
            return Price(collective_s(kernel, self._hardware), ROOFLINE_RANK, error, 0.0)
        reached = self.reached(kernel)
        seconds = reached.floor_s + _larger(self.ideal_s(kernel), self.widened_s(kernel))
        return Price(seconds, ROOFLINE_RANK, reached.error, self.compute_bound(kernel))

    def reached(self, kernel: Kernel) -> Reached:
        """What its class reaches on hardware of this kind."""
        kind = class_of(kernel)
        if self._hardware.kind == "cpu":
            return replace(DEFAULT, floor_s=CPU_FLOOR_S, error=CPU_ERROR.get(kind, DEFAULT.error))
        return REACHED.get(kind, DEFAULT)

    def ideal_s(self, kernel: Kernel) -> Reals:
        """Of arithmetic and memory at what the class reaches, without a floor."""
        memory_s, compute_s = self._bounds_s(kernel)
        if _is_widened(kernel):
            return _larger(memory_s, compute_s)
        return (memory_s * memory_s + compute_s * compute_s) ** 0.5

    def compute_bound(self, kernel: Kernel) -> Reals:
        """1 where a kernel's FLOPs take longer than its bytes, else 0."""
        memory_s, compute_s = self._bounds_s(kernel)
        return 1.0 * (compute_s > memory_s)

    def _bounds_s(self, kernel: Kernel) -> tuple[Reals, Reals]:
        """Of bytes and of FLOPs."""
        reached, (memory_s, compute_s) = self.reached(kernel), self.at_the_ceilings_s(kernel)
        return memory_s / reached.memory, compute_s / reached.compute

    def at_the_ceilings_s(self, kernel: Kernel) -> tuple[Reals, Reals]:
        """What bytes and FLOPs take at the card's ceilings and at its format's share of what 16 bits reach."""
        return self._memory_s(kernel), kernel.flops / self._flops_per_s(kernel)

    def _flops_per_s(self, kernel: Kernel) -> float:
        """Narrow weights times narrow activations run at the rate of their format, all else at that of ``dtype``."""
        found = format_of(kernel.dtype)
        if kernel.kind not in PRODUCTS or found.bits >= 16:
            return self._compute
        if found.rate is None:
            return self._compute * found.reach.compute * widening().share_on(self._hardware)
        return self._hardware.sustained_flops_per_s(found.rate) * found.reach.compute

    def widened_s(self, kernel: Kernel) -> Reals:
        """The least that a product of widened weights takes, however well 16 bits multiply; 0 of other kernels."""
        if kernel.kind != "gemm" or not _is_widened(kernel):
            return 0.0
        most = widening().most_on(self._hardware) * self._compute
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
        # Of routed experts as much less as of their bytes: tokens choose fewer than are counted, some of them oftener.
        whole = DEFAULT.memory if kernel.kind == "moe" else self.reached(kernel).memory
        return _larger(moving_s, whole * weights_read(kernel.kind, kernel.shape) / widened_per_s)

    def _moved_s(self, kernel: Kernel) -> Reals:
        """Of a kernel's bytes, those that the last-level cache holds at its rate."""
        cached: Reals = 0.0
        if kernel.part in CACHED and self._hardware.kind == "gpu":
            cached = np.minimum(kernel.bytes, CACHED_SHARE * self._hardware.last_level_cache_bytes)
        return (kernel.bytes - cached * (1 - 1 / CACHE_SPEEDUP)) / self._bandwidth

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return None


def _is_widened(kernel: Kernel) -> bool:
    """Whether narrow weights become 16 bits before they are multiplied."""
    found = format_of(kernel.dtype)
    return kernel.kind in PRODUCTS and found.bits < 16 and found.rate is None


def _larger(one: Reals, other: Reals) -> Reals:
    """np.maximum, without its cost for two plain numbers."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return max(one, other)
    larger: Reals = np.maximum(one, other)
    return larger
