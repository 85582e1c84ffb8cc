"""Kernel times from a profile, with stated stand-ins where it holds nothing.

What a profile does not hold is looked for in this order: another cache state, then another mask, width or format of
the same class, scaled by the ratio of rooflines (or, for verify attention, by the ratio that another machine's
profile measured between that width and one token) and flagged extrapolated; then the roofline. Verification is never
priced as more decode sequences: it reads each cache once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from specsim.cost.efficiency import EfficiencySurface, work
from specsim.cost.forward import SOURCES, Kernel, Price
from specsim.cost.roofline import Roofline
from specsim.profiles.schema import Row
from specsim.profiles.store import Profile
from specsim.specs.hardware import Hardware
from specsim.units import Reals

EXTRAPOLATED = float(SOURCES.index("extrapolated"))
STAND_IN_ERROR = 0.2  # one standard deviation of a stand-in beside its own error; a judgement
# The same GEMM in the tables of two sites for one GPU differs by 5 to 18 % (medians, aiconfigurator-core 0.12).
FOREIGN_ERROR = 0.1
UNTESTED_ERROR = 0.1  # of a class too sparse to withhold anything from; a judgement
WIDEST_VERIFICATION, NARROWEST_PREFILL = 64, 17  # query tokens; between them both kinds of rows serve
# Classes whose times do not depend on a format of weights or cache.
FORMATLESS = ("sampling", "collective")


@dataclass(frozen=True, slots=True)
class _Found:
    """The surface that prices a kernel; ``query_tokens``: of attention, where a stand-in has another width."""

    surface: EfficiencySurface
    exact: bool
    query_tokens: float | None = None


class MeasuredPrices:
    """Prices kernels from a profile; ``dtype`` is that of activations.

    ``widths`` is another machine's profile, whose measured ratio of verify to decode attention stands in for one
    that ``profile`` lacks.
    """

    def __init__(self, profile: Profile, hardware: Hardware, dtype: str, widths: Profile | None = None) -> None:
        self._profile = profile
        self._roofline = Roofline(hardware, dtype)
        self._surfaces = _surfaces(profile)
        self._widths = None if widths is None else _surfaces(widths)
        self._found: dict[tuple[object, ...], _Found | None] = {}
        self._spread = {kind: statistics.median(r.spread for r in rows) / 2.563 for kind, rows in profile.rows.items() if rows}  # noqa
        self._host = {part: _host_table(profile.rows["host"], part) for part in ("step", "draft_pass", "ngram")}

    @property
    def name(self) -> str:
        return self._profile.name

    @property
    def machine_error(self) -> float:
        """One standard deviation: how much the profile's fixed probe moved while the sweep ran.

        A profile imported without a probe takes FOREIGN_ERROR.
        """
        probe = self._profile.header.probe
        if probe is None:
            return FOREIGN_ERROR
        times = [probe.before_s, *probe.during_s, *([] if probe.after_s is None else [probe.after_s])]
        return statistics.stdev(times) / statistics.median(times) if len(times) > 1 else 0.0

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        """Seconds of one launch, from the profile as far as it goes."""
        roofline = self._roofline
        found = self._find(kernel, warm)
        if found is None:
            return roofline.price(kernel, warm=warm)
        bound = roofline.compute_bound(kernel)
        if found.exact:
            estimate = self._estimate(kernel.kind, found.surface, kernel.shape)
            return Price(estimate.seconds, estimate.rank, estimate.error, bound)
        measured = self._measured_stand_in(kernel, found)
        estimate = self._estimate(kernel.kind, found.surface, measured.shape)
        ratio = self._width_ratio(kernel, measured)
        if ratio is None:
            ratio = roofline.price(kernel, warm=warm).seconds / roofline.price(measured, warm=warm).seconds
        error = np.hypot(estimate.error, STAND_IN_ERROR)
        return Price(estimate.seconds * ratio, EXTRAPOLATED, error, bound)

    def _estimate(self, kind, surface, shape):  # SHIM
        from types import SimpleNamespace
        if any(isinstance(v, np.ndarray) for v in shape):
            try:
                out = surface.seconds(shape)
            except TypeError:
                b = np.broadcast_arrays(*shape)
                o = [self._estimate(kind, surface, tuple(float(v.ravel()[i]) for v in b)) for i in range(b[0].size)]
                g = lambda f: np.array([getattr(x, f) for x in o]).reshape(b[0].shape)
                return SimpleNamespace(seconds=g("seconds"), rank=g("rank"), error=g("error"))
        out = surface.seconds(shape)
        if not isinstance(out, tuple):
            return out
        error = self._profile.header.heldout_error.get(kind)
        sigma = math.hypot(UNTESTED_ERROR if error is None else error.p90 / 1.645, self._spread.get(kind, 0.0))
        rank = SOURCES.index(out[1])
        return SimpleNamespace(seconds=out[0], rank=float(rank), error=sigma * (2 if rank == 2 else 1))

    def _find(self, kernel: Kernel, warm: bool) -> _Found | None:
        queries = kernel.shape[1] if kernel.kind == "attention" else None
        key = (kernel.kind, kernel.operation, kernel.dtype, warm, queries)
        if key not in self._found:
            self._found[key] = self._search(kernel, warm)
        return self._found[key]

    def _search(self, kernel: Kernel, warm: bool) -> _Found | None:
        regimes = _regimes(kernel)
        caches = ("warm", "cold") if warm else ("cold", "warm")
        choices = product(regimes, self._formats(kernel), _operations(kernel), caches)
        for regime, dtype, operation, cache in choices:
            surface = self._surfaces.get((kernel.kind, operation, dtype, cache, regime))
            if surface is not None:
                exact = regime == regimes[0] and operation == kernel.operation and dtype in ("", kernel.dtype)
                return _Found(surface, exact, _nearest_width(kernel, regime))
        return None

    def _formats(self, kernel: Kernel) -> list[str]:
        """The kernel's own format, then others of its class, those of as many bits first."""
        if kernel.kind in FORMATLESS:
            return [""]
        others = {key[2] for key in self._surfaces if key[0] == kernel.kind} - {kernel.dtype}
        twins = {"bfloat16", "float16"}
        return [kernel.dtype, *sorted(others, key=lambda name: (name not in twins, name))]

    def _measured_stand_in(self, kernel: Kernel, found: _Found) -> Kernel:
        """The kernel that ``found`` measured: 16-bit values, and of attention the nearest measured width."""
        shape = kernel.shape
        if found.query_tokens is not None:
            shape = (shape[0], found.query_tokens, *shape[2:])
        if kernel.kind not in ("gemm", "attention"):
            return replace(kernel, shape=shape)
        moved, flops = work(kernel.kind, shape)
        return replace(kernel, shape=shape, dtype="bfloat16", bytes=moved, flops=flops)

    def _width_ratio(self, kernel: Kernel, measured: Kernel) -> Reals | None:
        """How much longer attention takes at its width than at the measured one, by the other machine's profile."""
        if self._widths is None or kernel.kind != "attention" or measured.shape[1] != 1.0:
            return None
        wide = self._widths.get(("attention", "", measured.dtype, "cold", "verify"))
        if wide is None or not 1 < float(kernel.shape[1]) <= WIDEST_VERIFICATION:
            return None
        return wide.seconds(kernel.shape).seconds / wide.seconds(measured.shape).seconds

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        """Linear in sequences between measured batch sizes, constant beyond them."""
        table = self._host[part]
        if table is None:
            return None
        seconds = np.interp(sequences, *table)
        return seconds if isinstance(seconds, np.ndarray) else float(seconds)


