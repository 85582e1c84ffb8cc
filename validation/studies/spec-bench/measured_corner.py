"""A roofline whose corner was measured, on other cards.

A roofline takes the larger of the time for FLOPs and that for bytes, so that rows are free up to its corner. Measured
products are not: at the corner they take 1.4 to 1.7 times what they take with one row (nine imported profiles, the
matrices of Vicuna-7B). How a card leaves its memory's line as rows are added is taken to depend on how far its own
corner is: m rows are priced by the roofline, times what other cards' profiles measured at the same share of the way
(geometric mean). Tried on each profiled card by the others: validation/studies/spec-bench/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Kernel, KernelPrices, Price
from specsim.cost.measured import EXTRAPOLATED, STAND_IN_ERROR, MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile, load_profile, profile_names
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work


@dataclass(frozen=True, slots=True)
class _Card:
    """A measured card, and how many rows on it are as far from its corner as one row on the priced one."""

    measured: MeasuredPrices
    roofline: Roofline
    rows: float

    def slower(self, kernel: Kernel, warm: bool) -> Reals:
        """Measured time over the roofline's, at the same share of the way to the corner."""
        shape = (self.rows * kernel.shape[0], *kernel.shape[1:])
        moved, flops = work("gemm", shape, kernel.dtype)
        there = replace(kernel, shape=shape, bytes=moved, flops=flops)
        return self.measured.price(there, warm=warm).seconds / self.roofline.price(there, warm=warm).seconds


class CornerPrices:
    """Prices matrix products of ``hardware`` by its roofline and the corner of ``profiles``; the rest by the roofline.

    ``dtype`` is that of activations. A profiled card's datasheet is what its profile states as ceilings.
    """

    def __init__(self, hardware: Hardware, profiles: Sequence[Profile], dtype: str) -> None:
        self._own: KernelPrices = Roofline(hardware, dtype)
        own = rows_at_corner(hardware, dtype)
        self._cards = [
            _Card(
                MeasuredPrices(p, p.hardware(), dtype),
                Roofline(p.hardware(), dtype),
                rows_at_corner(p.hardware(), dtype) / own,
            )
            for p in profiles
        ]
        self._name = f"roofline with the corner of {', '.join(profile.name for profile in profiles)}"

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
        slower = np.exp(sum(np.log(card.slower(kernel, warm)) for card in self._cards) / len(self._cards))
        error = (price.relative_error**2 + STAND_IN_ERROR**2) ** 0.5
        return Price(price.seconds * slower, max(price.rank, EXTRAPOLATED), error, price.compute_bound)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return None


def rows_at_corner(hardware: Hardware, dtype: str) -> float:
    """FLOP/s over bytes/s: rows of a 16-bit product at which both take as long. RTX 3090: 76, A100: 153."""
    return hardware.peak_flops_per_s(dtype) / hardware.bandwidth_bytes_per_s


def measured_corners() -> tuple[Profile, ...]:
    """The shipped profiles of GPUs that hold tables of matrix products: those imported from public ones."""
    profiles = (load_profile(name) for name in profile_names())
    return tuple(p for p in profiles if p.header.importer is not None and p.header.device == "cuda" and p.rows["gemm"])
