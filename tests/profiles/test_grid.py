"""Interpolation between measured shapes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.profiles.grid import Surface

AXES = ((1.0, 4.0, 16.0), (10.0, 100.0), (2.0, 8.0, 64.0, 512.0))
POINTS = np.array(list(itertools.product(*AXES)))


def law(point: np.ndarray | tuple[float, ...]) -> float:
    """Linear in the logarithms: a power law of the shape."""
    return 0.3 + 0.5 * math.log(point[0]) - 0.2 * math.log(point[1]) + 0.1 * math.log(point[2])


SURFACE = Surface(POINTS, np.array([law(p) for p in POINTS]))


@given(st.floats(1, 16), st.floats(10, 100), st.floats(2, 512))
def test_power_laws_are_exact_inside(x: float, y: float, z: float) -> None:
    estimate = SURFACE.at((x, y, z))
    assert estimate.inside
    assert estimate.value == pytest.approx(law((x, y, z)), abs=1e-9)


def test_measured_shapes_answer_exactly() -> None:
    for point in POINTS:
        estimate = SURFACE.at(tuple(point))
        assert estimate.exact
        assert estimate.value == pytest.approx(law(point))


@given(st.floats(20, 1e4), st.floats(10, 100), st.floats(2, 512))
def test_outside_the_nearest_edge_answers_and_says_so(x: float, y: float, z: float) -> None:
    estimate = SURFACE.at((x, y, z))
    assert not estimate.inside
    assert not estimate.exact
    assert estimate.value == pytest.approx(law((16.0, y, z)), abs=1e-9)


@given(st.floats(1, 16), st.floats(10, 100), st.floats(2, 512), st.integers(0, 2**32 - 1))
def test_an_estimate_never_leaves_the_range_of_what_was_measured(x: float, y: float, z: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(POINTS))
    estimate = Surface(POINTS, values).at((x, y, z))
    assert values.min() - 1e-9 <= estimate.value <= values.max() + 1e-9


def test_a_missing_corner_is_filled_by_its_neighbours() -> None:
    """Shapes need not fill a grid: a branch that lacks a value answers with the ones it has."""
    points, values = POINTS[:-1], np.array([law(p) for p in POINTS[:-1]])
    estimate = Surface(points, values).at((16.0, 100.0, 512.0))
    assert not estimate.inside
    assert estimate.value == pytest.approx(law((16.0, 100.0, 64.0)))
