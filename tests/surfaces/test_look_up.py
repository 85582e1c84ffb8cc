"""Look-up tables: linear between their nodes, constant beyond them, and the same for one place and for many."""

from __future__ import annotations

import itertools

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.surfaces.look_up import LookUp, bracket, grid

NODES = [np.array([0.0, 1.0, 4.0]), np.array([2.0]), np.array([-1.0, 0.5, 2.0, 7.0])]
PLACES = grid(NODES)
ROUGH = np.random.default_rng(0).normal(size=len(PLACES))


def multilinear(x: float, y: float, z: float) -> float:
    return 1.0 + 2.0 * x - 0.5 * z + 0.3 * x * z


TABLE = LookUp(NODES, (np.array([multilinear(*place) for place in PLACES]), ROUGH), lengths=(2.0, 1.0, 0.5))


@given(st.floats(0, 4), st.floats(-1, 7))
def test_what_is_linear_in_each_coordinate_is_exact_between_the_nodes(x: float, z: float) -> None:
    (value, _), beyond, _ = TABLE.one((x, 2.0, z))
    assert value == pytest.approx(multilinear(x, 2.0, z), abs=1e-8)
    assert beyond == 0.0


def test_nodes_answer_with_their_own_values_and_say_which_they_are() -> None:
    for index, place in enumerate(PLACES):
        (_, value), beyond, node = TABLE.one(place.tolist())
        assert (value, beyond, node) == (ROUGH[index], 0.0, index)
    assert TABLE.one((0.5, 2.0, 0.5))[2] == -1


def test_beyond_the_nodes_the_edge_stays_and_the_distance_is_told_in_lengths() -> None:
    """3 beyond along x in lengths of 2, 4 along z in lengths of a half: 1.5 + 8."""
    values, beyond, _ = TABLE.one((7.0, 2.0, -5.0))
    assert values == TABLE.one((4.0, 2.0, -1.0))[0]
    assert beyond == pytest.approx(9.5)


@given(st.lists(st.tuples(st.floats(-2, 6), st.floats(1, 3), st.floats(-3, 9)), min_size=1, max_size=6))
def test_many_places_answer_as_each_does(places: list[tuple[float, float, float]]) -> None:
    places = [*places, (1.0, 2.0, 0.5), (4.0, 2.0, 7.0)]
    values, beyond, nodes = TABLE.many(np.array(places).T)
    for i, place in enumerate(places):
        one, away, node = TABLE.one(place)
        assert [value[i] for value in values] == pytest.approx(one, abs=1e-12)
        assert beyond[i] == pytest.approx(away, abs=1e-12)
        assert nodes[i] == node


def test_places_broadcast() -> None:
    x, z = np.array([[0.0], [2.5]]), np.array([-1.0, 0.0, 6.0])
    values, beyond, nodes = TABLE.many((x, 2.0, z))
    assert values[0].shape == beyond.shape == nodes.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        assert values[0][i, j] == pytest.approx(multilinear(x[i, 0], 2.0, z[j]))


compiled_bracket = numba.njit(bracket)
compiled_bracket(np.array([0.0, 1.0]), 2, 0.5)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True), st.integers(-6000, 6000))
def test_a_bracket_holds_its_value_or_is_the_nearest_one_and_compiles(knots: list[int], hundredths: int) -> None:
    x = hundredths / 100.0
    ascending = sorted(map(float, knots))
    i, share = bracket(ascending, len(ascending), x)
    assert ascending[i] + share * (ascending[i + 1] - ascending[i]) == pytest.approx(x, abs=1e-9)
    assert (share < 0.0) == (x < ascending[0])
    assert (share > 1.0) == (x > ascending[-1])
    assert 0 <= i <= len(ascending) - 2
    assert compiled_bracket(np.array(ascending), len(ascending), x) == (i, share)
