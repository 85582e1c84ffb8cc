"""Kernel times without measurements: max(compute, bandwidth) at stated default efficiencies, plus a launch floor.

The defaults are assumptions, not fits: 0.8 of peak bandwidth (the empirical factor that aiconfigurator 0.12 ships in
its system files) and 0.7 of peak FLOP/s (large dense GEMMs on Hopper reach 0.7 to 0.8 of the datasheet).
"""

from __future__ import annotations

from specsim.cost.forward import Kernel, Price
from specsim.specs.hardware import Hardware

BANDWIDTH_EFFICIENCY = 0.8
COMPUTE_EFFICIENCY = 0.7
KERNEL_FLOOR_S = {
    "gpu": 2e-6,
    "cpu": 5e-6,
}  # a kernel that does nothing, launched from a graph (gpu) or eagerly (cpu)
# One standard deviation each, assumed, since nothing was measured: of the machine as a whole, and of a kernel class.
MACHINE_ERROR, RELATIVE_ERROR = 0.25, 0.1

# Serving-engine host time where neither the scenario nor a profile gives it: per step, and per draft pass. From a
# decomposition of vLLM EAGLE rounds on one H100 at k = 3: 1.2 ms a step, about 1.9 ms for three draft passes.
DEFAULT_HOST_S = {"step": 1.2e-3, "draft_pass": 0.63e-3}


class Roofline:
    """Prices kernels from a datasheet."""

    def __init__(self, hardware: Hardware, dtype: str) -> None:
        self._bandwidth = hardware.bandwidth_bytes_per_s * BANDWIDTH_EFFICIENCY
        self._compute = hardware.peak_flops_per_s(dtype) * COMPUTE_EFFICIENCY
        self._floor_s = KERNEL_FLOOR_S[hardware.kind]

    @property
    def name(self) -> str:
        return "roofline"

    @property
    def machine_error(self) -> float:
        """How far a real machine may be from its datasheet at the default efficiencies."""
        return MACHINE_ERROR

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """``warm`` changes nothing here: a datasheet has no cache bandwidth."""
        seconds = self._floor_s + max(kernel.flops / self._compute, kernel.bytes / self._bandwidth)
        return Price(seconds, "roofline", RELATIVE_ERROR)

    def host_s(self, part: str, sequences: int) -> float | None:
        return None
