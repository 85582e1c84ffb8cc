"""What a trace of few requests tells of others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from specsim.speculation.acceptance import TraceAcceptance
from specsim.surfaces.estimates import Z90


def population(count: int, seed: int) -> list[tuple[int, ...]]:
    """Requests of 40 positions that accept 1 to 3 drafts a round, each request of its own kind."""
    generator = np.random.default_rng(seed)
    rates = generator.beta(2, 2, count)
    return [tuple(np.minimum(generator.geometric(1 - rate, 40) - 1, 4).tolist()) for rate in 0.9 * rates]


def accepted(law: TraceAcceptance, draft_tokens: int = 4) -> float:
    return law.expected_tokens(draft_tokens) - 1.0


def test_the_spread_of_a_sample_holds_the_population() -> None:
    """Of 300 samples of 40 requests nine in ten have the population's mean in their 90 % interval."""
    runs = population(20_000, 1)
    truth = math.log(accepted(TraceAcceptance(runs=tuple(runs), cap=4)))
    generator, inside = np.random.default_rng(2), 0
    for _ in range(300):
        sample = TraceAcceptance(runs=tuple(runs[i] for i in generator.integers(0, len(runs), 40)), cap=4)
        inside += abs(math.log(accepted(sample)) - truth) <= Z90 * sample.sampling_spread(4)
    assert 0.85 <= inside / 300 <= 0.95


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.1, 1.4])
def test_other_requests_of_the_kind_accept_so_much_more(factor: float) -> None:
    law = TraceAcceptance(runs=tuple(population(60, 3)), cap=4)
    other = law.accepting_more(factor, 4)
    assert accepted(other) == pytest.approx(factor * accepted(law), rel=0.02)
    assert set(other.runs) <= set(law.runs)


def test_no_mix_accepts_more_than_its_best_request() -> None:
    law = TraceAcceptance(runs=((0, 0, 0, 0), (2, 1, 0, 0), (4, 3, 2, 1)), cap=4)
    assert accepted(law.accepting_more(100.0, 4)) == pytest.approx(4.0, rel=0.01)  # of the last one, in one round


def test_listed_requests_and_equal_ones_leave_nothing_open() -> None:
    listed = TraceAcceptance(runs=tuple(population(20, 4)), cap=4, order="listed")
    equal = TraceAcceptance(runs=((1, 0, 1, 0),) * 5, cap=4)
    assert listed.sampling_spread(4) == equal.sampling_spread(4) == 0.0
    assert listed.accepting_more(1.2, 4) is listed
    assert equal.accepting_more(1.2, 4) is equal
    assert TraceAcceptance(runs=((1, 0),), cap=4).request_spread(4) == 0.0
