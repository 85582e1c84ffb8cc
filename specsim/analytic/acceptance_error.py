"""What a speed-up owes to an acceptance law that may be off.

The map is drawn with laws that accept one standard deviation less and more too (``acceptance.origin`` says how much
that is); half of the difference is the speed-up's own, independent of what prices get wrong.
"""

from __future__ import annotations

import math

import numpy as np

from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90


def less_and_more(assembly: Assembly) -> tuple[AcceptanceLaw, ...]:
    """The laws one standard deviation off; none where acceptance is sure, or nothing says how it would change."""
    speculation = assembly.speculation
    if speculation is None or not speculation.acceptance_spread:
        return ()
    law, spread = speculation.acceptance, speculation.acceptance_spread
    found = tuple(accepting_more(law, math.exp(off), assembly.longest) for off in (-spread, spread))
    return () if all(one is law for one in found) else found


def widened(speedups: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Bounds of the first of ``speedups`` [laws, batches], with what the others, if any, leave open in quadrature of
    logarithms.
    """
    if len(speedups) == 1:
        return low, high
    own, less, more = speedups
    off = Z90 * np.abs(np.log(more / less)) / 2
    return own * np.exp(-np.hypot(np.log(own / low), off)), own * np.exp(np.hypot(np.log(high / own), off))
