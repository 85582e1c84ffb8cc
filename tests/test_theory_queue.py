"""The simulator against queueing theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammainc
from scipy.stats import t as student_t

from specsim.analytic.rounds import speedup_map
from specsim.arrays import Reals
from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.results import RunResult
from specsim.scenario import Scenario, Speculation
from specsim.serving.fleet import Fleet
from specsim.serving.prices import tabled
from specsim.serving.simulate import run
from specsim.specs.engine import EngineLimits
from specsim.workload.arrivals import GammaArrivals, PoissonArrivals
from specsim.workload.request import Requests, RequestSpec
from tests.replicas import replica

Values = NDArray[np.float64]


class Affine:
    """Seconds of a step: a constant, and something for each sequence and each token."""

    def __init__(self, base_s: float, token_s: float = 0.0, prompt_token_s: float | None = None) -> None:
        self.base_s, self.token_s = base_s, token_s
        self.prompt_token_s = token_s if prompt_token_s is None else prompt_token_s

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        seconds: Reals = self.base_s
        for group in groups:
            seconds = seconds + group.tokens * (self.prompt_token_s if group.is_prefill else self.token_s)
        return StepTime(seconds, {}, "roofline", seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


class Finished:
    """A sink that keeps the requests alone: number, arrival, first token, finish."""

    def __init__(self) -> None:
        self.numbers: list[Values] = []
        self.times: list[Values] = []

    def take(self, finished: Any, *_: Any) -> None:
        self.numbers.append(finished["request_id"].copy())
        self.times.append(np.column_stack([finished[name] for name in ("arrival_s", "first_token_s", "finish_s")]))

    @property
    def finished(self) -> int:
        return sum(map(len, self.numbers))

    def by_number(self) -> Values:
        """[requests, 3]."""
        order = np.argsort(np.concatenate(self.numbers))
        return np.asarray(np.concatenate(self.times)[order])


def served(
    arrivals_s: Values, outputs: NDArray[np.int64], server: Assembly, prompts: NDArray[np.int64] | None = None
) -> Values:
    """Arrival, first token and finish of each request, on the compiled loop."""
    count = len(arrivals_s)
    prompt = np.ones(count, np.int32) if prompts is None else prompts.astype(np.int32)
    requests = Requests(arrivals_s, prompt, outputs.astype(np.int32), np.zeros(count, np.int16))
    sink = Finished()
    Fleet([tabled(server)], ["default"], router="round_robin").serve(requests.chunks(16_384), sink)
    return sink.by_number()


def one_at_a_time(arrivals_s: Values, *, rounds: int, step_s: float) -> RunResult:
    """A single server whose every request takes ``rounds`` steps."""
    requests = [RequestSpec(number, time, 4, rounds) for number, time in enumerate(arrivals_s.tolist())]
    return run(requests, replica(EngineLimits(max_num_seqs=1), 100, Affine(step_s)))


def controls(gaps_s: Values, rate: float, service_s: float) -> Values:
    """Functions of the arrivals alone whose mean is known, less that mean; shape [customers, controls].

    max(0, m·S - T_m), T_m being the m gaps before a customer: what would wait of m services started at once. T_m is
    Erlang, so the mean is m·S·P(m, λmS) - (m/λ)·P(m + 1, λmS) with the regularised incomplete gamma function P.
    """
    ends = np.concatenate(([0.0], np.cumsum(gaps_s)))
    columns = [gaps_s - 1 / rate]
    for m in (1, 3, 9, 27):
        work = m * service_s
        mean = work * gammainc(m, rate * work) - m / rate * gammainc(m + 1, rate * work)
        excess = np.maximum(0.0, work - (ends[m:] - ends[:-m])) - mean
        columns.append(np.concatenate((np.zeros(m - 1), excess)))
    return np.column_stack(columns)


def interval(values: Values, covariates: Values, batches: int) -> tuple[float, float]:
    """Mean of ``values`` and half-width of its 95 % interval: batch means, regressed on control variates.

    Batches of 800 customers are some twenty times longer than the queue remembers at this load.
    """
    size = len(values) // batches
    means = values[: batches * size].reshape(batches, size).mean(axis=1)
    known = covariates[: batches * size].reshape(batches, size, -1).mean(axis=1)
    design = np.column_stack((np.ones(batches), known))
    solution = np.linalg.lstsq(design, means, rcond=None)[0]
    freedom = batches - design.shape[1]
    variance = float(((means - design @ solution) ** 2).sum()) / freedom * np.linalg.inv(design.T @ design)[0, 0]
    return float(solution[0]), float(student_t.ppf(0.975, freedom) * variance**0.5)


# Five seeds together find a bias of 1 % as surely as twenty find one of 2 %, each by itself.
SEEDS = pytest.mark.parametrize(
    "seeds",
    [pytest.param(range(1, n + 1), marks=marks, id=f"{n} seeds") for n, marks in ((5, ()), (20, pytest.mark.full))],
)


def assert_unbiased(intervals: list[tuple[float, float]], theory: float) -> None:
    """Of 20 seeds' 95 % intervals at least 17 hold the theory, none is wider than ± 2 %, and the mean over all seeds
    is off by at most three of its own standard errors.
    """
    means, halves = np.array(intervals).T
    assert np.all(halves <= 0.02 * theory), halves / theory
    assert np.sum(np.abs(means - theory) <= halves) >= len(means) * 17 // 20, means / theory
    half = float((halves**2).sum() ** 0.5) / len(means)
    assert abs(means.mean() - theory) <= 1.5 * half, (means.mean() / theory, half / theory)


@pytest.mark.slow
@SEEDS
def test_mean_wait_of_a_deterministic_server(seeds: range) -> None:
    """M/D/1: ρS / (2(1 - ρ)), 0.75 s for S = 1 s and ρ = 0.6.

    The control variates depend on the arrivals only, so they cannot lend the simulator a right answer; they narrow the
    interval by about three, and 32,000 customers a seed are enough.
    """
    rate, service_s, steps = 0.6, 1.0, 10
    theory = rate * service_s**2 / (2 * (1 - rate * service_s))
    intervals = []
    for seed in seeds:
        arrivals = PoissonArrivals(rate_per_s=rate).times_s(32_000, np.random.default_rng(seed))
        server = replica(EngineLimits(max_num_seqs=1), 100, Affine(service_s / steps))
        times = served(arrivals, np.full(32_000, steps), server)
        waits = times[:, 2] - times[:, 0] - service_s
        intervals.append(interval(waits, controls(np.diff(arrivals, prepend=0.0), rate, service_s), batches=40))
    assert_unbiased(intervals, theory)


@pytest.mark.slow
@SEEDS
def test_mean_wait_of_a_general_server(seeds: range) -> None:
    """M/G/1, Pollaczek-Khinchine: λE[S²] / (2(1 - ρ)), of short and long services.

    A request of a server that takes one at a time begins where the last one ends, so the number of steps a service
    takes (20 here, on average) does not matter.
    """
    rate, step_s = 0.6, 1 / 20
    short, long, share = 14, 26, 0.5
    mean_s, square = (share * short**i * step_s**i + (1 - share) * long**i * step_s**i for i in (1, 2))
    theory = rate * square / (2 * (1 - rate * mean_s))
    assert mean_s == pytest.approx(1.0)
    intervals = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        arrivals = PoissonArrivals(rate_per_s=rate).times_s(70_000, generator)
        outputs = np.where(generator.random(70_000) < share, short, long)
        server = replica(EngineLimits(max_num_seqs=1), 100, Affine(step_s))
        times = served(arrivals, outputs, server)
        services = outputs * step_s
        waits = times[:, 2] - times[:, 0] - services
        known = np.column_stack((controls(np.diff(arrivals, prepend=0.0), rate, mean_s), services - mean_s))
        intervals.append(interval(waits, known, batches=50))
    assert_unbiased(intervals, theory)


@pytest.mark.slow
@SEEDS
def test_mean_time_in_a_queue_with_several_servers(seeds: range) -> None:
    """M/M/c: a step takes as long whatever its batch, so c slots serve like c servers; mean service 200 steps.

    A request begins at a step's start, half a step late on average when others run: 0.25 % of a service. Erlang's C.
    """
    servers, rate, steps = 4, 2.4, 200
    load = rate
    terms = [load**i / math.factorial(i) for i in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    theory = 1.0 + last / (sum(terms) + last) / (servers - rate)
    intervals = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        count = 30_000
        arrivals = PoissonArrivals(rate_per_s=rate).times_s(count, generator)
        outputs = generator.geometric(1 / steps, count)
        server = replica(EngineLimits(max_num_seqs=servers), 10_000, Affine(1 / steps))
        times = served(arrivals, outputs, server)
        services = outputs / steps
        known = np.column_stack((np.diff(arrivals, prepend=0.0) - 1 / rate, services - 1.0))
        intervals.append(interval(times[:, 2] - times[:, 0], known, batches=50))
    assert_unbiased(intervals, theory)


def sharing_law(rate: float, rounds: float, round_s: Values) -> float:
    """Mean number in the system: π(j) ∝ Π_{i≤j} λ·n·t(i)/i, ``round_s[i - 1]`` being t(i)."""
    logs = np.cumsum(np.log(rate * rounds * round_s / np.arange(1, len(round_s) + 1)))
    weights = np.exp(np.concatenate(([0.0], logs)) - logs.max())
    return float(np.arange(len(weights)) @ weights / weights.sum())


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["fixed", "geometric"])
def test_processor_sharing_without_prefill(spread: str, record_property: Any) -> None:
    """Mean number in the system within 2 % whatever the law of lengths; with prefill the gap is reported."""
    rate, rounds, base_s, token_s = 4.0, 200, 0.01, 0.0004
    theory = sharing_law(rate, rounds, base_s + token_s * np.arange(1, 257))
    generator = np.random.default_rng(3)
    count = 60_000
    arrivals = PoissonArrivals(rate_per_s=rate).times_s(count, generator)
    outputs = np.full(count, rounds) if spread == "fixed" else generator.geometric(1 / rounds, count)
    server = replica(EngineLimits(max_num_seqs=256), 100_000, Affine(base_s, token_s))
    times = served(arrivals, outputs, server)
    found = (times[:, 2] - times[:, 0]).sum() / arrivals[-1]
    assert found == pytest.approx(theory, rel=0.02)
    assert 5 < theory < 50
    prefilled = served(arrivals, outputs, server, np.full(count, 100))
    gap = (prefilled[:, 2] - prefilled[:, 0]).sum() / arrivals[-1] / theory - 1.0
    record_property("gap with prefill", float(gap))
    assert gap > 0.02  # chunks of 100 tokens make every running sequence wait, which the law leaves out


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 3])
def test_saturation_throughput_is_the_closed_form(k: int) -> None:
    """A batch that is always full makes B·E[tokens] / round seconds, at the mean KV length that it has."""
    batch, output = 16, 1500
    scenario = Scenario.model_validate(
        {
            "name": "full",
            "model": "vicuna-7b",
            "gpu": "a100-80gb",
            "engine": {"max_num_seqs": batch, "async_scheduling": False},
            "speculation": {
                "program": "ngram",
                "max_draft_tokens": 3,
                "acceptance": {"kind": "constant", "rate": 0.6},
                "policy": {"kind": "fixed", "k": k},
            },
            "workload": {
                "kind": "synthetic",
                "requests": batch * 30,
                "arrivals": {"kind": "closed_loop", "concurrency": batch},
                "lengths": {"kind": "fixed", "prompt_tokens": 1, "output_tokens": output},
            },
        }
    )
    machine = assemble(scenario)
    server = machine if k else machine.plain  # a map's k = 0 has no drafter loaded
    arrivals = np.zeros(batch * 30)
    times = served(arrivals, np.full(len(arrivals), output), server)
    ends = np.sort(times[:, 2])[batch - 1 :: batch]  # of every sixteenth request: without drafts they end in waves
    found = 18 * batch * output / (ends[24] - ends[6])
    cell = speedup_map(assemble(scenario), batches=[batch], context_tokens=output / 2).cell(batch, k)
    closed_form = cell.output_tokens_per_s
    if k:  # the drafter's host time is in the round
        assert cell.tokens_per_round == pytest.approx((1 - 0.6**4) / 0.4)
    assert found == pytest.approx(closed_form, rel=0.02)


@pytest.mark.parametrize("rounds", [1, 3])
def test_waits_follow_lindley_customer_by_customer(rounds: int) -> None:
    """W' = max(0, W + S - gap), whatever the arrivals; several steps a request are one service."""
    arrivals = GammaArrivals(rate_per_s=0.8, cv=1.7).times_s(3000, np.random.default_rng(9))
    result = one_at_a_time(arrivals, rounds=rounds, step_s=1.0 / rounds)
    waits = [0.0]
    for gap in np.diff(arrivals).tolist():
        waits.append(max(0.0, waits[-1] + 1.0 - gap))
    starts = np.array([r.first_token_s for r in result.requests]) - 1.0 / rounds
    np.testing.assert_allclose(starts - arrivals, waits, atol=1e-9)
    assert max(waits) > 5


