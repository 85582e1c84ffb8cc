"""Where the sweep measures next, on functions whose curvature is known."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="specsim.profiling needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.profiling.sweep.refine import Midpoint, midpoints  # noqa: E402


def worst_midpoint(*arguments: Any, **options: Any) -> Midpoint | None:
    return next(iter(midpoints(*arguments, **options)), None)


PLACES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)


def bent(at: float) -> dict[tuple[float, ...], float]:
    """A power law with another exponent beyond ``at``: curved nowhere else."""
    return {(x,): math.log(x) + max(0.0, math.log(x / at)) for x in PLACES}


@pytest.mark.parametrize("place", [4.0, 16.0, 64.0, 256.0])
def test_the_worst_interval_touches_the_kink(place: float) -> None:
    found = worst_midpoint(bent(place), (1,))
    assert found is not None
    for (x,) in found.points:
        assert place / 4 < x < place * 4
    # Withholding the kink leaves half of its rise over one interval (the exponent changes by 1 at h1 = h2 = log 4);
    # a quadratic of that size leaves a quarter of it at the middle of either interval.
    assert found.error == pytest.approx(0.5 * math.log(4) / 4)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_power_laws_need_no_more_shapes(a: float, b: float, c: float) -> None:
    values = {(x, y): a + b * math.log(x) + c * math.log(y) for x in PLACES for y in PLACES}
    found = worst_midpoint(values, (1, 1))
    assert found is None or found.error < 1e-9


def test_a_kink_in_an_outer_axis_adds_a_whole_branch_of_shapes_both_neighbours_have() -> None:
    values = {(x, y): max(0.0, math.log(x / 64)) for x in PLACES for y in (1.0, 2.0, 3.0)}
    del values[(64.0, 3.0)], values[(16.0, 2.0)], values[(256.0, 2.0)]
    found = worst_midpoint(values, (8, 1))
    assert found is not None
    assert {point[0] for point in found.points} <= {32.0, 128.0}
    assert {point[1] for point in found.points} <= {1.0}


def test_new_values_are_multiples_of_the_step_allowed_and_never_too_close() -> None:
    values = bent(16.0)
    found = worst_midpoint(values, (24,), allowed=lambda point: point[0] != 24.0)
    assert found is not None
    assert all(x % 24 == 0 and x not in (24.0,) and (x,) not in values for (x,) in found.points)
    close = {(x,): v for x, v in zip((100.0, 101.0, 102.0), (0.0, 1.0, 0.0), strict=True)}
    assert worst_midpoint(close, (1,)) is None
    assert worst_midpoint(values, (0,)) is None


def test_refining_a_known_function_brings_its_interpolation_error_down() -> None:
    """Ten midpoints on a smooth curve: the largest error of log-linear interpolation falls below a third."""

    def truth(x: float) -> float:
        return math.sin(1.5 * math.log(x))

    def largest_error(values: dict[tuple[float, ...], float]) -> float:
        places = sorted(values)
        worst = 0.0
        for (low,), (high,) in itertools.pairwise(places):
            for share in (0.25, 0.5, 0.75):
                x = low ** (1 - share) * high**share
                line = (1 - share) * values[(low,)] + share * values[(high,)]
                worst = max(worst, abs(line - truth(x)))
        return worst

    values = {(x,): truth(x) for x in PLACES}
    before = largest_error(values)
    for _ in range(10):
        found = worst_midpoint(values, (1,))
        assert found is not None
        values.update({point: truth(point[0]) for point in found.points[:1]})
    assert largest_error(values) < before / 3
