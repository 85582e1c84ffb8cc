"""What a run writes down: one record a request, a step, a measured cell, and the acceptance record h[d][j].

TTFT is first token minus arrival; E2E is finish minus arrival; TPOT = (E2E - TTFT) / (output tokens - 1); ITL is the
gap between streamed chunks, which may hold several tokens. One-token outputs are left out of TPOT statistics and
count as TPOT 0 against an SLO. Goodput is requests meeting the SLO per second. All as ``vllm bench serve`` has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import Field, PositiveFloat

from specsim.validated import Validated

PERCENTILES = (50, 90, 95, 99)
LATENCIES = ("ttft", "tpot", "itl", "e2e")


class PercentileLimits(Validated):
    """The most that a percentile of a latency may be, in seconds; an absent one is always met."""

    p50: PositiveFloat | None = None
    p90: PositiveFloat | None = None
    p95: PositiveFloat | None = None
    p99: PositiveFloat | None = None

    def bounds(self) -> list[tuple[int, float]]:
        """(percentile, seconds) of those that are set, lowest percentile first."""
        given = ((percentile, getattr(self, f"p{percentile}")) for percentile in PERCENTILES)
        return [(percentile, limit) for percentile, limit in given if limit is not None]


class Goodput(Validated):
    """Limits of single requests, as ``vllm bench serve --goodput`` takes them, and the share that has to meet all.

    A limit left out is the one of that latency's highest bounded percentile, if it has one.
    """

    ttft_s: PositiveFloat | None = None
    tpot_s: PositiveFloat | None = None
    e2e_s: PositiveFloat | None = None
    share: float | None = Field(None, gt=0, le=1)


class Slo(Validated):
    """What a service promises: bounds on percentiles of latencies, and on the share of requests within limits.

    slo:
      ttft_s: {p95: 1.0}
      tpot_s: {p50: 0.03, p95: 0.04}
      goodput: {e2e_s: 20, share: 0.95}
    """

    ttft_s: PercentileLimits = PercentileLimits()
    tpot_s: PercentileLimits = PercentileLimits()
    itl_s: PercentileLimits = PercentileLimits()
    e2e_s: PercentileLimits = PercentileLimits()
    goodput: Goodput = Goodput()

    def bounds(self) -> list[SloBound]:
        """Every bounded percentile."""
        found = ((name, getattr(self, f"{name}_s").bounds()) for name in LATENCIES)
        return [SloBound(name, percentile, limit) for name, limits in found for percentile, limit in limits]

    @property
    def states_anything(self) -> bool:
        """Whether a run can miss it."""
        return bool(self.bounds()) or self.goodput.share is not None

    def request_limits(self) -> RequestLimits:
        """What each request has to meet to count for goodput."""
        return RequestLimits(*(self._request_limit(name) for name in RequestLimits._fields))

    def _request_limit(self, name: str) -> float | None:
        stated: float | None = getattr(self.goodput, name)
        limits: PercentileLimits = getattr(self, name)
        return stated if stated is not None else max(limits.bounds(), default=(0, None))[1]


class SloBound(NamedTuple):
    """A percentile of a latency (``ttft``, ``tpot``, ``itl``, ``e2e``) and the seconds that it may be at most."""

    latency: str
    percentile: int
    limit_s: float


class RequestLimits(NamedTuple):
    """The most that each latency of one request may be; None: no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


@dataclass(slots=True)
class RequestRecord:
    """One finished request; times are seconds since the run began.

    ``cached_tokens``: of the prompt, found in the prefix cache when it was first admitted or admitted again.
    """

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
    replica: int = 0
    cached_tokens: int = 0

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
    """One engine step. ``accepted`` counts drafts found right in this step's verification.

    ``duration_s``: until the next step may start. Its tokens are out ``lag_s`` later.
    """

    start_s: float
    duration_s: float
    sequences: int
    prefill_tokens: int
    verify_tokens: int
    draft_tokens: int
    accepted: int
    kv_blocks: int
    waiting: int
    replica: int = 0
    lag_s: float = 0.0

    @property
    def latency_s(self) -> float:
        """From its start until its tokens are out."""
        return self.duration_s + self.lag_s


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

    def per_position_rates(self) -> list[float] | None:
        """Unconditional rates r_1, r_2, ... over the rounds that drafted, as vLLM counts them; None if none did.

        They sum to the acceptance length less 1.
        """
        rounds = self.drafting_rounds()
        if not rounds:
            return None
        reached = [0] * max(self.rounds)
        for row in self.rounds.values():
            for accepted, count in row.items():
                for position in range(accepted):
                    reached[position] += count
        return [count / rounds for count in reached]

    def as_table(self) -> dict[str, list[int]]:
        """JSON form {d: [count of j = 0..d]}."""
        return {str(d): [self.rounds[d].get(j, 0) for j in range(d + 1)] for d in sorted(self.rounds)}


def pooled(records: Iterable[AcceptanceCounts]) -> AcceptanceCounts:
    """The rounds of several records as one."""
    total = AcceptanceCounts()
    for counts in records:
        for drafted, row in counts.rounds.items():
            for accepted, rounds in row.items():
                total.add(drafted, accepted, rounds)
    return total


@dataclass(frozen=True, slots=True)
class GridRow:
    """One repeat of one cell of a measured batch × k map; times are medians over its rounds unless named otherwise.

    ``draft_s``: draft passes and the sampling of drafts. ``sample_s``: the target's sampling. ``plain_s``: the mean
    of plain rounds that took turns with these, one by one; None where none did. ``output_tokens``: that so many rounds
    commit, each sequence's rounds counted to its own end.
    """

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
    plain_s: float | None = None
