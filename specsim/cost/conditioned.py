"""Prices of a machine that is not in the state in which it was profiled.

A matrix product streams weights and multiplies: of its ideal time, sqrt(memory² + compute²), each side is stretched by
its own factor, and the efficiency stays. Every other class has one factor. A clock that sinks to 80 % makes compute,
attention, elementwise and host 1.25 times as long and a GEMV hardly longer.
"""

from __future__ import annotations

from dataclasses import replace

from specsim.arrays import Reals
from specsim.cost.forward import Kernel, KernelPrices, Price
from specsim.specs.conditions import Conditions
from specsim.specs.hardware import Hardware

# What is left between a pass and its prediction once five anchors tell the state: standard deviation of whole passes
# over four minutes of a shared CPU was 5 % (1 sequence), 4 % (4), 3 % (16) and 2 % (16 x 4), from 10, 8, 7 and 7 %.
SAME_CONDITIONS_ERROR = 0.05


class ConditionedPrices:
    """``prices``, each stretched as ``conditions`` say.

    ``machine_error``: one standard deviation that all kernels share, as a share of the time.
    """

    def __init__(
        self, prices: KernelPrices, conditions: Conditions, hardware: Hardware, dtype: str, machine_error: float
    ) -> None:
        self._prices, self._conditions, self._machine_error = prices, conditions, machine_error
        self._rates = (hardware.bandwidth_bytes_per_s, hardware.peak_flops_per_s(dtype))

    @property
    def name(self) -> str:
        return self._prices.name

    @property
    def machine_error(self) -> float:
        """As given."""
        return self._machine_error

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """The price, its seconds stretched; its relative error stays."""
        price = self._prices.price(kernel, warm=warm)
        return replace(price, seconds=price.seconds * self._factor(kernel, warm))

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """Host seconds in these conditions."""
        seconds = self._prices.host_s(part, sequences)
        return None if seconds is None else seconds * self._conditions.host

    def _factor(self, kernel: Kernel, warm: bool) -> Reals:
        memory_s = 0.0 if warm else kernel.bytes / self._rates[0]
        return stretch(kernel.kind, memory_s, kernel.flops / self._rates[1], self._conditions)


def stretch(kind: str, memory_s: Reals, compute_s: Reals, conditions: Conditions) -> Reals:
    """Times longer that a kernel of this class takes in these conditions.

    ``memory_s``, ``compute_s``: its ideal times, at the ceilings. Worked: a product that needs 3 us to stream its
    weights and 4 us to multiply takes, where memory is twice as slow, sqrt(6² + 4²) / 5 = 1.44 times as long.
    """
    if kind in ("gemm", "moe"):
        slower = _hypot(memory_s * conditions.memory, compute_s * conditions.compute)
        return slower / _hypot(memory_s, compute_s)
    if kind == "attention":
        return conditions.attention
    return 1.0 if kind == "collective" else conditions.elementwise


def _hypot(one: Reals, other: Reals) -> Reals:
    length: Reals = (one * one + other * other) ** 0.5
    return length
