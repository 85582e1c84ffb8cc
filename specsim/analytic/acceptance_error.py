"""What a speed-up owes to an acceptance law that may be off.

The map is drawn again with a law that accepts one standard deviation more and less (``acceptance.origin`` says how
much that is); half of the difference is the speed-up's own, independent of what prices get wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from specsim.analytic.speedups import Cell
from specsim.assembly import Assembly
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90

Draw = Callable[[Assembly], Sequence[Cell]]


def unsure_of_acceptance(assembly: Assembly, draw: Draw) -> list[Cell]:
    """The cells of ``draw``, ``low`` and ``high`` widened by what acceptance leaves open."""
    cells, speculation = list(draw(assembly)), assembly.speculation
    if speculation is None or not speculation.acceptance_spread:
        return cells
    less, more = (
        draw(assembly.accepting(accepting_more(speculation.acceptance, factor, assembly.longest)))
        for factor in (math.exp(-speculation.acceptance_spread), math.exp(speculation.acceptance_spread))
    )
    return [_widened(*three) for three in zip(cells, less, more, strict=True)]


def _widened(cell: Cell, less: Cell, more: Cell) -> Cell:
    """Both errors of a side in quadrature."""
    off = Z90 * abs(more.speedup - less.speedup) / 2
    below, above = math.hypot(cell.speedup - cell.low, off), math.hypot(cell.high - cell.speedup, off)
    return replace(cell, low=max(0.0, cell.speedup - below), high=cell.speedup + above)
