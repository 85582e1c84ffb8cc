"""How well a profile predicts shapes that it does not hold: the error, and the interval that covers it.

A profile alone: every interior level of every axis is withheld in turn and predicted from the rest. A profile drawn
from a large table (selection.py): test rows that were drawn before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, HeldoutError, Row
from specsim.profiles.store import Profile
from specsim.surfaces.axes import axes_of
from specsim.surfaces.efficiency import EfficiencySurface
from specsim.surfaces.estimates import Z90
from specsim.surfaces.row_groups import RowGroup, row_groups, surface_of

_LEVELS = 5  # of one axis at most, spread evenly: more cost minutes and say little more
_LEVEL_ROWS = 60  # rows predicted of one level at most
SCALE_DIGITS = 5  # of an error scale, as a header keeps it


@dataclass(frozen=True, slots=True)
class HeldOutErrors:
    """Relative errors of predicted rows, |predicted / measured - 1|, and what their intervals say.

    ``misses``: |measured / predicted - 1| in units of ``stated``, the stated standard deviation as a share of the
    prediction. ``inside``: not extrapolated.
    """

    errors: Floats
    misses: Floats
    stated: Floats
    inside: NDArray[np.bool_]


def predict(surface: EfficiencySurface, rows: Sequence[Row]) -> HeldOutErrors:
    """How a surface predicts rows."""
    estimates = surface.seconds(tuple(np.array([row.shape for row in rows], dtype=np.float64).T))
    measured = np.array([row.median_s for row in rows])
    seconds = np.asarray(estimates.seconds)
    stated = np.broadcast_to(np.asarray(estimates.error), measured.shape)
    misses = np.abs(measured / seconds - 1.0) / stated
    return HeldOutErrors(np.abs(seconds / measured - 1.0), misses, stated, np.asarray(estimates.rank) < 2)


@dataclass(frozen=True, slots=True)
class _Withheld:
    """Rows of one surface predicted without their level: ``errors``, and of the intervals as they will be ``misses``
    and half ``widths``.
    """

    errors: Floats
    misses: Floats
    widths: Floats
    error_scale: float
    metric: int


def _withhold(group: RowGroup, ceilings: Ceilings, stated: HeldoutError | None) -> _Withheld | None:
    """Every interior level of every axis in turn; None without any.

    Intervals that no calibration rows have scaled are scaled by every other level; the levels between them tell how
    many rows those intervals cover.
    """
    shapes = np.array([row.shape for row in group.rows], dtype=np.float64)
    axes = axes_of(group.kind, shapes)
    points = np.round(axes.points(*axes.split(tuple(shapes.T))), 9)
    scale, metric = (None, None) if stated is None else (stated.error_scale, stated.metric)
    whole = surface_of(group, group.rows, ceilings, scale, metric)
    inner = [_thinned(np.unique(column)[1:-1], _LEVELS) for column in points.T]
    levels = [(axis, level) for axis, values in enumerate(inner) for level in values]
    parts: list[HeldOutErrors] = []
    for axis, level in levels:
        held = points[:, axis] == level
        kept = [row for row, out in zip(group.rows, held, strict=True) if not out]
        surface = surface_of(group, kept, ceilings, whole.error_scale, whole.metric)
        parts.append(predict(surface, [group.rows[i] for i in _thinned(np.flatnonzero(held), _LEVEL_ROWS)]))
    misses = [part.misses[part.inside] for part in parts]
    errors = np.concatenate([np.empty(0), *(part.errors[part.inside] for part in parts)])
    if not len(errors):
        return None
    every = np.concatenate(misses)
    widths = Z90 * np.concatenate([part.stated[part.inside] for part in parts])
    if stated is not None and stated.calibration_n is not None:
        return _Withheld(errors, every, widths, whole.error_scale, whole.metric)
    told, others = np.concatenate([np.empty(0), *misses[::2]]), np.concatenate([np.empty(0), *misses[1::2]])
    if not len(told) or not len(others):
        told = others = every
    factor = float(np.quantile(told, 0.9)) / Z90
    scale_of_all = float(np.quantile(every, 0.9)) / Z90
    final = whole.error_scale * scale_of_all
    if not factor > 0 or round(final, SCALE_DIGITS) == 0:  # rows that some others predict exactly say nothing
        return None
    return _Withheld(errors, others / factor, widths * scale_of_all, final, whole.metric)


def level_errors(
    groups: Sequence[RowGroup], ceilings: Ceilings, stated: Mapping[str, HeldoutError] | None = None
) -> HeldoutError | None:
    """Error of predicting every interior value of every axis from rows without it; None if there is none.

    A whole level is withheld at a time (every row with that n, say), so neighbours are twice as far as in use.
    ``stated``: a header's, by surface, whose calibrated scales stay as they are.
    """
    found = [part for group in groups if (part := _withhold(group, ceilings, (stated or {}).get(group.name)))]
    if not found:
        return None
    errors, misses, widths = (
        np.concatenate([getattr(part, name) for part in found]) for name in ("errors", "misses", "widths")
    )
    summary = _summary(errors, misses, widths)
    if len(found) > 1:
        return summary
    scale = round(found[0].error_scale, SCALE_DIGITS)
    return summary.model_copy(update={"error_scale": scale, "metric": found[0].metric})


def by_levels(profile: Profile) -> dict[str, HeldoutError]:
    """``level_errors`` of every class of a profile, and of every surface where a class has several."""
    header = profile.header
    found: dict[str, HeldoutError] = {}
    for kind, rows in profile.rows.items():
        parts = row_groups(kind, rows)
        for name, members in [(kind, parts), *((part.name, [part]) for part in parts)]:
            error = level_errors(members, header.ceilings, header.heldout_error) if members else None
            if error is not None:
                found[name] = error
    return found


def disagreement(first: Profile, second: Profile) -> dict[str, HeldoutError]:
    """|ratio - 1| of two profiles' times at the first's shapes that the second does not have to extrapolate to.

    Raises InvalidInput for profiles of different hardware.
    """
    if first.header.gpu != second.header.gpu:
        raise InvalidInput(
            f"{first.name} is of {first.header.gpu}, {second.name} of {second.header.gpu}; compare one card's"
        )
    others = {part.name: part for kind, rows in second.rows.items() for part in row_groups(kind, rows)}
    found: dict[str, HeldoutError] = {}
    for kind, rows in first.rows.items():
        for part in row_groups(kind, rows):
            other = others.get(part.name)
            if other is None:
                continue
            told = predict(surface_of(other, other.rows, second.header.ceilings), part.rows)
            if told.inside.any():
                found[part.name] = _summary(
                    told.errors[told.inside], told.misses[told.inside], Z90 * told.stated[told.inside]
                )
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
    return level_errors(row_groups(kind, rows), ceilings)


def _summary(errors: Floats, misses: Floats, widths: Floats) -> HeldoutError:
    return HeldoutError(
        median=round(float(np.median(errors)), 5),
        p90=round(float(np.quantile(errors, 0.9)), 5),
        n=len(errors),
        coverage=round(float(np.mean(misses <= Z90)), 4),
        interval=float(f"{np.median(widths):.3g}"),
    )


def calibrate(surface: EfficiencySurface, rows: Sequence[Row]) -> float:
    """The error scale at which 90 % of these rows lie in the surface's 90 % intervals."""
    return surface.error_scale * float(np.quantile(predict(surface, rows).misses, 0.9)) / Z90


def score(surface: EfficiencySurface, kept: Sequence[Row], rows: Sequence[Row]) -> HeldoutError:
    """Error and coverage on test rows, extrapolated ones too; ``unseen``: fixed dimensions that ``kept`` lacks."""
    found = predict(surface, rows)
    known = {row.shape[1:] if len(row.shape) != 6 else row.shape[3:] for row in kept}
    unseen = sum((row.shape[1:] if len(row.shape) != 6 else row.shape[3:]) not in known for row in rows)
    return _summary(found.errors, found.misses, Z90 * found.stated).model_copy(update={"unseen": unseen})
