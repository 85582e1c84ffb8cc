"""Whether a run met its SLO: each bound beside what the run showed, and by how much it was met or missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specsim.results.records import Slo

_KEYS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2el"}  # of a summary


@dataclass(frozen=True, slots=True)
class SloFinding:
    """One bound of an SLO: ``name`` is ``ttft p95`` or ``goodput``; seconds, or a share of the requests.

    ``value`` None: the run has no such value. ``met`` is then true for TPOT and ITL alone, which requests of one
    output token do not have and always meet.
    """

    name: str
    limit: float
    value: float | None
    met: bool

    @property
    def ratio(self) -> float | None:
        """The value over its limit."""
        return None if self.value is None else self.value / self.limit

    def as_json(self) -> dict[str, Any]:
        """Bound, value, and whether it was met."""
        return {"bound": self.name, "limit": self.limit, "value": self.value, "met": self.met}


def slo_findings(summary: Mapping[str, Any], slo: Slo) -> tuple[SloFinding, ...]:
    """Every bound of the SLO against the summary of a run (see ``RunResult.summary``)."""
    found = []
    for latency, percentile, limit_s in slo.bounds():
        shown_ms = summary[f"p{percentile}_{_KEYS[latency]}_ms"]
        value = None if shown_ms is None else shown_ms / 1e3
        met = latency in ("tpot", "itl") if value is None else value <= limit_s
        found.append(SloFinding(f"{latency} p{percentile}", limit_s, value, met))
    if slo.goodput.share is not None:
        share = summary["goodput_share"]
        found.append(SloFinding("goodput", slo.goodput.share, share, share is not None and share >= slo.goodput.share))
    return tuple(found)


def slo_met(summary: Mapping[str, Any], slo: Slo) -> bool:
    """Whether every bound was met by a run in balance: not where its queue kept growing, or it was cut short."""
    if summary["saturated"] or summary["truncated"]:
        return False
    return all(finding.met for finding in slo_findings(summary, slo))
