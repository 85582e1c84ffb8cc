"""What comes out of one run, simulated or measured."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from specsim.errors import InvalidInput
from specsim.notebook import html_table
from specsim.results.limits import StepLimits, StepTotals
from specsim.results.metrics import good_requests, statistics
from specsim.results.records import AcceptanceCounts, RequestRecord, Slo, StepRecord
from specsim.results.sketch import QuantileSketch

SHOWN = (  # of a summary, in a notebook
    "completed", "request_throughput", "output_throughput", "median_ttft_ms", "p95_ttft_ms", "median_tpot_ms",
    "p95_tpot_ms", "median_e2el_ms", "p95_e2el_ms", "spec_decode_acceptance_length", "mean_batch",
    "mean_kv_cache_usage", "preemptions",
)  # fmt: skip
Evaluator = Literal["analytic", "simulated", "reference", "vllm", "sglang", "transformers"]


@dataclass(slots=True)
class Totals:
    """What a summary needs of the requests, in constant memory: for runs too large to keep them."""

    completed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    cached_tokens: int = 0
    good: int | None = None  # requests within the SLO; None if none was given
    ttft: QuantileSketch = field(default_factory=QuantileSketch)
    tpot: QuantileSketch = field(default_factory=QuantileSketch)
    itl: QuantileSketch = field(default_factory=QuantileSketch)
    e2el: QuantileSketch = field(default_factory=QuantileSketch)


@dataclass(frozen=True, slots=True)
class Trim:
    """Only requests that arrived within [from_s, to_s] count; ``dropped`` others finished and do not."""

    from_s: float
    to_s: float
    dropped: int


@dataclass(frozen=True, slots=True)
class KvTransfers:
    """Requests whose KV moved from a prefill to a decode replica, and the bytes that each GPU sent in all."""

    count: int
    bytes_per_gpu: float


@dataclass(slots=True)
class RunResult:
    """One run of one scenario.

    With ``totals`` the summary comes from them alone, and ``requests``, ``steps`` and ``itl_s`` may hold a part or
    nothing. ``itl_request``: the request id of each gap in ``itl_s``, where known. ``limits``: of one replica, in a
    simulated run; ``step_totals``: where ``steps`` does not hold them all.
    """

    engine: Evaluator
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
    interrupted: bool = False  # by Ctrl-C
    num_gpus: int = 1
    rejected: int = 0  # requests turned away by a full queue
    kv_transfers: KvTransfers | None = None  # None: every replica does all
    num_kv_blocks: int | None = None  # of one replica
    itl_request: NDArray[np.int64] | None = None
    limits: StepLimits | None = None
    totals: Totals | None = None
    step_totals: StepTotals | None = None
    trim: Trim | None = None

    def __repr__(self) -> str:
        found = self.summary()
        rate = found["output_throughput"]
        speed = "" if rate is None else f", {rate:,.0f} output tokens/s"
        return f"<RunResult {self.engine}: {found['completed']:,} requests in {self.duration_s:,.1f} s{speed}>"

    def _repr_html_(self) -> str:
        found = self.summary()
        rows = [[name, f"{value:,.6g}"] for name in SHOWN if isinstance(value := found.get(name), int | float)]
        return html_table(repr(self)[1:-1], ("figure", "value"), rows)

    def summary(self, slo: Slo | None = None) -> dict[str, Any]:
        """The run in the keys of ``vllm bench serve --save-result`` (times in ms), and what they leave out.

        With ``totals``, goodput is counted under the SLO that the run was given, whatever ``slo`` is.
        """
        span = self.duration_s if self.duration_s > 0 else math.nan
        report = self._counts(slo, span) | self._latencies()
        rate = self.acceptance.acceptance_rate()
        steps = self.step_totals or StepTotals.of(self.steps, self.limits)
        return (
            report
            | steps.as_summary(self.limits)
            | {
                "spec_decode_acceptance_rate": None if rate is None else 100 * rate,
                "spec_decode_acceptance_length": self.acceptance.acceptance_length(),
                "spec_decode_num_drafts": self.acceptance.drafting_rounds(),
                "spec_decode_draft_tokens": self.acceptance.drafted(),
                "spec_decode_accepted_tokens": self.acceptance.accepted(),
                "spec_decode_per_position_acceptance_rates": self.acceptance.per_position_rates(),
                "spec_decode_acceptance_counts": self.acceptance.as_table(),
                "preemptions": self.totals.preemptions if self.totals else sum(r.preemptions for r in self.requests),
                "prefix_cache_hit_rate": self._prefix_cache_hit_rate(),
                "num_gpus": self.num_gpus,
                "num_kv_blocks": self.num_kv_blocks,
                "limits": None if self.limits is None else asdict(self.limits),
                "kv_transfers": None if self.kv_transfers is None else self.kv_transfers.count,
                "kv_transfer_bytes_per_gpu": None if self.kv_transfers is None else self.kv_transfers.bytes_per_gpu,
                "engine": self.engine,
                "price_source": self.price_source,
                "saturated": self.saturated,
                "truncated": self.truncated,
                "interrupted": self.interrupted,
                "trimmed": None
                if self.trim is None
                else {
                    "from_s": self.trim.from_s,
                    "to_s": self.trim.to_s,
                    "dropped": self.trim.dropped,
                },
                "scenario_sha256": self.scenario_sha256,
                "versions": self.versions,
            }
        )

    def _prefix_cache_hit_rate(self) -> float | None:
        """Share of all prompt tokens that the prefix cache held; None where it is not simulated, or no prompt came."""
        if self.limits is None:
            return None
        if self.totals is not None:
            cached, prompts = self.totals.cached_tokens, self.totals.input_tokens
        else:
            cached = sum(r.cached_tokens for r in self.requests)
            prompts = sum(r.prompt_tokens for r in self.requests)
        return cached / prompts if prompts else None

    def _counts(self, slo: Slo | None, span: float) -> dict[str, Any]:
        totals = self.totals
        if totals is not None:
            completed, inputs, outputs = totals.completed, totals.input_tokens, totals.output_tokens
            good = totals.good
        else:
            completed = len(self.requests)
            inputs = sum(r.prompt_tokens for r in self.requests)
            outputs = sum(r.output_tokens for r in self.requests)
            good = None if slo is None else good_requests(self.requests, slo)
        sent = completed + self.rejected
        rates: dict[str, float | None] = {
            "request_throughput": completed / span,
            "request_goodput": None if good is None else good / span,
            "goodput_share": None if good is None or not sent else good / sent,
            "output_throughput": outputs / span,
            "output_throughput_per_gpu": outputs / span / self.num_gpus,
            "total_token_throughput": (inputs + outputs) / span,
        }
        counts: dict[str, Any] = {
            "duration": self.duration_s,
            "completed": completed,
            "failed": self.rejected,
            "total_input_tokens": inputs,
            "total_output_tokens": outputs,
        }
        return counts | {
            name: rate if rate is not None and math.isfinite(rate) else None for name, rate in rates.items()
        }

    def _latencies(self) -> dict[str, float | None]:
        totals, done = self.totals, self.requests
        if totals is not None:
            each: dict[str, NDArray[np.float64] | QuantileSketch] = {
                "ttft": totals.ttft,
                "tpot": totals.tpot,
                "itl": totals.itl,
                "e2el": totals.e2el,
            }
        else:
            each = {
                "ttft": np.array([r.ttft_s for r in done]),
                "tpot": np.array([t for r in done if (t := r.tpot_s) is not None]),
                "itl": self.itl_s,
                "e2el": np.array([r.e2e_s for r in done]),
            }
        report: dict[str, float | None] = {}
        for name, seconds in each.items():
            report |= statistics(name, seconds)
        return report

    def trimmed(self, from_s: float, to_s: float = math.inf) -> RunResult:
        """Without the requests that arrived before ``from_s`` or after ``to_s``: a run's warm-up and its end.

        Time counts from ``from_s`` to the last counted finish, steps that start in it are kept. Gaps without a known
        request are left out, so that ITL has no statistic. The acceptance record stays that of the whole run.
        Raises InvalidInput: nothing is left, or the run kept no requests.
        """
        if self.totals is not None:
            raise InvalidInput(
                "a streamed run keeps no requests to trim afterwards; give its warm-up to the run itself"
            )
        kept = [r for r in self.requests if from_s <= r.arrival_s <= to_s]
        if not kept:
            arrivals = [r.arrival_s for r in self.requests] or [0.0]
            raise InvalidInput(
                f"no finished request arrived from {from_s:g} to {to_s:g} s; arrivals run from {min(arrivals):g} to "
                f"{max(arrivals):g} s, choose within them"
            )
        end_s = max(r.finish_s for r in kept)
        numbers = np.array([r.request_id for r in kept])
        mine = np.zeros(0, bool) if self.itl_request is None else np.isin(self.itl_request, numbers)
        return replace(
            self,
            duration_s=end_s - from_s,
            requests=kept,
            steps=[step for step in self.steps if from_s <= step.start_s < end_s],
            itl_s=self.itl_s[: mine.size][mine],
            itl_request=None if self.itl_request is None else self.itl_request[mine],
            trim=Trim(from_s, min(to_s, max(r.arrival_s for r in kept)), len(self.requests) - len(kept)),
        )
