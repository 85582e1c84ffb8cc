"""How close a kernel comes to the roofline at any shape, from the shapes that were measured.

Kernel time = ideal time / efficiency, ideal time = floor + sqrt(memory time² + compute time²): the floor is the
class's shortest measured time, and the root of squares is a maximum whose corner is as round as measured ones are.
Where the metric says that rows are computed in tiles, compute time is that of full tiles. A row whose samples differ
counts as noisy, so that its neighbours have a say in its own answer.
The roofline uses the profile's own ceilings, so that efficiency carries only what a shape does to a kernel. Its
logarithm is interpolated over log shapes (kriging.py), so times stay positive and power laws are exact. Outside
the measured shapes the nearest measured efficiency is kept and the answer says "extrapolated".
Imported tables are made to ascend (ascending.py): along every running dimension times never fall.

A model has few fixed dimensions (its matrices, its head layout) and asks for many running ones (tokens, sequences,
keys). So the first question about fixed dimensions fills a small table over the running ones, and all later ones are a
linear look-up in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from specsim.arrays import Booleans, Floats, Reals
from specsim.disk_cache import kept
from specsim.profiles.schema import Row
from specsim.specs.kernel_work import work
from specsim.surfaces.ascending import ascending
from specsim.surfaces.axes import Axes, axes_of, unfilled
from specsim.surfaces.efficiency_table import EfficiencyTable
from specsim.surfaces.estimates import Z90, Estimates
from specsim.surfaces.kriging import RegressionKriging
from specsim.surfaces.look_up import SAME, LookUp, grid

REPEAT_VARIANCE = 0.05  # share of a class's own variance that stays even on a measured shape; see error_scale
_DECILES = 2.563  # between the 10th and the 90th percentile of a normal distribution, in standard deviations
_VISITS = 4  # a sweep comes to a shape so often at most; samples of one visit share what the machine did then
_STEP, _TILES = 0.25, 8  # of tables that ascend: widest step of a dimension's log, tiles with a place of their own
_LEAVE_OUT = 256  # rows left out in turn to scale the stated error where the header does not state it


class EfficiencySurface:
    """One kernel's efficiency over its shapes.

    ``rows``: all of one class, operation, dtype and cache state (and, for attention, of one regime).
    ``error_scale``: one standard deviation of time a unit of kriging spread; None: found from the rows themselves,
    some of them left out in turn. ``metric``: index of the metric of the class's axes; None: the one that predicts
    rows left out best. ``ascends``: times never fall as a running dimension grows. ``features`` [rows, features] and
    ``values`` [rows]: the rows as interpolation sees them, in units of correlation length, and their log(time / ideal
    time). ``floor_s``: the shortest of their times. ``kept_as``: the key of ``disk_cache`` under which it was kept, as
    the tables that it makes will be; None: they are not.
    """

    features: Floats
    values: Floats
    error_scale: float
    metric: int
    floor_s: float
    kept_as: str | None = None

    def __init__(
        self,
        kind: str,
        rows: Sequence[Row],
        bytes_per_s: float,
        flops_per_s: float,
        error_scale: float | None = None,
        metric: int | None = None,
        processors: int | None = None,
        *,
        ascends: bool = False,
    ) -> None:
        self._kind = kind
        self._ascends = ascends
        self._dtype = rows[0].dtype
        self._rates = (bytes_per_s, flops_per_s)
        self.floor_s = min(row.median_s for row in rows)
        shapes = np.array([row.shape for row in rows], dtype=np.float64)
        self._axes: Axes = axes_of(kind, shapes, processors)
        self._processors, self._shapes = processors, shapes
        fixed, running = self._axes.split(tuple(shapes.T))
        self._log_running = [np.unique(np.log(values)) for values in running]
        points = self._axes.points(fixed, running)
        self._low, self._high = points.min(axis=0), points.max(axis=0)
        noise = np.array([_noise(row) for row in rows])
        self._fit(points, shapes, np.array([row.median_s for row in rows]), noise, error_scale, metric)
        self._measured: dict[tuple[float, ...], dict[tuple[float, ...], list[float]]] = {}
        places = _places(np.log(np.column_stack(running)))
        for shape, place, value, variance in zip(
            shapes.tolist(), places, self.values.tolist(), noise.tolist(), strict=True
        ):
            exact = self._measured.setdefault(self._axes.split(tuple(shape))[0], {}).setdefault(place, [])
            if not variance:
                exact.append(value)
        self._tables: dict[tuple[float, ...], EfficiencyTable] = {}

    def _fit(
        self, points: Floats, shapes: Floats, times: Floats, noise: Floats, scale: float | None, metric: int | None
    ) -> None:
        """Take the metric given, or the one under which rows left out in turn are predicted best."""
        chosen = np.linspace(0, len(points) - 1, min(_LEAVE_OUT, len(points))).astype(int)
        best = math.inf
        tiles = self._axes.tiles or (1.0,) * len(self._axes.metrics)
        for index, (matrix, tile) in enumerate(zip(self._axes.metrics, tiles, strict=True)):
            if metric not in (None, index):
                continue
            features = self._features(points, index)
            values = np.log(times / self._ideal_s(tuple(shapes.T), tile))
            kriging = RegressionKriging(features, values, noise, matrix.shape[1])
            errors, variances = np.zeros(1), np.zeros(1)
            if metric is None or scale is None:
                found, variances = kriging.at(features[chosen], leave_out=True)
                errors = np.abs(np.expm1(values[chosen] - found))
            if float(np.median(errors)) < best:
                best = float(np.median(errors))
                self.metric, self._metric, self._kriging, self.features = index, matrix, kriging, features
                self.values, self._tile = values, tile
                self.error_scale = _scale(errors, variances) if scale is None else scale

    def _features(self, points: Floats, metric: int) -> Floats:
        """Where points [n, axes] lie for interpolation; tiles count as far as computing takes the time."""
        features = points @ self._axes.metrics[metric]
        weight = self._axes.fill[metric] if self._axes.fill else 0.0
        if not weight or self._processors is None:
            return features
        shape = tuple(np.round(np.exp(points), 6).T)  # a hair above a full tile is none the less a full tile
        moved, computed = work(self._kind, shape, self._dtype)
        memory, compute = moved / self._rates[0], computed / self._rates[1]
        share = weight * compute / np.hypot(memory, compute)
        return np.column_stack([features, share[:, None] * unfilled(shape[0], shape[1], self._processors)])

    @property
    def trend(self) -> int:
        """How many of the features, from the first on, the trend is linear in."""
        return int(self._metric.shape[1])

    def seconds(self, shape: tuple[Reals, ...]) -> Estimates:
        """Times at a shape: floats in, floats out (microseconds of work); arrays broadcast like NumPy's."""
        if any(isinstance(value, np.ndarray) for value in shape):
            return self._many(shape)
        fixed, running = self._axes.split(shape)
        table = self._tables.get(fixed) or self._table(fixed)
        value, error, rank = table.one([math.log(x) for x in running])
        return Estimates(self._unit_s(shape, table) * math.exp(value), rank, error)

    def _many(self, shape: tuple[Reals, ...]) -> Estimates:
        fixed, _ = self._axes.split(shape)
        if all(np.ndim(x) == 0 for x in fixed):
            return self._along(shape, tuple(float(x) for x in fixed), np.broadcast(*shape).shape)
        full = np.broadcast_arrays(*shape)
        keys, index = np.unique(
            np.column_stack([x.ravel() for x in self._axes.split(tuple(full))[0]]), axis=0, return_inverse=True
        )
        seconds, error, rank = np.empty(index.size), np.empty(index.size), np.empty(index.size, dtype=np.int64)
        for i, key in enumerate(keys.tolist()):
            here = index.ravel() == i
            part = self._along(tuple(x.ravel()[here] for x in full), tuple(key), (int(here.sum()),))
            seconds[here], error[here], rank[here] = part.seconds, part.error, part.rank
        size = full[0].shape
        return Estimates(seconds.reshape(size), rank.reshape(size), error.reshape(size))

    def _along(self, shape: tuple[Any, ...], fixed: tuple[float, ...], size: tuple[int, ...]) -> Estimates:
        """Arrays of shapes whose fixed dimensions are all the same."""
        table = self._table(fixed)
        running = self._axes.split(shape)[1]
        value, error, rank = table.many([np.log(np.asarray(x, dtype=np.float64)) for x in running])
        seconds = self._unit_s(shape, table) * np.exp(value)
        if seconds.shape == rank.shape == error.shape == size:
            return Estimates(seconds, rank, error)
        return Estimates(np.broadcast_to(seconds, size), np.broadcast_to(rank, size), np.broadcast_to(error, size))

    def _unit_s(self, shape: tuple[Any, ...], table: EfficiencyTable) -> Any:
        """What a table's value multiplies: the ideal time; where it holds times, how that grows beyond its ends."""
        if not self._ascends:
            return self._ideal_s(shape, self._tile)
        fixed, running = self._axes.split(shape)
        inside = table.inside(running)
        if inside is running:
            return 1.0
        return self._ideal_s(shape, self._tile) / self._ideal_s(self._axes.joined(fixed, inside), self._tile)

    def _ideal_s(self, shape: tuple[Any, ...], tile: float) -> Any:
        moved, computed = work(self._kind, shape, self._dtype)
        if tile > 1.0:
            computed = computed * (np.ceil(shape[0] / tile) * tile / shape[0])
        memory, compute = moved / self._rates[0], computed / self._rates[1]
        return self.floor_s + (memory * memory + compute * compute) ** 0.5

    def _table(self, fixed: tuple[float, ...]) -> EfficiencyTable:
        if fixed not in self._tables:
            self._tables[fixed] = (
                self._new_table(fixed)
                if self.kept_as is None
                else kept(f"{self.kept_as} {fixed}", lambda: self._new_table(fixed))
            )
        return self._tables[fixed]

    def __getstate__(self) -> dict[str, Any]:
        """All but what the shapes say again."""
        return {name: value for name, value in vars(self).items() if name not in ("_axes", "_tables")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _tables={}, _axes=axes_of(state["_kind"], state["_shapes"], state["_processors"]))

    def _new_table(self, fixed: tuple[float, ...]) -> EfficiencyTable:
        axes = self._axes
        origin = axes.points(tuple(np.array([x]) for x in fixed), tuple(np.ones(1) for _ in self._log_running))[0]
        levels = [
            self._levels(axis, values, origin[axis])
            for axis, values in zip(axes.running, self._log_running, strict=True)
        ]
        values, errors, outside = self._told(origin, levels)
        nodes = levels
        if self._ascends:
            nodes = [self._between(axis, first=not index) for index, axis in enumerate(levels)]
            between = LookUp(levels, (errors,)).many(list(grid(nodes).T))[0][0]
            values, _, outside = self._told(origin, nodes)
            errors = np.broadcast_to(between, values.shape)
        exact = np.zeros(len(values), dtype=bool)
        if known := self._measured.get(fixed):
            for i, place in enumerate(_places(grid(nodes))):
                if (logs := known.get(place)) is not None:
                    values[i], exact[i] = np.mean(logs) if logs else values[i], True
        if self._ascends:
            values, exact = self._ascending(fixed, nodes, values, errors, exact)
        lengths = [1.0 / float(np.linalg.norm(self._metric[axis])) for axis in axes.running]
        return EfficiencyTable(LookUp(nodes, (values, errors), lengths), exact, nodes, outside=outside)

    def _levels(self, axis: int, measured: Floats, origin: float) -> Floats:
        """Where a running dimension is tabulated: where it was measured, and at the ends of what was.

        Of times that ascend also where it was measured of other layouts only, since this one will be asked there.
        """
        low, high = self._low[axis] - origin, self._high[axis] - origin
        inside = measured[(measured > low + SAME) & (measured < high - SAME)]
        levels = np.array([low, *inside, high] if high - low > SAME else [low])
        return np.unique(np.concatenate([levels, measured])) if self._ascends else levels

    def _told(self, origin: Floats, nodes: Sequence[Floats]) -> tuple[Floats, Floats, bool]:
        """Log efficiencies at every node, their errors, and whether any is beyond what was measured."""
        places = grid(nodes)
        points = np.repeat(origin[None, :], len(places), axis=0)
        points[:, list(self._axes.running)] += places
        clipped = np.clip(points, self._low, self._high)
        beyond = np.linalg.norm((points - clipped) @ self._metric, axis=1)
        values, variances = self._kriging.at(self._features(clipped, self.metric))
        errors = self.error_scale * np.sqrt(variances + REPEAT_VARIANCE) * (1.0 + beyond)
        return values, errors, bool((beyond > SAME).any())

    def _between(self, levels: Floats, *, first: bool) -> Floats:
        """Levels of one dimension and places between them, near enough for times to be linear; of the first also
        where tiles begin.
        """
        steps = [
            np.linspace(low, high, math.ceil((high - low) / _STEP), endpoint=False) for low, high in pairwise(levels)
        ]
        found = np.concatenate([*steps, levels[-1:]])
        if first and self._tile > 1.0:
            full = self._tile * np.arange(1.0, _TILES + 1.0)
            edges = np.log(np.concatenate([full, full + 1.0]))
            found = np.concatenate([found, edges[(edges > levels[0]) & (edges < levels[-1])]])
        found = np.sort(found)
        return np.asarray(found[np.append(True, np.diff(found) > SAME)])

    def _ascending(
        self, fixed: tuple[float, ...], nodes: list[Floats], values: Floats, errors: Floats, exact: Booleans
    ) -> tuple[Floats, Booleans]:
        """Log times that never fall, and which of them are still as measured."""
        running = tuple(np.round(np.exp(column), 6) for column in grid(nodes).T)
        shape = self._axes.joined(tuple(np.array([x]) for x in fixed), running)
        logs = np.log(self._ideal_s(shape, self._tile)) + values
        size = tuple(len(axis) for axis in nodes)
        risen = ascending(logs.reshape(size), 1.0 / (errors.reshape(size) ** 2 + SAME)).ravel()
        return risen, exact & (np.abs(risen - logs) < SAME)


def _noise(row: Row) -> float:
    """Variance of the log of a row's median, from its percentiles; 0 where the row has no spread.

    Percentiles 20 % apart over 60 samples of 4 visits: (ln 1.2 / 2.563)² / 4 = 0.0013, a standard deviation of 3.6 %.
    """
    if row.p10_s is None or row.p90_s is None or row.samples is None or row.samples < 2:
        return 0.0
    return (math.log(row.p90_s / row.p10_s) / _DECILES) ** 2 / min(row.samples, _VISITS)


def _places(logs: Floats) -> list[tuple[float, ...]]:
    """Of each row of ``logs``, the same for those that differ by rounding."""
    return [tuple(place) for place in np.round(logs, 8).tolist()]


def _scale(errors: Floats, variances: Floats) -> float:
    """The scale at which 90 % of the errors lie within 1.645 standard deviations."""
    return float(np.quantile(errors / np.sqrt(variances + REPEAT_VARIANCE), 0.9)) / Z90
