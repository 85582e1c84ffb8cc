"""Where to measure next: midpoints between shapes whose neighbours predict them worst.

Measured shapes form a tree, one axis a level, as interpolation descends it. At each level an inner branch is withheld
and its values are read off the two branches beside it (linear in logarithms); the mean error says how curved the
kernel's efficiency is there. An interval's own error is what a quadratic of that curvature leaves at its middle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Point = tuple[float, ...]
CLOSEST = 1.5  # neighbours closer than this ratio are not split: between them noise says more than shape


@dataclass(frozen=True, slots=True)
class Midpoint:
    """A branch to add. ``points``: its shapes, those that both neighbours have; ``error``: expected without it."""

    error: float
    points: tuple[Point, ...]


def midpoints(
    values: Mapping[Point, float], steps: tuple[int, ...], allowed: Callable[[Point], bool] = lambda point: True
) -> list[Midpoint]:
    """Every midpoint that could be added, the one with the largest expected error first.

    ``values``: logarithm of efficiency at each point, positive coordinates in the order of the axes. ``steps``: an
    axis's new values are multiples of its step; 0 keeps the axis as it is. Points that are not ``allowed`` are left
    out.
    """
    found = [
        midpoint
        for level, step in enumerate(steps)
        if step
        for prefix, branches in _lines(values, level).items()
        for midpoint in _midpoints(prefix, branches, step, allowed)
    ]
    return sorted(found, key=lambda midpoint: (-midpoint.error, -len(midpoint.points), midpoint.points))


_Branches = dict[float, dict[Point, float]]  # value on the axis -> the rest of each point -> value


def _lines(values: Mapping[Point, float], level: int) -> dict[Point, _Branches]:
    lines: dict[Point, _Branches] = defaultdict(lambda: defaultdict(dict))
    for point, value in values.items():
        lines[point[:level]][point[level]][point[level + 1 :]] = value
    return lines


def _midpoints(prefix: Point, branches: _Branches, step: int, allowed: Callable[[Point], bool]) -> list[Midpoint]:
    places = sorted(branches)
    inner = range(1, len(places) - 1)
    errors = {i: _withheld(branches, places[i - 1 : i + 2]) for i in inner}
    midpoints = []
    for i in range(len(places) - 1):
        low, high = places[i], places[i + 1]
        middle = step * round(math.sqrt(low * high) / step)
        expected = max((_share(places, j, i) * errors[j] for j in (i, i + 1) if j in inner), default=0.0)
        if expected == 0 or not low < middle < high or high / low <= CLOSEST:
            continue
        shared = sorted(branches[low].keys() & branches[high].keys())
        points = [point for rest in shared if allowed(point := (*prefix, float(middle), *rest))]
        if points:
            midpoints.append(Midpoint(expected, tuple(points)))
    return midpoints


def _withheld(branches: _Branches, places: list[float]) -> float:
    """Mean |error| of the middle branch read off the outer two; 0 where they share no shape."""
    low, here, high = (branches[place] for place in places)
    share = math.log(places[1] / places[0]) / math.log(places[2] / places[0])
    errors = [abs(low[r] + share * (high[r] - low[r]) - here[r]) for r in low.keys() & here.keys() & high.keys()]
    return sum(errors) / len(errors) if errors else 0.0


def _share(places: list[float], inner: int, interval: int) -> float:
    """Error at the middle of an interval beside an inner place, as a share of the error there: h²/(4·h1·h2)."""
    h1, h2 = (math.log(places[inner + i] / places[inner + i - 1]) for i in (0, 1))
    width = h1 if interval == inner - 1 else h2
    return width * width / (4.0 * h1 * h2)
