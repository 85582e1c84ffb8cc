"""The simulator against queueing theory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gammainc
from scipy.stats import t as student_t

from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.results import RunResult
from specsim.scenario import Speculation
from specsim.serving.server import Server
from specsim.serving.simulate import run
from specsim.specs.engine import EngineLimits
from specsim.workload.arrivals import GammaArrivals, PoissonArrivals
from specsim.workload.request import RequestSpec

Values = NDArray[np.float64]


class Affine:
    """Seconds of a step: a constant, and something for each token."""

    def __init__(self, base_s: float, token_s: float = 0.0) -> None:
        self.base_s, self.token_s = base_s, token_s

    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime:
        seconds = self.base_s + self.token_s * sum(group.tokens for group in groups)
        return StepTime(seconds, {}, "roofline", seconds, seconds)


def one_at_a_time(arrivals_s: Values, *, rounds: int, step_s: float) -> RunResult:
    """A single server whose every request takes ``rounds`` steps."""
    requests = [RequestSpec(number, time, 4, rounds) for number, time in enumerate(arrivals_s.tolist())]
    return run(requests, Server(EngineLimits(max_num_seqs=1), 100, Affine(step_s)))


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


@pytest.mark.slow
def test_mean_wait_of_a_deterministic_server() -> None:
    """M/D/1: ρS / (2(1 - ρ)), 0.75 s for S = 1 s and ρ = 0.6.

    The control variates depend on the arrivals only, so they cannot lend the simulator a right answer; they narrow the
    interval by about three, and 32,000 customers a seed are enough.
    """
    rate, service_s = 0.6, 1.0
    theory = rate * service_s**2 / (2 * (1 - rate * service_s))
    covered = 0
    for seed in range(1, 21):
        arrivals = PoissonArrivals(rate_per_s=rate).times_s(32_000, np.random.default_rng(seed))
        result = one_at_a_time(arrivals, rounds=1, step_s=service_s)
        waits = np.array([r.ttft_s for r in result.requests]) - service_s
        gaps = np.diff(arrivals, prepend=0.0)
        mean, half = interval(waits, controls(gaps, rate, service_s), batches=40)
        assert half <= 0.02 * theory
        covered += abs(mean - theory) <= half
    assert covered >= 17


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
    result = run(requests, Server(EngineLimits(max_num_seqs=8), 20, Affine(0.02, 0.001), speculation))
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
    result = run(requests, Server(EngineLimits(max_num_seqs=16), 1000, Affine(0.01, 0.001)))
    assert result.duration_s == pytest.approx(4 * 25 * (0.01 + 0.016), rel=1e-9)