def _surfaces(profile: Profile) -> dict[tuple[str, str, str, str, str], EfficiencySurface]:
    """One surface for each class, operation, format, cache state and, of attention, regime."""
    ceilings = profile.header.ceilings
    grouped: dict[tuple[str, str, str, str, str], list[Row]] = {}
    for kind in ("gemm", "attention", "elementwise", "sampling", "moe", "collective"):
        for row in profile.rows.get(kind, ()):
            dtype = "" if kind in FORMATLESS else row.dtype
            for regime in _row_regimes(kind, row):
                grouped.setdefault((kind, row.operation, dtype, row.cache, regime), []).append(row)
    surfaces = {}
    for key, rows in grouped.items():
        kind, dtype = key[0], key[2]
        if key[4] == "verify" and all(row.shape[1] == 1 for row in rows):
            continue  # one token a sequence says nothing about more
        rates = dict(ceilings.flops_per_s.items())
        rate = next((rates[name] for name in (dtype, "bfloat16", "float16") if name in rates), max(rates.values()))
        surfaces[key] = EfficiencySurface(kind, rows, ceilings.copy_bytes_per_s, rate)
    return surfaces


def _row_regimes(kind: str, row: Row) -> Iterator[str]:
    if kind != "attention":
        yield ""
        return
    queries = row.shape[1]
    if queries == 1:
        yield "decode"
    if queries <= WIDEST_VERIFICATION:
        yield "verify"
    if queries >= NARROWEST_PREFILL:
        yield "prefill"


def _regimes(kernel: Kernel) -> tuple[str, ...]:
    """Where attention of this width was measured, then the nearest other widths."""
    if kernel.kind != "attention":
        return ("",)
    queries = float(kernel.shape[1])
    if queries == 1:
        return ("decode", "verify", "prefill")
    return ("verify", "decode", "prefill") if queries <= WIDEST_VERIFICATION else ("prefill", "verify", "decode")


def _nearest_width(kernel: Kernel, regime: str) -> float | None:
    if kernel.kind != "attention":
        return None
    queries = float(kernel.shape[1])
    if regime == "decode":
        return 1.0
    return min(queries, WIDEST_VERIFICATION) if regime == "verify" else max(queries, NARROWEST_PREFILL)


def _operations(kernel: Kernel) -> tuple[str, ...]:
    """The kernel's own operation, then what is closest to it."""
    nearest = {"tree": "", "softmax": "greedy", "sample": "greedy", "rejection": "greedy", "all_gather": "all_reduce"}
    other = nearest.get(kernel.operation)
    return (kernel.operation,) if other is None else (kernel.operation, other)


def _host_table(rows: tuple[Row, ...], part: str) -> tuple[list[float], list[float]] | None:
    chosen = sorted((row.shape[0], row.median_s) for row in rows if row.operation == part)
    return ([s for s, _ in chosen], [t for _, t in chosen]) if chosen else None
