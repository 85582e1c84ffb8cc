"""How close a kernel comes to the roofline at any shape, from the shapes that were measured.

Kernel time = (floor + roofline time) / efficiency. The roofline uses the profile's own ceilings, so that efficiency
carries only what a shape does to a kernel; interpolating its logarithm over log shapes keeps times positive and power
laws exact. Outside the measured shapes the nearest measured efficiency is kept and the answer says "extrapolated".
"""

from __future__ import annotations

import math

import numpy as np

from specsim.cost.forward import Source
from specsim.profiles.grid import Surface
from specsim.profiles.schema import HeldoutError, Row


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
