"""What comes out of a run, and the only definitions of its metrics."""

from specsim.results.limits import StepLimits, StepTotals
from specsim.results.metrics import good_requests, left_waiting, meets, queue_kept_growing
from specsim.results.records import (
    AcceptanceCounts,
    Goodput,
    GridRow,
    PercentileLimits,
    RequestRecord,
    Slo,
    StepRecord,
    pooled,
)
from specsim.results.run import Evaluator, KvTransfers, RunResult, Totals, Trim
from specsim.results.service_level import SloFinding, slo_findings, slo_met
from specsim.results.sketch import QuantileSketch

__all__ = [
    "AcceptanceCounts",
    "Evaluator",
    "Goodput",
    "GridRow",
    "KvTransfers",
    "PercentileLimits",
    "QuantileSketch",
    "RequestRecord",
    "RunResult",
    "Slo",
    "SloFinding",
    "StepLimits",
    "StepRecord",
    "StepTotals",
    "Totals",
    "Trim",
    "good_requests",
    "left_waiting",
    "meets",
    "pooled",
    "queue_kept_growing",
    "slo_findings",
    "slo_met",
]
