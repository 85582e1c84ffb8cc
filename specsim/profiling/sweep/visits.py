"""What several visits to a shape found, brought to one state of the machine.

A shared machine's memory is 1.5 times as fast in one minute as in the next. Visits minutes apart see more of its
states than as many in a row: over two minutes of two shared cores, means of four visits to one matrix product differed
by 13 % (standard deviation) in a row and by 9 % spread out. Each visit's times are also divided by how much longer
kernels of their class took around it, by the anchors, than they typically do, which leaves 7 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.cost.conditioned import stretch
from specsim.profiles.schema import Ceilings, Row
from specsim.profiling.device.anchors import ratios
from specsim.profiling.device.timer import summary
from specsim.profiling.sweep.plan import Shape, size
from specsim.specs.conditions import Conditions

MOST_CORRECTION = 1.6  # what was seen of one machine; anchors further off met time slices that short kernels do not


@dataclass(frozen=True, slots=True)
class _Visit:
    samples_s: Sequence[float]
    look: Mapping[str, float]


class Visits:
    """Samples of one sweep, by shape and visit.

    ``rate``: FLOP/s that the products are compared with; ``mode``: how kernels were launched.
    """

    def __init__(self, ceilings: Ceilings, rate: float, mode: str) -> None:
        self._rates = (ceilings.copy_bytes_per_s, rate)
        self._mode = mode
        self._kernels: dict[Shape, str] = {}
        self._visits: dict[Shape, list[_Visit]] = {}

    def add(self, shape: Shape, kernel: str, samples_s: Sequence[float], look: Mapping[str, float]) -> None:
        """Another visit; ``look``: seconds of the anchors around it, empty where nobody looked."""
        self._kernels[shape] = kernel
        self._visits.setdefault(shape, []).append(_Visit(samples_s, look))

    def row(self, shape: Shape, typical: Mapping[str, float]) -> Row:
        """A shape's row over all its visits, as where the anchors take ``typical`` seconds; KeyError without a visit.

        Worked: visits of 1.0 and 1.5 ms, the anchors at 1 and 1.5 times what is typical, make a row of 1.0 ms.
        """
        samples = [np.divide(visit.samples_s, self._factor(shape, visit, typical)) for visit in self._visits[shape]]
        timing = summary(np.concatenate(samples).tolist())
        return Row(
            shape=tuple(float(v) for v in shape.shape),
            operation=shape.operation,
            dtype=shape.dtype,
            kernel=self._kernels[shape],
            cache=shape.cache,
            mode=self._mode,
            median_s=timing.median_s,
            p10_s=timing.p10_s,
            p90_s=timing.p90_s,
            samples=timing.samples,
        )

    def _factor(self, shape: Shape, visit: _Visit, typical: Mapping[str, float]) -> float:
        moved, flops = size(shape)
        memory_s = 0.0 if shape.cache == "warm" else moved / self._rates[0]
        conditions = Conditions.model_validate(ratios(visit.look, typical))
        factor = float(stretch(shape.kind, memory_s, flops / self._rates[1], conditions))
        return min(max(factor, 1.0 / MOST_CORRECTION), MOST_CORRECTION)
