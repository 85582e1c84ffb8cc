"""Where to measure next: midpoints between shapes whose neighbours predict them worst.

Measured shapes form a tree, one axis a level, as interpolation descends it. At each level an inner branch is withheld
and its values are read off the two branches beside it (linear in logarithms); the mean error says how curved the
kernel's efficiency is there. An interval's own error is what a quadratic of that curvature leaves at its middle.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from specsim.profiles.schema import Row
from specsim.profiling.sweep.plan import Shape, size

Knot = tuple[float, ...]
CLOSEST = 1.5  # neighbours closer than this ratio are not split: between them noise says more than shape
GOOD_ENOUGH = 0.02  # expected interpolation error below which no more shapes are added: less is noise
WORST_MIDPOINTS = 6  # refined at once, at most
# Axes as interpolation descends them, as columns of the class, and the step of new values (0: none are added).
REFINED = {
    "gemm": ((2, 1, 0), (64, 64, 1)),
    "attention": ((5, 3, 4, 1, 0, 2), (0, 0, 0, 1, 1, 16)),
}


@dataclass(frozen=True, slots=True)
class Midpoint:
    """A branch to add. ``points``: its shapes, those that both neighbours have; ``error``: expected without it."""

    error: float
    points: tuple[Knot, ...]


def worst_shapes(
    kind: str, rows: Sequence[Row], bytes_per_s: float, flops_per_s: float, allowed: Callable[[Shape], bool]
) -> list[Shape]:
    """The shapes of the worst midpoints between rows of one surface, those at least half as bad as the worst.

    Empty where all are good enough, and for no rows.
    """
    if not rows:
        return []
    columns, steps = REFINED[kind]
    floor_s = min(row.median_s for row in rows)
    values = {}
    for row in rows:
        moved, flops = size(Shape(kind, "", row.shape, row.cache, row.dtype))
        ideal_s = floor_s + math.hypot(moved / bytes_per_s, flops / flops_per_s)
        values[tuple(row.shape[column] for column in columns)] = math.log(ideal_s / row.median_s)

    def shape(point: Knot) -> Shape:
        place = tuple(point[columns.index(i)] for i in range(len(columns)))
        return Shape(kind, "", place, rows[0].cache, rows[0].dtype)

    found = midpoints(values, steps, lambda point: allowed(shape(point)))[:WORST_MIDPOINTS]
    enough = max(GOOD_ENOUGH, found[0].error / 2) if found else 0.0
    points = {point: None for midpoint in found if midpoint.error >= enough for point in midpoint.points}
    return [shape(point) for point in points]


def midpoints(
    values: Mapping[Knot, float],
    steps: tuple[int, ...],
    allowed: Callable[[Knot], bool] = lambda point: True,
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


_Branches = dict[float, dict[Knot, float]]  # value on the axis -> the rest of each point -> value


def _lines(values: Mapping[Knot, float], level: int) -> dict[Knot, _Branches]:
    lines: dict[Knot, _Branches] = defaultdict(lambda: defaultdict(dict))
    for point, value in values.items():
        lines[point[:level]][point[level]][point[level + 1 :]] = value
    return lines


def _midpoints(prefix: Knot, branches: _Branches, step: int, allowed: Callable[[Knot], bool]) -> list[Midpoint]:
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
