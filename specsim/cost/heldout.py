"""How well a profile predicts shapes that it does not hold: the error, and the interval that covers it.

Two procedures. A profile alone: every interior level of every axis is withheld in turn and predicted from the rest. A
profile that was drawn from a large table: test rows are drawn first, by seed, many of them with fixed dimensions (a
matrix, a head layout) that no profile row has; then calibration rows, which scale the stated intervals; then the
profile's rows are chosen among the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from specsim.cost.efficiency import Z90, EfficiencySurface
from specsim.cost.surfaces import Group, groups, surface_of
from specsim.errors import InvalidInput
from specsim.profiles.grid import Kriging
from specsim.profiles.schema import Ceilings, HeldoutError, Row
from specsim.profiles.shapes import axes_of
from specsim.profiles.store import Profile

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

WITHHELD_SHARE = 0.12  # of the fixed dimensions, for the test rows and again for the calibration rows
UNSEEN_SHARE = 0.4  # of the drawn rows, with withheld fixed dimensions
_LEVELS = 32  # of one axis at most, spread evenly: more would only repeat their neighbours
_LEVEL_ROWS = 200  # rows predicted of one level at most


@dataclass(frozen=True, slots=True)
class Prediction:
    """Relative errors of predicted rows, |predicted / measured - 1|, and what their intervals say.

    ``misses``: |measured / predicted - 1| in units of the stated standard deviation. ``inside``: not extrapolated.
    """

    errors: Floats
    misses: Floats
    inside: NDArray[np.bool_]


def predict(surface: EfficiencySurface, rows: Sequence[Row]) -> Prediction:
    """How a surface predicts rows."""
    estimates = surface.seconds(tuple(np.array([row.shape for row in rows], dtype=np.float64).T))
    measured = np.array([row.median_s for row in rows])
    seconds = np.asarray(estimates.seconds)
    misses = np.abs(measured / seconds - 1.0) / np.asarray(estimates.error)
    return Prediction(np.abs(seconds / measured - 1.0), misses, np.asarray(estimates.rank) < 2)


def level_errors(groups: Sequence[Group], ceilings: Ceilings) -> HeldoutError | None:
    """Error of predicting every interior value of every axis from rows without it; None if there is none.

    A whole level is withheld at a time (every row with that n, say), so neighbours are twice as far as in use.
    """
    errors: list[Floats] = []
    misses: list[Floats] = []
    for group in groups:
        shapes = np.array([row.shape for row in group.rows], dtype=np.float64)
        axes = axes_of(group.kind, shapes)
        points = np.round(axes.points(*axes.split(tuple(shapes.T))), 9)
        whole = surface_of(group, group.rows, ceilings)
        for axis in range(points.shape[1]):
            for level in _thinned(np.unique(points[:, axis])[1:-1], _LEVELS):
                held = points[:, axis] == level
                kept = [row for row, out in zip(group.rows, held, strict=True) if not out]
                surface = surface_of(group, kept, ceilings, whole.error_scale, whole.metric)
                found = predict(surface, [group.rows[i] for i in _thinned(np.flatnonzero(held), _LEVEL_ROWS)])
                errors.append(found.errors[found.inside])
                misses.append(found.misses[found.inside])
    if not sum(len(part) for part in errors):
        return None
    return _summary(np.concatenate(errors), np.concatenate(misses))


def by_levels(profile: Profile) -> dict[str, HeldoutError]:
    """``level_errors`` of every class of a profile, and of every surface where a class has several.

    A scale, a metric or a seed that the header states stays.
    """
    found: dict[str, HeldoutError] = {}
    for kind, rows in profile.rows.items():
        parts = groups(kind, rows)
        names = [(kind, parts)] + [(part.name, [part]) for part in parts if part.name != kind]
        for name, members in names:
            error = level_errors(members, profile.header.ceilings) if members else None
            if error is not None:
                stated = profile.header.heldout_error.get(name)
                scale = {} if stated is None else {"error_scale": stated.error_scale, "metric": stated.metric}
                found[name] = error.model_copy(update=scale)
    return found


def disagreement(first: Profile, second: Profile) -> dict[str, HeldoutError]:
    """|ratio - 1| of two profiles' times at the first's shapes that the second does not have to extrapolate to.

    Raises InvalidInput for profiles of different hardware.
    """
    if first.header.gpu != second.header.gpu:
        raise InvalidInput(
            f"{first.name} is of {first.header.gpu}, {second.name} of {second.header.gpu}; compare one card's"
        )
    others = {part.name: part for kind, rows in second.rows.items() for part in groups(kind, rows)}
    found: dict[str, HeldoutError] = {}
    for kind, rows in first.rows.items():
        for part in groups(kind, rows):
            other = others.get(part.name)
            if other is None:
                continue
            told = predict(surface_of(other, other.rows, second.header.ceilings), part.rows)
            if told.inside.any():
                found[part.name] = _summary(told.errors[told.inside], told.misses[told.inside])
    return found


def _thinned(values: NDArray[Any], most: int) -> NDArray[Any]:
    """At most ``most`` of them, spread evenly."""
    places = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))
    return np.asarray(values[places])


def heldout_error(
    kind: str, rows: tuple[Row, ...], bytes_per_s: float, flops_per_s: Mapping[str, float]
) -> HeldoutError | None:
    """``level_errors`` of a whole class."""
    ceilings = Ceilings.model_validate({"copy_bytes_per_s": bytes_per_s, "flops_per_s": dict(flops_per_s)})
    return level_errors(groups(kind, rows), ceilings)


def _summary(errors: Floats, misses: Floats) -> HeldoutError:
    return HeldoutError(
        median=round(float(np.median(errors)), 5), p90=round(float(np.quantile(errors, 0.9)), 5), n=len(errors),
        coverage=round(float(np.mean(misses <= Z90)), 4),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draw:
    """Indices of a table's rows: test, calibration, and those a profile may keep."""

    test: Indices
    calibration: Indices
    rest: Indices


