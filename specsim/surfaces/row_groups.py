"""Which rows make one efficiency surface: those of one class, operation, format, cache state and regime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specsim.profiles.schema import Ceilings, ProfileHeader, Row
from specsim.specs.formats import format_of
from specsim.surfaces.axes import axes_of
from specsim.surfaces.efficiency import EfficiencySurface
from specsim.surfaces.regimes import Regime, rows_of_regime

UNPRICED = ("host", "pass", "steps")  # classes that no efficiency surface serves
FORMATLESS = ("sampling", "collective")  # classes whose times do not depend on a format
REGIMES: tuple[Regime, ...] = ("decode", "verify", "prefill")


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that one surface serves; ``dtype`` is empty where the class has no format, ``regime`` but for attention."""

    kind: str
    operation: str
    dtype: str
    cache: str
    regime: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """How headers call it: class, regime, operation, format, and warm where it is."""
        parts = (self.kind, self.regime, self.operation, self.dtype, self.cache if self.cache == "warm" else "")
        return " ".join(part for part in parts if part)

    def of(self, rows: Sequence[Row]) -> RowGroup:
        """The same group with some of its rows."""
        return replace(self, rows=tuple(rows))


def row_groups(kind: str, rows: Sequence[Row]) -> list[RowGroup]:
    """The rows of a class, split as its surfaces are."""
    if kind in UNPRICED:
        return []
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.operation, "" if kind in FORMATLESS else row.dtype, row.cache), []).append(row)
    split: list[RowGroup] = []
    for (operation, dtype, cache), members in found.items():
        if kind != "attention":
            split.append(RowGroup(kind, operation, dtype, cache, "", tuple(members)))
            continue
        for which in REGIMES:
            chosen = rows_of_regime(members, which)
            if chosen:
                split.append(RowGroup(kind, operation, dtype, cache, which, tuple(chosen)))
    return split


def surface_of(
    group: RowGroup,
    rows: Sequence[Row],
    ceilings: Ceilings,
    error_scale: float | None = None,
    metric: int | None = None,
    *,
    ascends: bool = False,
) -> EfficiencySurface:
    """The surface of some of a group's rows; weight-only formats compute at the rate of 16-bit activations."""
    rates = {str(name): rate for name, rate in ceilings.flops_per_s.items()}
    names = (str(format_of(rows[0].dtype).rate), "bfloat16", "float16")
    rate = next((rates[name] for name in names if name in rates), max(rates.values()))
    return EfficiencySurface(
        group.kind, rows, ceilings.copy_bytes_per_s, rate, error_scale, metric, ceilings.processors, ascends=ascends
    )


def stated_surface(group: RowGroup, header: ProfileHeader) -> EfficiencySurface:
    """The surface of all of a group's rows, with the error scale and the metric that the header states for it.

    Of a GPU's kernels, times never fall as a shape grows: a table that says otherwise was measured shape by shape, by
    several libraries' choices of a kernel, and an engine may always pad. A CPU's are as they were measured.
    """
    stated = header.heldout_error.get(group.name)
    scale, metric = (None, None) if stated is None else (stated.error_scale, stated.metric)
    return surface_of(group, group.rows, header.ceilings, scale, metric, ascends=header.device == "cuda")


def metrics_of(group: RowGroup, ceilings: Ceilings) -> int:
    """How many metrics the group's axes offer."""
    shapes = np.array([row.shape for row in group.rows], dtype=np.float64)
    return len(axes_of(group.kind, shapes, ceilings.processors).metrics)
