"""By formula: what one replica can serve at most within an SLO, and limits that even a lone request misses.

A batch in steady service gives the rate at every batch size (``analytic.rounds``). Arrivals that vary, and requests
that do, only lower what is served within limits, so that this is the most: its largest batch is the one whose mean
TPOT stays within a limit that half of the requests or more must meet. (Simulated fleets of 5 replicas of Llama-3.3-70B
on H100 and H200 served 93 to 100.1 % of it, single replicas 80 to 97 %.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specsim.analytic.rounds import largest_batch, served_by
from specsim.analytic.steps import ServedLoad, Steps
from specsim.arrays import Floats
from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.planning.plan.load import Load
from specsim.planning.plan.space import ServingOption
from specsim.results import Slo
from specsim.units import format_seconds

BATCH_RATIO = 1.25  # of neighbouring batch sizes that are priced; between them the logarithms are linear
SLACK = 1.05  # by which a simulated fleet may beat the formula
USUAL = 0.97  # of the formula's rate that fleets serve


@dataclass(frozen=True, slots=True)
class Miss:
    """A limit that is missed: what the simulation or formula says it comes to."""

    name: str
    value: float
    limit: float
    at_least: bool = False  # by formula, at best

    def describe(self) -> str:
        """By how much."""
        if self.name == "goodput":
            return f"misses the goodput share: {self.value:.1%} of requests within the limits, {self.limit:.1%} asked"
        least = "at least " if self.at_least else ""
        return f"misses {self.name}: {least}{format_seconds(self.value)}, {self.value / self.limit - 1:.1%} over"


@dataclass(frozen=True)
class Bounds:
    """Of one replica of a candidate under an SLO at the lengths of a load."""

    candidate: ServingOption
    slo: Slo
    load: Load

    @cached_property
    def misses(self) -> tuple[Miss, ...]:
        """Limits that even a request alone on the machine misses."""
        found = []
        for bound in self.slo.bounds():
            alone = self._alone(bound.latency, bound.percentile)
            if alone > bound.limit_s:
                found.append(Miss(f"{bound.latency} p{bound.percentile}", alone, bound.limit_s, at_least=True))
        return tuple(found)

    @cached_property
    def rate_per_s(self) -> float:
        """Requests/s that a replica serves at most; of two pools, one that decodes."""
        reached, tpot_s = self._curve.rate_per_s, self._curve.tpot_s
        return reached[0] if tpot_s[0] > self._tpot_s else _at_limit(reached, tpot_s, self._tpot_s)

    @cached_property
    def prefill_rate_per_s(self) -> float:
        """Requests/s whose prompts a replica computes that does nothing else."""
        assert self.candidate.kind.disaggregated
        machine, served = self._machine, self._served
        prompt = float(served.prompts.mean())
        counts = np.unique(np.geomspace(1.0, max(1.0, machine.limits.max_num_batched_tokens / prompt), 4))
        price = machine.cost.step(
            [Group(counts, prompt, prompt, 1)],
            drafting=counts,
            draft_tokens=self.candidate.draft_tokens,
            drafting_kv_tokens=prompt,
        )
        return float(np.max(counts / np.asarray(price.seconds)))

    @cached_property
    def residence_s(self) -> float:
        """A request's time in the system at that rate, roughly, and as long as the SLO lets one wait."""
        place = min(int(np.searchsorted(self._curve.tpot_s, self._tpot_s)), len(self._curve.tpot_s) - 1)
        waits = [bound.limit_s for bound in self.slo.bounds() if bound.latency == "ttft"]
        return float(self._curve.batch[place] / self._curve.rate_per_s[place]) + max(waits, default=0.0)

    def least_replicas(self) -> int:
        """Fewer cannot serve the load; of both pools together. A multiple of what can be added at once."""
        return sum(self.least_pools()) if self.candidate.kind.disaggregated else self._replicas(self.rate_per_s)

    def least_pools(self) -> tuple[int, int]:
        """Of prefill and of decode replicas."""
        return self._replicas(self.prefill_rate_per_s), self._replicas(self.rate_per_s)

    def likely_replicas(self) -> int:
        """So many will probably do; of both pools together."""
        rates = [self.rate_per_s]
        if self.candidate.kind.disaggregated:
            rates.append(self.prefill_rate_per_s)
        return sum(self._replicas(rate, USUAL) for rate in rates)

    def _replicas(self, rate_per_s: float, share: float = SLACK) -> int:
        unit = self.candidate.unit
        return unit * max(1, math.ceil(self.load.rate_per_s / (share * rate_per_s) / unit))

    @cached_property
    def _tpot_s(self) -> float:
        """The strictest mean TPOT that the SLO allows."""
        limits = [b.limit_s for b in self.slo.bounds() if b.latency == "tpot" and b.percentile >= 50]
        share, single = self.slo.goodput.share, self.slo.request_limits().tpot_s
        if share is not None and share >= 0.5 and single is not None:
            limits.append(single)
        return min(limits, default=math.inf)

    @cached_property
    def _machine(self) -> Assembly:
        return Assembly(self.candidate.scenario)

    @cached_property
    def _served(self) -> ServedLoad:
        own = served_by(self._machine)
        return ServedLoad(own.prompts * self.load.prompts, own.output_tokens * self.load.outputs, own.waves)

    @cached_property
    def _curve(self) -> _Curve:
        """The best draft length of each batch size."""
        machine = self._machine
        policy = None if self.candidate.scenario.speculation is None else self.candidate.scenario.speculation.policy
        lengths: tuple[int, ...] = (0,)
        if policy is not None:
            lengths = (machine.longest,) if policy.kind == "fixed" else machine.choices()
        prompts_free = self.candidate.kind.disaggregated or _shares_prefixes(machine)
        curves = [_curve(machine, k, self._served, prompts_free=prompts_free) for k in lengths]
        return _Curve(
            curves[0].batch,
            np.maximum.reduce([one.rate_per_s for one in curves]),
            np.minimum.reduce([one.tpot_s for one in curves]),
        )

    def _alone(self, latency: str, percentile: int) -> float:
        """Seconds at best of a percentile, which half of the requests or more are below."""
        if percentile < 50 or latency == "itl":
            return 0.0
        output = self._outputs(percentile)
        tpot_s = float(self._curve.tpot_s[0])
        if latency == "tpot":
            return tpot_s
        ttft_s = self._alone_ttft_s(percentile if latency == "ttft" else 0)
        return ttft_s if latency == "ttft" else ttft_s + (output - 1) * tpot_s

    def _outputs(self, percentile: int) -> float:
        drawn = next(iter(self.candidate.scenario.workload.chunks(0, 1024))).output_tokens
        return float(np.percentile(drawn, percentile)) * self.load.outputs

    def _alone_ttft_s(self, percentile: int) -> float:
        """Of the prompt at a percentile of lengths: its chunks one after the other."""
        machine = self._machine
        if _shares_prefixes(machine):
            return 0.0
        limits = machine.limits
        left, before, seconds = float(np.percentile(self._served.prompts, percentile)), 0.0, 0.0
        while left > 0:
            chunk = min(left, limits.max_num_batched_tokens) if limits.chunked_prefill else left
            before, left = before + chunk, left - chunk
            group = Group(1, chunk, before, 0 if left else 1)
            seconds += float(machine.cost.step([group], drafting=0, draft_tokens=0, drafting_kv_tokens=0.0).seconds)
        return seconds + limits.frontend_request_s + limits.frontend_response_s


