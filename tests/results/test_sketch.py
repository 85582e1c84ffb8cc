"""The sketch against exact quantiles: within its stated error, whatever is counted and however it is split."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.results.sketch import HIGHEST, LOWEST, NUM_BINS, RELATIVE_ERROR, QuantileSketch, bin_of, value_of

SECONDS = st.floats(LOWEST, HIGHEST)
SHARES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0)
ROUNDING = 1e-9  # a value on a border may fall to either side


def sketch_of(values: list[float]) -> QuantileSketch:
    sketch = QuantileSketch()
    sketch.add(np.array(values))
    return sketch


@settings(max_examples=300)
@given(values=st.lists(SECONDS, min_size=1, max_size=60))
def test_every_quantile_is_within_the_stated_error(values: list[float]) -> None:
    sketch = sketch_of(values)
    for share in SHARES:
        exact = float(np.quantile(values, share))
        assert sketch.quantile(share) == pytest.approx(exact, rel=RELATIVE_ERROR + ROUNDING, abs=2 * LOWEST)


@settings(max_examples=100)
@given(values=st.lists(SECONDS | st.just(0.0), max_size=60), cut=st.integers(0, 60))
def test_merging_is_counting_together(values: list[float], cut: int) -> None:
    left, right = sketch_of(values[:cut]), sketch_of(values[cut:])
    left.merge(right)
    whole = sketch_of(values)
    assert left.counts.tolist() == whole.counts.tolist()
    np.testing.assert_allclose(left.moments, whole.moments, rtol=1e-12)


@settings(max_examples=200)
@given(value=SECONDS | st.just(0.0))
def test_the_scalar_bin_is_the_arrays_bin_and_answers_for_its_value(value: float) -> None:
    index = bin_of(value)
    assert 0 <= index < NUM_BINS
    found = int(np.flatnonzero(sketch_of([value]).counts)[0])
    assert abs(found - index) <= 1  # the two logarithms may differ in the last digit
    answers = value_of(np.array([index, found]))
    np.testing.assert_allclose(answers, value, rtol=RELATIVE_ERROR + ROUNDING, atol=2 * LOWEST)


def test_moments_are_exact() -> None:
    sketch = sketch_of([1.0, 2.0, 6.0])
    assert (sketch.count, sketch.mean()) == (3, 3.0)
    assert sketch.std() == pytest.approx((14 / 3) ** 0.5)


def test_an_empty_sketch_has_no_quantile() -> None:
    empty = QuantileSketch()
    assert empty.count == 0
    assert math.isnan(empty.quantile(0.5))
    assert math.isnan(empty.mean())
    assert math.isnan(empty.std())


def test_extremes_stay_in_the_outer_bins() -> None:
    assert bin_of(0.0) == bin_of(1e-300) == 0
    assert bin_of(1e300) == NUM_BINS - 1
    assert sketch_of([0.0, 1e12]).counts[[0, -1]].tolist() == [1, 1]


def test_memory_does_not_grow() -> None:
    sketch = QuantileSketch()
    before = sketch.counts.nbytes
    generator = np.random.default_rng(0)
    values = generator.lognormal(0.0, 2.0, 500_000)
    for part in np.split(values, 10):
        sketch.add(part)
    assert sketch.counts.nbytes == before < 40_000
    for share in SHARES[1:-1]:
        assert sketch.quantile(share) == pytest.approx(float(np.quantile(values, share)), rel=RELATIVE_ERROR)


@settings(max_examples=50)
@given(values=st.lists(SECONDS, max_size=20))
def test_json_round_trip(values: list[float]) -> None:
    sketch = sketch_of(values)
    back = QuantileSketch.from_table(json.loads(json.dumps(sketch.as_table())))
    assert back.counts.tolist() == sketch.counts.tolist()
    assert back.moments.tolist() == sketch.moments.tolist()


def test_a_table_of_other_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="not a quantile sketch"):
        QuantileSketch.from_table(QuantileSketch().as_table() | {"relative_error": 0.01})


def test_an_interpolated_quantile_beside_the_lowest_value_is_within_the_stated_error() -> None:
    values = [LOWEST, 2.7447048776077534e-05]
    assert sketch_of(values).quantile(0.01) == pytest.approx(float(np.quantile(values, 0.01)), rel=RELATIVE_ERROR)
    assert [bin_of(value) for value in (0.0, LOWEST / 2, LOWEST)] == [0, 0, 1]
    assert sketch_of([0.0, LOWEST / 2]).quantile(1.0) == 0.0
