"""What a speed-up owes to an acceptance law that may be off, and to the luck of the requests that it is measured on.

The map is drawn with laws that accept one standard deviation less and more too (``acceptance.origin`` says how much
that is, and a trace by how few requests it was counted on); half of the difference is the speed-up's own, independent
of what prices get wrong. A measurement on n requests sees their own acceptance, which differs from the law's by one
request's standard deviation over the root of n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90


@dataclass(frozen=True, slots=True)
class AcceptanceError:
    """``laws``: one standard deviation of the scenario's own less and more. ``deviations`` [batches]: how many of
    these a measurement of each batch size may be off.
    """

    laws: tuple[AcceptanceLaw, AcceptanceLaw]
    deviations: Floats

    @classmethod
    def of(
        cls, assembly: Assembly, batches: Sequence[int], sample: Callable[[int], int] | None = None
    ) -> AcceptanceError | None:
        """None where acceptance is sure, or nothing says how it would change. ``sample``: requests by batch size."""
        speculation = assembly.speculation
        if speculation is None or not speculation.acceptance_spread:
            return None
        law, spread = speculation.acceptance, speculation.acceptance_spread
        less, more = (accepting_more(law, math.exp(off), assembly.longest) for off in (-spread, spread))
        if less is law and more is law:
            return None
        deviations = np.ones(len(batches))
        if sample is not None:
            requests = np.array([sample(batch) for batch in batches], dtype=np.float64)
            deviations = np.hypot(1.0, law.request_spread(assembly.longest) / np.sqrt(requests) / spread)
        return cls((less, more), deviations)

    def widened(self, speedups: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Bounds of the first of ``speedups`` [laws, batches], with what the others leave open in quadrature of
        logarithms.
        """
        own, less, more = speedups
        off = Z90 * self.deviations * np.abs(np.log(more / less)) / 2
        return own * np.exp(-np.hypot(np.log(own / low), off)), own * np.exp(np.hypot(np.log(high / own), off))
