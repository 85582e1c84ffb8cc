"""Kernel times from a profile: (floor + roofline time) / efficiency, efficiency interpolated between measured shapes.

The roofline here uses the profile's own ceilings, so that efficiency carries only what a shape does to a kernel.
Interpolating its logarithm over log shapes keeps times positive and power laws exact. Outside the measured shapes
the nearest measured efficiency is kept and the answer says "extrapolated".
"""

from __future__ import annotations

import math
import statistics
from functools import lru_cache

import numpy as np

from specsim.cost.forward import Kernel, Price, Source
from specsim.cost.roofline import Roofline
from specsim.profiles.grid import Surface
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


class EfficiencySurface:
    """One kernel's efficiency over its shapes."""

    def __init__(self, kind: str, rows: list[Row], bytes_per_s: float, flops_per_s: float) -> None:
        self._kind = kind
        self._rates = (bytes_per_s, flops_per_s)
        self._floor_s = min(row.median_s for row in rows)
        points = np.array([coordinates(kind, row.shape) for row in rows])
        log_efficiency = [math.log(self._ideal_s(row.shape) / row.median_s) for row in rows]
        self._surface = Surface(points, np.array(log_efficiency))

    def seconds(self, shape: tuple[float, ...]) -> tuple[float, Source]:
        """Seconds of one launch and how they were found."""
        estimate = self._surface.at(coordinates(self._kind, shape))
        source: Source = "measured" if estimate.exact else "interpolated" if estimate.inside else "extrapolated"
        return self._ideal_s(shape) / math.exp(estimate.value), source

    def _ideal_s(self, shape: tuple[float, ...]) -> float:
        moved, computed = work(self._kind, shape)
        bytes_per_s, flops_per_s = self._rates
        return self._floor_s + max(moved / bytes_per_s, computed / flops_per_s)


def coordinates(kind: str, shape: tuple[float, ...]) -> tuple[float, ...]:
    """Interpolation axes of a shape, densest last.

    Attention kernels see (head size, rows a KV head, KV heads in flight, keys): grouped queries ride along with
    their KV head as extra rows, so any head layout lands between measured ones.
    """
    if kind == "gemm":
        m, n, k = shape
        return k, n, m
    if kind == "attention":
        sequences, query_tokens, kv_tokens, num_heads, num_kv_heads, head_dim = shape
        return head_dim, query_tokens * num_heads / num_kv_heads, sequences * num_kv_heads, kv_tokens
    return tuple(reversed(shape))


def work(kind: str, shape: tuple[float, ...]) -> tuple[float, float]:
    """(bytes, FLOPs) that scale a class's times; 2-byte values. Constant factors cancel in the efficiency."""
    if kind == "gemm":
        m, n, k = shape
        return 2.0 * (n * k + m * (n + k)), 2.0 * m * n * k
    if kind == "attention":
        sequences, query_tokens, kv_tokens, num_heads, num_kv_heads, head_dim = shape
        moved = 4.0 * sequences * head_dim * (kv_tokens * num_kv_heads + query_tokens * num_heads)
        return moved, 4.0 * sequences * query_tokens * kv_tokens * num_heads * head_dim
    size = shape[0] * shape[1]
    return 4.0 * size, 0.0


def _host_surface(rows: tuple[Row, ...], part: str) -> tuple[list[float], list[float]] | None:
    chosen = sorted((row.shape[0], row.median_s) for row in rows if row.operation == part)
    return ([s for s, _ in chosen], [t for _, t in chosen]) if chosen else None


def heldout_error(
    kind: str, rows: tuple[Row, ...], bytes_per_s: float, flops_per_s: dict[str, float]
) -> HeldoutError | None:
    """Error of predicting every interior value of every axis from a profile without it; None if there is none.

    A whole level is withheld at a time (every row with that N, say), so neighbours are twice as far as in use.
    """
    errors: list[float] = []
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.operation, row.dtype, row.cache), []).append(row)
    for (_, dtype, _), members in groups.items():
        rate = flops_per_s.get(dtype, max(flops_per_s.values()))
        points = np.array([coordinates(kind, row.shape) for row in members])
        for axis in range(points.shape[1]):
            for level in np.unique(points[:, axis])[1:-1]:
                held = points[:, axis] == level
                kept = [row for row, out in zip(members, held, strict=True) if not out]
                surface = EfficiencySurface(kind, kept, bytes_per_s, rate)
                for row, out in zip(members, held, strict=True):
                    if out:
                        seconds, source = surface.seconds(row.shape)
                        if source != "extrapolated":
                            errors.append(abs(seconds / row.median_s - 1.0))
    if not errors:
        return None
    return HeldoutError(median=float(np.median(errors)), p90=float(np.percentile(errors, 90)), n=len(errors))