def draw(group: Group, seed: int, size: int, label: str) -> Draw:
    """Draw ``size`` test rows and as many calibration rows.

    The same table, seed and ``label`` always give the same rows, whatever the order of the table's rows. Of each draw,
    ``UNSEEN_SHARE`` have fixed dimensions that no other row of the profile has.
    """
    shapes = np.array([row.shape for row in group.rows], dtype=np.float64)
    order = np.lexsort(shapes.T[::-1])
    axes = axes_of(group.kind, shapes)
    fixed = np.column_stack(axes.split(tuple(shapes.T))[0])
    kinds, member = np.unique(fixed, axis=0, return_inverse=True)
    member = member.ravel()
    rng = np.random.default_rng([seed, zlib.crc32(label.encode())])
    free = np.ones(len(shapes), dtype=bool)
    withheld = np.zeros(len(kinds), dtype=bool)
    drawn: list[Indices] = []
    for _ in range(2):
        choices = np.flatnonzero(~withheld)
        these = rng.choice(choices, min(max(1, round(WITHHELD_SHARE * len(kinds))), len(choices) // 2), replace=False)
        unseen = order[(np.isin(member, these) & free)[order]]
        seen = order[(~np.isin(member, these) & free & ~withheld[member])[order]]
        first = rng.choice(unseen, min(round(UNSEEN_SHARE * size), len(unseen)), replace=False)
        second = rng.choice(seen, min(size - len(first), len(seen) // 4), replace=False)
        drawn.append(np.concatenate([first, second]))
        free[drawn[-1]] = False
        withheld[these] = True
    return Draw(drawn[0], drawn[1], np.flatnonzero(free & ~withheld[member]))


def calibrate(surface: EfficiencySurface, rows: Sequence[Row]) -> float:
    """The error scale at which 90 % of these rows lie in the surface's 90 % intervals."""
    return surface.error_scale * float(np.quantile(predict(surface, rows).misses, 0.9)) / Z90


def score(surface: EfficiencySurface, kept: Sequence[Row], rows: Sequence[Row]) -> HeldoutError:
    """Error and coverage on test rows, extrapolated ones too; ``unseen``: fixed dimensions that ``kept`` lacks."""
    found = predict(surface, rows)
    known = {row.shape[1:] if len(row.shape) != 6 else row.shape[3:] for row in kept}
    unseen = sum((row.shape[1:] if len(row.shape) != 6 else row.shape[3:]) not in known for row in rows)
    return _summary(found.errors, found.misses).model_copy(update={"unseen": unseen})


# -- which rows to keep ---------------------------------------------------------------------------------------------

_START, _STEP, _CROWD = 0.15, 0.07, 12  # first rows and rows a round, as shares of the budget; neighbours looked at


def choose(group: Group, ceilings: Ceilings, budget: int, seed: int, metric: int | None = None) -> list[int]:
    """Indices of at most ``budget`` rows from which the others are predicted well.

    Greedy: rows are added where the rows around are predicted with a common error, and of the rows there the one
    nearest to what the crowd says is taken, so that a single odd measurement is never the one that speaks.
    """
    count = len(group.rows)
    if count <= budget:
        return list(range(count))
    whole = surface_of(group, group.rows, ceilings, 1.0, metric)
    points, values = whole.features, whole.values
    crowd = _Crowd(points, values)
    rng = np.random.default_rng(seed)
    ways = points @ rng.normal(size=(points.shape[1], 20))
    ends = np.concatenate([np.argmin(ways, axis=0), np.argmax(ways, axis=0)])
    fastest = int(np.argmin([row.median_s for row in group.rows]))
    first = crowd.typical(np.concatenate([ends, rng.choice(count, int(_START * budget), replace=False)]).astype(int))
    taken = list(dict.fromkeys([fastest, *first.tolist()]))[:budget]
    while len(taken) < budget:
        predicted = Kriging(points[taken], values[taken]).at(points)[0]
        added = crowd.worst(predicted, taken, min(max(1, int(_STEP * budget)), budget - len(taken)))
        if not added:
            break
        taken += added
    return sorted(taken)


class _Crowd:
    """Every row with its nearest neighbours."""

    def __init__(self, points: Floats, values: Floats) -> None:
        self._values = values
        distances, self._near = cKDTree(points).query(points, min(_CROWD + 1, len(points)))
        self._weights = np.exp(-distances)
        others = self._weights[:, 1:]
        mean = (others * values[self._near[:, 1:]]).sum(axis=1) / np.maximum(others.sum(axis=1), 1e-12)
        self._odd = np.abs(values - mean)

    def typical(self, rows: Indices) -> Indices:
        """Of each row and its five nearest, the one closest to its own neighbours' mean."""
        near = self._near[rows, :6]
        return np.asarray(near[np.arange(len(rows)), np.argmin(self._odd[near], axis=1)])

    def worst(self, predicted: Floats, taken: list[int], count: int) -> list[int]:
        """Rows to add: around the largest errors that neighbours share, one a neighbourhood."""
        errors = self._values - predicted
        used = np.zeros(len(errors), dtype=bool)
        used[taken] = True
        weights = self._weights * ~used[self._near]
        near = errors[self._near]
        shared = (weights * near).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
        gain = ((np.abs(near) - np.abs(near - shared[:, None])) * weights).sum(axis=1)
        blocked = used.copy()
        added: list[int] = []
        for row in np.argsort(-gain):
            if blocked[row]:
                continue
            choices = self._near[row, :6]
            choices = choices[~used[choices]]
            target = predicted[choices] + shared[row]
            best = int(choices[np.argmin(np.abs(self._values[choices] - target))])
            added.append(best)
            used[best] = True
            blocked[self._near[row]] = True
            if len(added) == count:
                break
        return added
