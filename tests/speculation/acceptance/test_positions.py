"""Laws by draft position against closed forms, draws against their expected values, and the union's own rules."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import (
    Acceptance,
    AcceptanceDraws,
    AcceptanceLaw,
    ConditionalAcceptance,
    ConstantAcceptance,
    LayerIndexedAcceptance,
    PowerLawAcceptance,
    UnconditionalAcceptance,
    uniform,
)

rates = st.floats(0.0, 1.0)


@given(rates.filter(lambda a: a < 0.999), st.integers(0, 16))
def test_constant_rate_gives_the_geometric_sum(alpha: float, k: int) -> None:
    assert ConstantAcceptance(rate=alpha).expected_tokens(k) == pytest.approx((1 - alpha ** (k + 1)) / (1 - alpha))


def test_certain_and_impossible_acceptance() -> None:
    assert ConstantAcceptance(rate=0.0).expected_tokens(5) == 1.0
    assert ConstantAcceptance(rate=1.0).expected_tokens(5) == 6.0


@given(st.floats(0.05, 1.0), st.floats(0.05, 0.95), st.integers(1, 20))
def test_power_law_accepts_c_s_to_the_gamma(c: float, gamma: float, k: int) -> None:
    model = PowerLawAcceptance(c=c, gamma=gamma)
    assert model.expected_tokens(k) == pytest.approx(1 + c * k**gamma)
    conditional = model.conditional_rates(k)
    assert conditional[0] == pytest.approx(c)
    assert np.all((conditional >= 0) & (conditional <= 1))


def test_conditional_vector_by_hand() -> None:
    model = ConditionalAcceptance(rates=(0.9, 0.8, 0.5))
    assert model.survival(3) == pytest.approx([0.9, 0.72, 0.36])
    assert model.expected_tokens(3) == pytest.approx(2.98)
    with pytest.raises(InvalidInput, match="gives 3 conditional rates and 4 tokens"):
        model.expected_tokens(4)


@given(st.lists(rates, min_size=1, max_size=8))
def test_longer_drafts_never_commit_fewer_tokens(vector: list[float]) -> None:
    model = ConditionalAcceptance(rates=tuple(vector))
    lengths = [model.expected_tokens(k) for k in range(len(vector) + 1)]
    assert all(longer >= shorter - 1e-12 for shorter, longer in pairwise(lengths))


@pytest.mark.parametrize(
    "model",
    [
        ConstantAcceptance(rate=0.7),
        ConditionalAcceptance(rates=(0.9, 0.6, 0.8, 0.3)),
        PowerLawAcceptance(c=0.8, gamma=0.5),
    ],
)
def test_draws_have_the_expected_mean(model: ConstantAcceptance | ConditionalAcceptance | PowerLawAcceptance) -> None:
    n, k = 200_000, 4
    requests = np.arange(n, dtype=np.int64)
    accepted = AcceptanceDraws(model, 7).accepted(requests, requests % 97, np.full(n, k))
    for depth, survival in enumerate(model.survival(k), start=1):
        sigma = np.sqrt(survival * (1 - survival) / n)
        assert abs((accepted >= depth).mean() - survival) <= 4.5 * sigma + 1e-12


def test_draws_depend_on_request_and_position_alone() -> None:
    draws = AcceptanceDraws(ConstantAcceptance(rate=0.6), 3)
    ids, positions, k = np.array([5, 9, 2]), np.array([17, 4, 88]), np.array([4, 4, 4])
    together = draws.accepted(ids, positions, k)
    order = np.array([2, 0, 1])
    assert draws.accepted(ids[order], positions[order], k).tolist() == together[order].tolist()
    alone = [int(draws.accepted(ids[i : i + 1], positions[i : i + 1], k[:1])[0]) for i in range(3)]
    assert alone == together.tolist()


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**31), st.integers(0, 10_000))
def test_a_longer_draft_shares_its_beginning(short: int, more: int, request: int, position: int) -> None:
    """Common random numbers: drafting further never changes what happened to the first drafts."""
    draws = AcceptanceDraws(ConstantAcceptance(rate=0.6), 11)

    def accepted(k: int) -> int:
        return int(draws.accepted(np.array([request]), np.array([position]), np.array([k]))[0])

    assert min(accepted(short + more), short) == accepted(short)


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    u = uniform(1, np.arange(400)[:, None], np.arange(500)[None, :])
    counts, _ = np.histogram(u, bins=20, range=(0, 1))
    chi2 = ((counts - u.size / 20) ** 2 / (u.size / 20)).sum()
    assert chi2 < 43.8  # 0.1 % point of chi-squared with 19 degrees of freedom
    for shifted in (u[:, 1:], u[1:, :]):
        base = u[:, :-1] if shifted.shape[1] < u.shape[1] else u[:-1, :]
        assert abs(np.corrcoef(base.ravel(), shifted.ravel())[0, 1]) < 0.01
    assert not np.array_equal(u, uniform(2, np.arange(400)[:, None], np.arange(500)[None, :]))


def test_streams_are_independent_of_each_other() -> None:
    ids, positions = np.arange(300)[:, None], np.arange(300)[None, :]
    plain, other = uniform(1, ids, positions), uniform(1, ids, positions, stream=1)
    assert abs(np.corrcoef(plain.ravel(), other.ravel())[0, 1]) < 0.01


@given(st.lists(rates, min_size=1, max_size=8))
def test_unconditional_rates_are_running_products_of_conditional_ones(vector: list[float]) -> None:
    conditional = ConditionalAcceptance(rates=tuple(vector))
    law = UnconditionalAcceptance(rates=tuple(conditional.survival(len(vector)).tolist()))
    assert law.expected_tokens(len(vector)) == pytest.approx(conditional.expected_tokens(len(vector)))
    live = np.cumprod(vector)[:-1] > 1e-200
    assert law.conditional_rates(len(vector))[1:][live] == pytest.approx(np.array(vector)[1:][live], rel=1e-6)


def test_rising_unconditional_rates_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"unconditional rate 0\.6 at position 2 exceeds 0\.5 before it"):
        UnconditionalAcceptance(rates=(0.5, 0.6))
    with pytest.raises(InvalidInput, match="gives 2 unconditional rates and 3 tokens"):
        UnconditionalAcceptance(rates=(0.5, 0.4)).expected_tokens(3)


def test_exit_layers_between_two_listed_ones_are_interpolated() -> None:
    law = LayerIndexedAcceptance(rates={4: 0.4, 8: 0.8}, exit_layer=8)
    assert law.expected_tokens(3) == pytest.approx(ConstantAcceptance(rate=0.8).expected_tokens(3))
    assert law.at(5).rate == pytest.approx(0.5)
    assert law.at(4).rate == 0.4
    with pytest.raises(InvalidInput, match="exit layer 9 is outside the listed layers"):
        law.at(9)
    with pytest.raises(ValidationError, match="outside the listed layers"):
        LayerIndexedAcceptance(rates={4: 0.4}, exit_layer=2)


@pytest.mark.parametrize(
    "given_law",
    [
        {"kind": "unconditional", "rates": [0.7, 0.5]},
        {"kind": "layer_indexed", "rates": {"4": 0.4, "8": 0.8}, "exit_layer": 8},
        {
            "kind": "latent",
            "requests": {"kind": "beta", "mean": 0.7, "concentration": 5},
            "spans": {"mean_tokens": 9, "concentration": 2},
        },
        {"kind": "hurdle", "hit_rate": 0.2, "runs": {"kind": "geometric", "continue_rate": 0.9}},
        {"kind": "confidence", "levels": [{"confidence": 0.9, "weight": 1.0}]},
        {"kind": "trace", "runs": [[1, 0, 2]], "cap": 4},
        {"kind": "recall", "table": {"recall": [[0.6, 0.2]]}, "tree": [-1, -1]},
    ],
)
def test_laws_survive_json(given_law: dict[str, object]) -> None:
    adapter: TypeAdapter[AcceptanceLaw] = TypeAdapter(Acceptance)
    law = adapter.validate_python(given_law)
    assert adapter.validate_json(adapter.dump_json(law)) == law
    assert law.expected_tokens(1) > 1.0
