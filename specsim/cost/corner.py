"""A roofline whose corner was measured, on another card.

A roofline takes the larger of the time for FLOPs and that for bytes, so that rows are free up to its corner. Measured
products are not: at the corner they take 1.2 to 1.7 times what they take with one row (five imported profiles, the
matrices of Vicuna-7B). How a card leaves its memory's line as rows are added is taken to depend on how far its own
corner is: m rows are priced by the roofline, times what another card's profile measured at the same share of the way.
"""

from __future__ import annotations

from dataclasses import replace

from specsim.cost.efficiency import work
from specsim.cost.forward import Kernel, KernelPrices, Price
from specsim.cost.measured import EXTRAPOLATED, STAND_IN_ERROR, MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile
from specsim.specs.hardware import Hardware
from specsim.units import Reals


class CornerPrices:
    """Prices matrix products of ``hardware`` by its roofline and the corner of ``profile``; the rest by the roofline.

    ``dtype`` is that of activations. The other card's datasheet is what its profile states as ceilings.
    """

    def __init__(self, hardware: Hardware, profile: Profile, dtype: str) -> None:
        self._own: KernelPrices = Roofline(hardware, dtype)
        other = profile.hardware()
        self._measured = MeasuredPrices(profile, other, dtype)
        self._roofline = Roofline(other, dtype)
        self._farther = rows_at_corner(other, dtype) / rows_at_corner(hardware, dtype)
        self._name = f"roofline with the corner of {profile.name}"

    @property
    def name(self) -> str:
        return self._name

    @property
    def machine_error(self) -> float:
        """As the roofline's."""
        return self._own.machine_error

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch."""
        price = self._own.price(kernel, warm=warm)
        if kernel.kind != "gemm":
            return price
        shape = (self._farther * kernel.shape[0], *kernel.shape[1:])
        moved, flops = work("gemm", shape, kernel.dtype)
        there = replace(kernel, shape=shape, bytes=moved, flops=flops)
        slower = self._measured.price(there, warm=warm).seconds / self._roofline.price(there, warm=warm).seconds
        error = (price.relative_error**2 + STAND_IN_ERROR**2) ** 0.5
        return Price(price.seconds * slower, max(price.rank, EXTRAPOLATED), error, price.compute_bound)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return None


def rows_at_corner(hardware: Hardware, dtype: str) -> float:
    """FLOP/s over bytes/s: rows of a 16-bit product at which both take as long. RTX 3090: 76, A100: 153."""
    return hardware.peak_flops_per_s(dtype) / hardware.bandwidth_bytes_per_s
