"""Served loads as ratios to the plain run of the same repeat, which a machine that drifts does not spoil."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.fidelity.served_errors import THROUGHPUT
from specsim.results.served_rows import SCENARIO, PredictedRun, ServedRow

METRICS = (THROUGHPUT, "median_tpot_ms")


@dataclass(frozen=True, slots=True)
class ServedRatio:
    """One metric of an alternative over that of another under the same load. ``repeats`` [repeats]: as measured."""

    load: str
    alternative: str
    metric: str
    predicted: float
    repeats: Floats

    @property
    def measured(self) -> float:
        return float(np.median(self.repeats))

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted / self.measured - 1.0


def served_ratios(
    predicted: Iterable[PredictedRun], measured: Sequence[ServedRow], base: str, metrics: Sequence[str] = METRICS
) -> list[ServedRatio]:
    """Of every load and alternative but ``base`` that both ran in some repeat, and that were predicted both."""
    foretold = {(one.load, one.alternative): one.metrics for one in predicted if one.variant == SCENARIO}
    values = {(row.load, row.alternative, row.repeat): row.metrics for row in measured}
    found = []
    for load, name in dict.fromkeys((row.load, row.alternative) for row in measured if row.alternative != base):
        for metric in metrics:
            both = [
                (one, other)
                for (where, who, repeat), of in values.items()
                if (where, who) == (load, name)
                and (one := of.get(metric))
                and (other := values.get((load, base, repeat), {}).get(metric))
            ]
            told = [foretold.get((load, who), {}).get(metric) for who in (name, base)]
            if both and told[0] is not None and told[1] is not None:
                ratios = np.array([one / other for one, other in both])
                found.append(ServedRatio(load, name, metric, told[0].value / told[1].value, ratios))
    return found
