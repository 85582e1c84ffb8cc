"""Drawing a compact profile from a large table: test rows first, then calibration rows, then the rows to keep.

Test rows are drawn by seed, many of them with fixed dimensions (a matrix, a head layout) that no kept row has.
Calibration rows, drawn the same way, choose the metric and scale the stated intervals. The rows to keep are chosen
among the rest, greedily.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from specsim.arrays import Floats, Indices
from specsim.profiles.schema import Ceilings, HeldoutError, Row
from specsim.surfaces.axes import axes_of
from specsim.surfaces.heldout import calibrate, level_errors, predict, score
from specsim.surfaces.kriging import RegressionKriging
from specsim.surfaces.row_groups import RowGroup, metrics_of, row_groups, surface_of

WITHHELD_SHARE = 0.12  # of the fixed dimensions, for the test rows and again for the calibration rows
UNSEEN_SHARE = 0.4  # of the drawn rows, with withheld fixed dimensions


@dataclass(frozen=True, slots=True)
class Draw:
    """Indices of a table's rows: test, calibration, and those a profile may keep."""

    test: Indices
    calibration: Indices
    rest: Indices


def draw(group: RowGroup, seed: int, size: int, label: str) -> Draw:
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


# -- which rows to keep ---------------------------------------------------------------------------------------------

_START, _STEP, _CROWD = 0.15, 0.07, 12  # first rows and rows a round, as shares of the budget; neighbours looked at


def choose(group: RowGroup, ceilings: Ceilings, budget: int, seed: int, metric: int | None = None) -> list[int]:
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
        predicted = RegressionKriging(points[taken], values[taken], trend=whole.trend).at(points)[0]
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


# -- the whole procedure --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SelectionPlan:
    """How many rows to keep of each surface (``RowGroup.name``), and how many to test it on, at most.

    ``rest``: the surface that gets what is left of ``rows``; ``beside``: quotas that come on top. Surfaces without one
    are left out; ``whole``: a class too small to draw from, kept whole and tested by withholding levels, as are
    surfaces beside that fit their quotas.
    """

    rows: int
    quotas: Mapping[str, int]
    rest: str
    whole: str
    tests: Mapping[str, int]
    beside: Mapping[str, int] = field(default_factory=dict)
    other_tests: int = 300

    def quotas_of(self, found: Sequence[RowGroup]) -> dict[str, int]:
        """Rows to keep of each of these surfaces."""
        kept = {group.name: min(len(group.rows), self.quotas.get(group.name, 0)) for group in found}
        kept.update({group.name: len(group.rows) for group in found if group.kind == self.whole})
        if self.rest in kept:
            kept[self.rest] = max(self.rows - sum(kept.values()) + kept[self.rest], 0)
        kept.update(
            {group.name: min(len(group.rows), self.beside[group.name]) for group in found if group.name in self.beside}
        )
        return kept

    def draw(self, group: RowGroup, label: str, seed: int) -> Draw:
        """The test, calibration and remaining rows of one surface of the tables called ``label``."""
        size = min(self.tests.get(group.name, self.other_tests), len(group.rows) // 5)
        name = group.name.removeprefix("attention ").removesuffix(" bfloat16")
        return draw(group, seed, size, label + name)


@dataclass(frozen=True, slots=True)
class Selection:
    """A profile drawn from large tables, and how well it predicts the rows it was not drawn from."""

    rows: dict[str, list[Row]]
    heldout: dict[str, HeldoutError]


def select_rows(
    tables: Mapping[str, Sequence[Row]],
    ceilings: Ceilings,
    plan: SelectionPlan,
    label: str,
    seed: int,
    progress: Callable[[str], None] = lambda name: None,
) -> Selection:
    """Draw test rows, then calibration rows, then choose the rows to keep among the rest."""
    found = [group for kind, members in tables.items() for group in row_groups(kind, members)]
    quotas = plan.quotas_of(found)
    kept: dict[str, list[Row]] = {}
    heldout: dict[str, HeldoutError] = {}
    for group in found:
        quota = quotas[group.name]
        if not quota:
            continue
        progress(group.name)
        if group.kind == plan.whole or (group.name in plan.beside and len(group.rows) <= quota):
            chosen, error = list(group.rows), level_errors([group], ceilings)
        else:
            chosen, error = _select_one(group, plan.draw(group, label, seed), ceilings, quota, seed)
        kept.setdefault(group.kind, []).extend(sorted(chosen, key=lambda row: row.shape[::-1]))
        if error is not None:
            heldout[group.name] = error
    return Selection(kept, heldout)


def _select_one(
    group: RowGroup, parts: Draw, ceilings: Ceilings, quota: int, seed: int
) -> tuple[list[Row], HeldoutError | None]:
    test, calibration, rest = ([group.rows[i] for i in part] for part in (parts.test, parts.calibration, parts.rest))
    if not test or not calibration or not rest:
        return list(group.rows)[:quota], None
    inner = group.of(rest)
    tried: list[tuple[float, int, list[Row]]] = []
    for metric in range(metrics_of(inner, ceilings)):
        chosen = [rest[i] for i in choose(inner, ceilings, quota, seed, metric)]
        errors = predict(surface_of(group, chosen, ceilings, 1.0, metric), calibration).errors
        tried.append((float(np.median(errors)) + float(np.quantile(errors, 0.9)) / 4.0, metric, chosen))
    _, metric, chosen = min(tried, key=lambda one: one[:2])
    scale = calibrate(surface_of(group, chosen, ceilings, 1.0, metric), calibration)
    error = score(surface_of(group, chosen, ceilings, scale, metric), chosen, test)
    stated = {"error_scale": round(scale, 5), "metric": metric, "calibration_n": len(calibration), "seed": seed}
    return chosen, error.model_copy(update=stated)
