"""Kernel times from a profile, with the roofline where it holds nothing."""

from __future__ import annotations

import math
import statistics
from functools import lru_cache

import numpy as np

from specsim.cost.efficiency import EfficiencySurface
from specsim.cost.forward import Kernel, Price, Source
from specsim.cost.roofline import Roofline
from specsim.profiles.schema import HeldoutError, Row
from specsim.profiles.store import Profile
from specsim.specs.hardware import Hardware

EXTRAPOLATED_ERROR = 2.0  # an extrapolated price is taken to be this many times less certain than an interpolated one
UNTESTED_ERROR = 0.1  # of a class too sparse to withhold anything from; a judgement
P10_TO_P90 = 2.563  # width of that span of a normal law in standard deviations
Z90 = 1.645  # half-width of a 90 % normal interval in standard deviations


class MeasuredPrices:
    """Prices kernels from a profile; a class, dtype or operation it does not hold falls back to the roofline."""

    def __init__(self, profile: Profile, hardware: Hardware, dtype: str) -> None:
        self._profile = profile
        self._dtype = dtype
        self._roofline = Roofline(hardware, dtype)
        self._surfaces: dict[tuple[str, str, str], EfficiencySurface] = {}
        ceilings = profile.header.ceilings
        self._copy = ceilings.copy_bytes_per_s
        self._compute = next((rate for name, rate in ceilings.flops_per_s.items() if name == dtype), None)
        for kind, rows in profile.rows.items():
            if kind == "host" or self._compute is None:
                continue
            groups: dict[tuple[str, str, str], list[Row]] = {}
            for row in rows:
                if row.dtype == dtype or kind == "sampling":
                    groups.setdefault((kind, row.operation, row.cache), []).append(row)
            for key, members in groups.items():
                self._surfaces[key] = EfficiencySurface(kind, members, self._copy, self._compute)
        self._spread = {
            kind: statistics.median(row.spread for row in rows) / P10_TO_P90
            for kind, rows in profile.rows.items()
            if rows
        }
        self._host = {part: _host_surface(profile.rows["host"], part) for part in ("step", "draft_pass", "ngram")}
        self._price = lru_cache(maxsize=None)(self._compute_price)

    @property
    def name(self) -> str:
        return self._profile.name

    @property
    def machine_error(self) -> float:
        """The change of the profile's fixed probe over its sweep, taken as one standard deviation."""
        probe = self._profile.header.probe
        return 0.0 if probe.after_s is None else abs(probe.after_s / probe.before_s - 1.0)

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        return self._price(kernel, warm)

    def _compute_price(self, kernel: Kernel, warm: bool) -> Price:
        order = ("warm", "cold") if warm else ("cold", "warm")
        for cache in order:
            surface = self._surfaces.get((kernel.kind, kernel.operation, cache))
            if surface is not None:
                seconds, source = surface.seconds(kernel.shape)
                return Price(seconds, source, self._relative_error(kernel.kind, source))
        return self._roofline.price(kernel, warm=warm)

    def _relative_error(self, kind: str, source: Source) -> float:
        error: HeldoutError | None = self._profile.header.heldout_error.get(kind)
        sigma = math.hypot(UNTESTED_ERROR if error is None else error.p90 / Z90, self._spread.get(kind, 0.0))
        return sigma * (EXTRAPOLATED_ERROR if source == "extrapolated" else 1.0)

    def host_s(self, part: str, sequences: int) -> float | None:
        """Linear in sequences between measured batch sizes, constant beyond them."""
        table = self._host[part]
        return None if table is None else float(np.interp(sequences, *table))


def _host_surface(rows: tuple[Row, ...], part: str) -> tuple[list[float], list[float]] | None:
    chosen = sorted((row.shape[0], row.median_s) for row in rows if row.operation == part)
    return ([s for s, _ in chosen], [t for _, t in chosen]) if chosen else None