def test_little_on_a_drained_run() -> None:
    """∫N dt over the steps equals the requests' time in the system.

    Two accounts of one run: during a step the system holds what the step computes, what waits, and what arrives before
    it ends. Every running request is in every step, as the token budget is ample.
    """
    speculation = Speculation.model_validate(
        {"program": "ngram", "max_draft_tokens": 3, "acceptance": {"kind": "constant", "rate": 0.6}}
    )
    generator = np.random.default_rng(4)
    arrivals = GammaArrivals(rate_per_s=12.0, cv=2.0).times_s(500, generator).tolist()
    lengths = generator.integers(1, 60, size=(500, 2)).tolist()
    requests = [RequestSpec(i, time, *pair) for i, (time, pair) in enumerate(zip(arrivals, lengths, strict=True))]
    result = run(requests, replica(EngineLimits(max_num_seqs=8), 20, Affine(0.02, 0.001), speculation))
    assert sum(r.preemptions for r in result.requests) > 0
    ends = [step.start_s + step.duration_s for step in result.steps]
    held = sum(step.duration_s * (step.sequences + step.waiting) for step in result.steps)
    starts = np.array([step.start_s for step in result.steps])
    during = np.searchsorted(starts, arrivals, side="left") - 1  # the last step that started before the arrival
    partial = sum(max(0.0, ends[i] - time) for i, time in zip(during.tolist(), arrivals, strict=True) if i >= 0)
    assert held + partial == pytest.approx(sum(r.e2e_s for r in result.requests), rel=1e-9)
    assert partial > 0


def test_throughput_of_a_full_batch() -> None:
    """All at once, b at a time: each wave of b requests of N tokens takes N steps of a + c·b, prefills of 1 token."""
    requests = [RequestSpec(number, 0.0, 1, 25) for number in range(64)]
    result = run(requests, replica(EngineLimits(max_num_seqs=16), 1000, Affine(0.01, 0.001)))
    assert result.duration_s == pytest.approx(4 * 25 * (0.01 + 0.016), rel=1e-9)
