"""What comes out of a run, simulated or measured, and the only definitions of its metrics.

TTFT is first token minus arrival; E2E is finish minus arrival; TPOT = (E2E - TTFT) / (output tokens - 1); ITL is the
gap between streamed chunks, which may hold several tokens. One-token outputs are left out of TPOT statistics and
count as TPOT 0 against an SLO. Goodput is requests meeting the SLO per second. All as ``vllm bench serve`` has them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Engine = Literal["analytic", "simulated", "reference", "vllm", "transformers"]


class Slo(BaseModel):
    """Latency limits; an absent one is always met. ``percentile`` of requests should meet them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_s: PositiveFloat | None = None
    tpot_s: PositiveFloat | None = None
    e2e_s: PositiveFloat | None = None
    percentile: float = Field(99.0, gt=0, le=100)


@dataclass(slots=True)
class RequestRecord:
    """One finished request; times are seconds since the run began."""

    request_id: int
    request_class: str
    arrival_s: float
    first_token_s: float
    finish_s: float
    prompt_tokens: int
    output_tokens: int
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    preemptions: int = 0

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrival_s

    @property
    def e2e_s(self) -> float:
        return self.finish_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        if self.output_tokens < 2:
            return None
        return (self.finish_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass(slots=True)
class StepRecord:
    """One engine step. ``accepted`` counts drafts found right in this step's verification."""

    start_s: float
    duration_s: float
    sequences: int
    prefill_tokens: int
    verify_tokens: int
    draft_tokens: int
    accepted: int
    kv_blocks: int
    waiting: int


@dataclass(slots=True)
class AcceptanceCounts:
    """The canonical acceptance record h[d][j]: rounds that drafted d tokens and accepted j; d = 0 kept apart."""

    rounds: dict[int, dict[int, int]] = field(default_factory=dict)

    def add(self, drafted: int, accepted: int, count: int = 1) -> None:
        row = self.rounds.setdefault(drafted, {})
        row[accepted] = row.get(accepted, 0) + count

    def drafting_rounds(self) -> int:
        return sum(sum(row.values()) for drafted, row in self.rounds.items() if drafted)

    def drafted(self) -> int:
        return sum(drafted * sum(row.values()) for drafted, row in self.rounds.items())

    def accepted(self) -> int:
        return sum(j * n for row in self.rounds.values() for j, n in row.items())

    def acceptance_length(self) -> float | None:
        """1 + accepted / rounds over the rounds that drafted (vLLM's definition); None if none did."""
        rounds = self.drafting_rounds()
        return 1.0 + self.accepted() / rounds if rounds else None

    def acceptance_rate(self) -> float | None:
        """Accepted / drafted tokens; None without drafts."""
        drafted = self.drafted()
        return self.accepted() / drafted if drafted else None

    def as_table(self) -> dict[str, list[int]]:
        """JSON form {d: [count of j = 0..d]}."""
        return {str(d): [self.rounds[d].get(j, 0) for j in range(d + 1)] for d in sorted(self.rounds)}


@dataclass(slots=True)
class RunResult:
    """One run of one scenario."""

    engine: Engine
    scenario_sha256: str
    duration_s: float
    requests: list[RequestRecord]
    steps: list[StepRecord]
    itl_s: NDArray[np.float64]  # [chunks after the first, over all requests]
    acceptance: AcceptanceCounts
    price_source: str  # measured, interpolated, extrapolated, roofline; "wall clock" for a real run
    versions: dict[str, str] = field(default_factory=dict)
    saturated: bool = False  # the queue kept growing: latencies depend on how long the run was
    truncated: bool = False  # stopped before every request finished
    num_gpus: int = 1

    def summary(self, slo: Slo | None = None) -> dict[str, Any]:
        """The run in the keys of ``vllm bench serve --save-result`` (times in ms), and what they leave out."""
        done = self.requests
        outputs = sum(r.output_tokens for r in done)
        inputs = sum(r.prompt_tokens for r in done)
        span = self.duration_s if self.duration_s > 0 else float("nan")
        report: dict[str, Any] = {
            "duration": self.duration_s,
            "completed": len(done),
            "total_input_tokens": inputs,
            "total_output_tokens": outputs,
            "request_throughput": len(done) / span,
            "request_goodput": None if slo is None else goodput_per_s(done, slo, span),
            "output_throughput": outputs / span,
            "output_throughput_per_gpu": outputs / span / self.num_gpus,
            "total_token_throughput": (inputs + outputs) / span,
        }
        report |= _statistics("ttft", np.array([r.ttft_s for r in done]))
        report |= _statistics("tpot", np.array([t for r in done if (t := r.tpot_s) is not None]))
        report |= _statistics("itl", self.itl_s)
        report |= _statistics("e2el", np.array([r.e2e_s for r in done]))
        rate = self.acceptance.acceptance_rate()
        report |= {
            "spec_decode_acceptance_rate": None if rate is None else 100 * rate,
            "spec_decode_acceptance_length": self.acceptance.acceptance_length(),
            "spec_decode_num_drafts": self.acceptance.drafting_rounds(),
            "spec_decode_draft_tokens": self.acceptance.drafted(),
            "spec_decode_accepted_tokens": self.acceptance.accepted(),
            "spec_decode_acceptance_counts": self.acceptance.as_table(),
            "preemptions": sum(r.preemptions for r in done),
            "steps": len(self.steps),
            "engine": self.engine,
            "price_source": self.price_source,
            "saturated": self.saturated,
            "truncated": self.truncated,
            "scenario_sha256": self.scenario_sha256,
            "versions": self.versions,
        }
        return report


def queue_kept_growing(arrivals_s: Sequence[float], steps: Sequence[Sequence[StepRecord]]) -> bool:
    """Whether the queue grew as long as requests arrived, so that latencies depend on how long the run was.

    ``steps`` by replica. The rule: at the last arrival the steps under way had left more than 2·√requests waiting, and
    more than 1.5 times what those half-way in time had left. A queue in balance stays bounded and one at exactly full
    load wanders by about √requests, while one that cannot be served grows in proportion.
    """
    if not arrivals_s:
        return False

    def left_waiting(time_s: float) -> int:
        """Requests left waiting by each replica's last step that started by then."""
        last = (bisect_right(one, time_s, key=lambda step: step.start_s) for one in steps)
        return sum(one[index - 1].waiting for one, index in zip(steps, last, strict=True) if index)

    first_s, last_s = min(arrivals_s), max(arrivals_s)
    half_way = left_waiting((first_s + last_s) / 2) if last_s > first_s else 0
    at_end = left_waiting(last_s)
    return at_end > 2 * len(arrivals_s) ** 0.5 and at_end > 1.5 * half_way


def meets(record: RequestRecord, slo: Slo) -> bool:
    """Whether one request stays within every limit that is set."""
    return (
        (slo.ttft_s is None or record.ttft_s <= slo.ttft_s)
        and (slo.tpot_s is None or (record.tpot_s or 0.0) <= slo.tpot_s)
        and (slo.e2e_s is None or record.e2e_s <= slo.e2e_s)
    )


def goodput_per_s(records: list[RequestRecord], slo: Slo, duration_s: float) -> float:
    """Requests within the SLO per second."""
    return sum(meets(r, slo) for r in records) / duration_s


def _statistics(name: str, seconds: NDArray[np.float64]) -> dict[str, float | None]:
    keys = ("mean", "median", "std", "p50", "p90", "p99")
    if seconds.size == 0:
        return {f"{key}_{name}_ms": None for key in keys}
    ms = seconds * 1e3
    p50, p90, p99 = np.percentile(ms, [50, 90, 99])
    values = (ms.mean(), p50, ms.std(), p50, p90, p99)
    return {f"{key}_{name}_ms": float(value) for key, value in zip(keys, values, strict=True)}


@dataclass(frozen=True, slots=True)
class GridRow:
    """One repeat of one cell of a measured batch × k map; times are medians over its rounds unless named otherwise."""

    repeat: int
    batch: int
    draft_tokens: int
    context_tokens: float  # mean KV length over the rounds
    rounds: int
    elapsed_s: float  # of all rounds together
    output_tokens: int
    round_s: float
    round_p10_s: float
    round_p90_s: float
    target_s: float
    draft_s: float
    sample_s: float
    host_s: float
