"""Interpolation between scattered measurements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.surfaces.kriging import Kriging as SmoothKriging
from specsim.surfaces.kriging import RegressionKriging as Kriging
from specsim.surfaces.kriging import matern

POINTS = np.random.default_rng(0).uniform(0, 4, size=(80, 3))


def plane(points: np.ndarray) -> np.ndarray:
    return 0.3 + points @ np.array([0.5, -0.2, 0.1])


def rough(points: np.ndarray) -> np.ndarray:
    return np.sin(3 * points).sum(axis=1)


@given(st.floats(-1, 5), st.floats(-1, 5), st.floats(-1, 5))
def test_planes_are_exact_everywhere(x: float, y: float, z: float) -> None:
    query = np.array([[x, y, z]])
    assert Kriging(POINTS, plane(POINTS)).at(query)[0] == pytest.approx(plane(query), abs=1e-6)


def test_measured_points_answer_exactly_and_surely() -> None:
    found, variance = Kriging(POINTS, rough(POINTS)).at(POINTS)
    assert found == pytest.approx(rough(POINTS), abs=1e-5)
    assert variance == pytest.approx(0.0, abs=1e-6)


def test_variance_grows_with_the_distance_from_a_measurement() -> None:
    """One isolated pair: towards the middle of the gap nothing is known better than at its ends."""
    kriging = Kriging(np.array([[0.0], [4.0], [8.0]]), np.array([0.0, 1.0, 0.0]))
    _, variance = kriging.at(np.array([[0.0], [0.5], [1.0], [2.0]]))
    assert (np.diff(variance) > 0).all()


def test_leaving_out_the_query_predicts_it_from_the_others() -> None:
    """A point far off the plane of all others is predicted on the plane once it is left out."""
    values = plane(POINTS)
    values[7] += 5.0
    found, variance = Kriging(POINTS, values).at(POINTS[[7]], leave_out=True)
    assert abs(found[0] - plane(POINTS[[7]])[0]) < 1.0
    assert variance[0] > 0.05


def test_points_that_coincide_are_averaged() -> None:
    kriging = Kriging(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), np.array([1.0, 3.0, 5.0]))
    assert kriging.at(np.array([[0.0, 0.0]]))[0] == pytest.approx(2.0, abs=1e-6)


@given(st.floats(0, 4), st.floats(0, 4), st.floats(0, 4), st.floats(0.01, 10.0))
def test_planes_are_exact_everywhere_whatever_the_noise(x: float, y: float, z: float, scale: float) -> None:
    query, noise = np.array([[x, y, z]]), scale * np.random.default_rng(1).uniform(0, 1, len(POINTS))
    assert Kriging(POINTS, plane(POINTS), noise).at(query)[0] == pytest.approx(plane(query), abs=1e-6)


def test_coordinates_outside_the_trend_only_say_what_is_alike() -> None:
    """Two layers far apart, one a step above the other: each keeps its own height, and a plane in x stays exact."""
    x = np.linspace(0, 4, 40)
    layer = np.tile([0.0, 30.0], 20)
    points, values = np.column_stack([x, layer]), 0.5 * x + np.where(layer > 0, 1.0, 0.0)
    kriging = Kriging(points, values, trend=1)
    query = np.array([[1.23, 0.0], [1.23, 30.0]])
    assert kriging.at(query)[0] == pytest.approx([0.615, 1.615], abs=0.02)
    plane_in_x = Kriging(points, 0.5 * x, trend=1)
    assert plane_in_x.at(np.array([[2.2, 7.0], [9.0, -5.0]]))[0] == pytest.approx([1.1, 4.5], abs=1e-6)


def test_noise_of_zero_changes_nothing() -> None:
    query = POINTS[:40] + 0.1
    plain, noiseless = (
        Kriging(POINTS, rough(POINTS)),
        Kriging(POINTS, rough(POINTS), np.zeros(len(POINTS))),
    )
    for one, other in zip(plain.at(query), noiseless.at(query), strict=True):
        assert np.array_equal(one, other)


def test_noisy_measurements_of_a_constant_tell_it_better_together() -> None:
    """80 points close to each other, each 0.5 off: their mean is 0.5/√80 off, and 24 neighbours at best 0.5/√24."""
    close, errors = POINTS / 20, np.random.default_rng(2).normal(0, 0.5, len(POINTS))
    found, _ = Kriging(close, 3.0 + errors, np.full(len(POINTS), 0.25)).at(close)
    exact, _ = Kriging(close, 3.0 + errors).at(close)
    assert np.sqrt(np.mean((exact - 3.0) ** 2)) == pytest.approx(0.5, rel=0.2)
    assert np.sqrt(np.mean((found - 3.0) ** 2)) < 0.25


def test_noise_smooths_what_varies_less_than_measurements_of_it_err() -> None:
    """A slow wave under errors of 0.3: the answer at measured points is nearer to the wave than they are."""
    x = np.linspace(0, 6, 200)[:, None]
    errors = np.random.default_rng(3).normal(0, 0.3, 200)
    found, variance = Kriging(x, np.sin(x[:, 0]) + errors, np.full(200, 0.09)).at(x)
    assert np.sqrt(np.mean((found - np.sin(x[:, 0])) ** 2)) < 0.7 * np.sqrt(np.mean(errors**2))
    assert (variance > 0).all()


def test_a_point_of_enormous_noise_has_no_influence() -> None:
    noise, values = np.zeros(len(POINTS)), rough(POINTS)
    noise[7], values[7] = 1e12, 50.0
    query = np.vstack((POINTS[[7]], POINTS[[7]] + 0.2))
    without = Kriging(np.delete(POINTS, 7, axis=0), np.delete(values, 7)).at(query)
    told = Kriging(POINTS, values, noise).at(query)
    # It still takes the place of one of 24 neighbours, so the two do not agree to the last digit.
    assert told[0] == pytest.approx(without[0], abs=0.05)
    assert told[1] == pytest.approx(without[1], abs=0.05)


def test_of_points_that_coincide_the_mean_is_as_much_surer() -> None:
    """Two measurements of noise 0.2 at each place are one of 0.1 with their mean."""
    values, away = rough(POINTS), np.random.default_rng(4).normal(size=len(POINTS))
    pairs = Kriging(np.vstack((POINTS, POINTS)), np.hstack((values + away, values - away)), np.full(160, 0.2))
    means = Kriging(POINTS, values, np.full(80, 0.1))
    for one, other in zip(pairs.at(POINTS + 0.1), means.at(POINTS + 0.1), strict=True):
        assert one == pytest.approx(other, abs=1e-9)


def test_a_constant_axis_and_a_single_point_are_no_trouble() -> None:
    flat = np.column_stack([POINTS[:, 0], np.ones(len(POINTS))])
    found, _ = Kriging(flat, 2 * flat[:, 0]).at(np.array([[1.0, 1.0], [3.0, 1.0]]))
    assert found == pytest.approx([2.0, 6.0], abs=1e-6)
    assert Kriging(np.array([[1.0]]), np.array([7.0])).at(np.array([[9.0]]))[0] == pytest.approx(7.0)
    assert len(Kriging(flat, flat[:, 0]).at(np.empty((0, 2)))[0]) == 0


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        Kriging(np.empty((0, 2)), np.empty(0))


def test_neighbours_that_share_a_coordinate_leave_the_interval_finite() -> None:
    """A grid 50 times finer along one axis: the nearest 24 points of a query between its lines lie on one line."""
    fine, coarse = np.linspace(0.0, 1.0, 60), np.array([0.0, 0.5, 1.2])
    points = np.array([(x, y) for x in fine for y in coarse])
    kriging = Kriging(points, np.sin(3 * points[:, 0]) + points[:, 1] ** 2)
    queries = np.array([(x, y) for x in (0.2, 0.51, 0.9) for y in (0.2, 0.3, 0.8)])
    found, variance = kriging.at(queries)
    assert np.all(variance < 2.0)
    assert np.allclose(found, np.sin(3 * queries[:, 0]) + queries[:, 1] ** 2, atol=0.35)


def smooth(points: np.ndarray, values: np.ndarray, noise: float, drift: int | None = None) -> SmoothKriging:
    own = np.full(len(values), noise)
    return SmoothKriging(points, values, own, correlation=matern, neighbours=len(values), drift=drift)


def test_two_points_by_hand() -> None:
    """At distance 1, noise 0.1: half-way each weighs c(½) / (1.1 + c(1)), and 1 - 2 c(½)² / (1.1 + c(1)) is left."""
    near, apart = (float(matern(np.array(d))) for d in (0.5, 1.0))
    assert apart == pytest.approx((1 + 3**0.5) * np.exp(-(3**0.5)))
    found, variance = smooth(np.array([[0.0], [1.0]]), np.array([2.0, 4.0]), 0.1).at(np.array([[0.5]]))
    assert found[0] == pytest.approx(6.0 * near / (1.1 + apart))
    assert variance[0] == pytest.approx(1.0 - 2.0 * near**2 / (1.1 + apart))


def test_values_about_zero_fall_to_zero_away_from_all_points() -> None:
    found, variance = smooth(POINTS, rough(POINTS), 0.1).at(np.full((1, 3), 99.0))
    assert (found[0], variance[0]) == pytest.approx((0.0, 1.0), abs=1e-9)


@pytest.mark.parametrize("drift", [None, 0, 3])
def test_queries_that_share_their_neighbours_answer_as_each_alone(drift: int | None) -> None:
    kriging = smooth(POINTS, rough(POINTS), 0.01, drift)
    queries = POINTS[:20] + 0.2
    alone = [kriging.at(query[None]) for query in queries]
    found, variance = kriging.at(queries)
    assert found == pytest.approx([mean[0] for mean, _ in alone], abs=1e-9)
    assert variance == pytest.approx([spread[0] for _, spread in alone], abs=1e-9)
