"""What comes out of a run, and the only definitions of its metrics."""

from specsim.results.metrics import goodput_per_s, left_waiting, meets, queue_kept_growing
from specsim.results.records import (
    AcceptanceCounts,
    Goodput,
    GridRow,
    PercentileLimits,
    RequestRecord,
    Slo,
    StepRecord,
)
from specsim.results.run import Engine, KvTransfers, RunResult, Totals, Trim
from specsim.results.service_level import SloFinding, slo_findings, slo_met
from specsim.results.sketch import QuantileSketch

__all__ = [
    "AcceptanceCounts",
    "Engine",
    "Goodput",
    "GridRow",
    "KvTransfers",
    "PercentileLimits",
    "QuantileSketch",
    "RequestRecord",
    "RunResult",
    "Slo",
    "SloFinding",
    "StepRecord",
    "Totals",
    "Trim",
    "goodput_per_s",
    "left_waiting",
    "meets",
    "queue_kept_growing",
    "slo_findings",
    "slo_met",
]
