"""Prices of a card without a profile: a measured sibling's efficiencies at the card's own ceilings.

A kernel's time is (floor + ideal time) / efficiency (surfaces/efficiency.py). Floor and efficiency are what the
sibling's rows say at the kernel's shape; the ideal time is the card's own. So a kernel that streams its weights
shortens with the memory's rate, one that multiplies with the FLOP/s, and one that is all floor not at all. What the
sibling's profile does not hold is the card's own roofline, and so is a collective over another link.

Worked: 1.2 ms on 3.35 TB/s with a floor of 2 us and 1 ms of ideal time takes, on 4 TB/s, (2 + 837.5) / (2 + 1000) of
it, 1.005 ms.
"""

from __future__ import annotations

import math

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import SOURCES, Kernel, Price
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile
from specsim.specs.formats import format_of
from specsim.specs.hardware import Hardware

BORROWED_RANK = float(SOURCES.index("borrowed"))
# One standard deviation each, of a kernel class at one width and of the whole card: measured cards priced from
# others of their generation (validation/studies/borrowed-prices) are off by 0 to 7 % over passes in the median. Nine
# tenths of the kernels of a class are off by less than 30 %, most of it at every width alike: from a width to four
# times it a class of the H100 and H200 is off anew by 5 to 8 %.
BORROWED_ERROR, CARD_ERROR = 0.1, 0.1
# Another of a kernel that waits for memory on one card and for compute on the other: a judgement, no pair tells.
TURNED_ERROR = 0.2
SAME_LINK = 0.01  # links whose rates differ by less are the same


def borrowed_name(profile: Profile, hardware: Hardware) -> str:
    """How answers call such prices."""
    return f"{profile.name}, borrowed from {profile.header.gpu} at {hardware.name}'s ceilings"


class BorrowedPrices:
    """``prices``: those of the sibling's profile on the sibling itself; ``dtype`` is that of activations."""

    def __init__(self, prices: MeasuredPrices, sibling: Hardware, hardware: Hardware, dtype: str) -> None:
        self._prices, self._sibling, self._hardware, self._dtype = prices, sibling, hardware, dtype
        self._roofline, self._siblings = Roofline(hardware, dtype), Roofline(sibling, dtype)

    @property
    def name(self) -> str:
        return borrowed_name(self._prices.profile, self._hardware)

    @property
    def machine_error(self) -> float:
        """The sibling's own, and how far cards of one kind are apart."""
        return math.hypot(self._prices.machine_error, CARD_ERROR)

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch, from the sibling's profile as far as it goes."""
        own = self._roofline.price(kernel, warm=warm)
        if kernel.kind == "collective" and not self._same_link():
            return own
        lent, floor_s = self._prices.price(kernel, warm=warm), self._prices.floor_s(kernel, warm=warm)
        if floor_s is None:
            return own
        there, here = self._ideal_s(kernel, self._sibling), self._ideal_s(kernel, self._hardware)
        ratio = 1.0 if kernel.kind == "collective" else (floor_s + here) / (floor_s + there)
        rank = np.maximum(lent.rank, BORROWED_RANK)
        turned = TURNED_ERROR * np.abs(own.compute_bound - self._siblings.compute_bound(kernel))
        error = np.hypot(np.hypot(lent.relative_error, BORROWED_ERROR), turned)
        return Price(lent.seconds * ratio, rank if np.ndim(rank) else float(rank), error, own.compute_bound)

    def _ideal_s(self, kernel: Kernel, card: Hardware) -> Reals:
        """The longer of memory and compute time at the ceilings, rounded as efficiency surfaces round it, and what
        the card's power takes for both.
        """
        both = {str(name) for name in self._sibling.flops_per_s.keys() & self._hardware.flops_per_s.keys()}
        own = str(format_of(kernel.dtype).rate)
        compute_s = kernel.flops / card.sustained_flops_per_s(own if own in both else self._dtype)
        ideal: Reals = ((kernel.bytes / card.bandwidth_bytes_per_s) ** 2 + compute_s**2) ** 0.5
        return np.maximum(ideal, card.powered_s(kernel.bytes, compute_s))

    def _same_link(self) -> bool:
        one, other = self._sibling, self._hardware
        if one.link_bytes_per_s is None or other.link_bytes_per_s is None:
            return False
        return one.link == other.link and math.isclose(one.link_bytes_per_s, other.link_bytes_per_s, rel_tol=SAME_LINK)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """As on the sibling: the host's time is not the card's."""
        return self._prices.host_s(part, sequences)