@dataclass(frozen=True, slots=True)
class _Curve:
    """Of batches in steady service [batches]: requests/s of a replica, and mean TPOT."""

    batch: Floats
    rate_per_s: Floats
    tpot_s: Floats


def _curve(machine: Assembly, draft_tokens: int, served: ServedLoad, *, prompts_free: bool) -> _Curve:
    """``prompts_free``: other replicas compute prompts, or a cache holds them."""
    context = float(served.prompts.mean()) + served.output_tokens / 2
    most = min(machine.limits.max_num_seqs, largest_batch(machine, context))
    batch = np.unique(np.round(np.geomspace(1, most, 1 + math.ceil(math.log(most) / math.log(BATCH_RATIO)))))
    steps = Steps(machine, draft_tokens, drafter=draft_tokens > 0)
    round_ = steps.round(batch, context)
    rounds = steps.rounds(served.output_tokens)
    step_s, turns = np.asarray(round_.seconds), np.full(len(batch), rounds)
    if not prompts_free:
        found = steps.prompt_steps(batch, step_s, served)
        running = steps.round(found.running, context)
        step_s, turns = np.asarray(steps.mean(running, context, served.prompts, found).seconds), found.steps
    return _Curve(batch, batch / (turns * step_s), rounds * step_s / max(1.0, served.output_tokens - 1.0))


def _shares_prefixes(machine: Assembly) -> bool:
    """Whether cached prefixes may spare prompts."""
    return machine.limits.prefix_caching and next(iter(machine.scenario.workload.chunks(0, 1))).prefixes is not None


def _at_limit(rate_per_s: Floats, tpot_s: Floats, limit_s: float) -> float:
    """The largest rate of batches whose TPOT stays within the limit, in a batch between two of them too."""
    slowest = np.maximum.accumulate(tpot_s)
    inside = slowest <= limit_s
    best = float(rate_per_s[inside].max())
    if inside.all():
        return best
    edge = float(np.interp(math.log(limit_s), np.log(slowest), np.log(rate_per_s)))
    return max(best, math.exp(edge))
