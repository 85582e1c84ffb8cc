"""When requests arrive. Every process draws from the generator it is given and nothing else.

An open-loop process is a renewal process of mean gap 1 (exponential gaps, or Gamma ones of a coefficient of variation)
whose clock runs at the rate of the moment: arrival i is at the time where the integral of the rate reaches its unit
time. Its times come in blocks of any size, so that a run of millions never holds them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from specsim.arrays import Floats
from specsim.validated import Validated

RequestRate = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
CoefficientOfVariation = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
DAY_S = 86_400.0


class _OpenLoop(Validated, ABC):
    @abstractmethod
    def _gaps(self, count: int, generator: np.random.Generator) -> Floats:
        """Gaps of mean 1."""

    @abstractmethod
    def _clock_s(self, unit: Floats) -> Floats:
        """Floats at which the expected number of arrivals reaches ``unit``."""

    @abstractmethod
    def mean_rate_per_s(self) -> float:
        """Arrivals per second over the long run."""

    def faster(self, factor: float) -> Self:
        """The same process with every rate ``factor`` times as high; periods and pieces last as long as before."""
        return type(self).model_validate(self.model_dump() | self._rates(factor))

    def _rates(self, factor: float) -> dict[str, Any]:
        return {"rate_per_s": factor * self.mean_rate_per_s()}

    def blocks_s(self, size: int, generator: np.random.Generator) -> Iterator[Floats]:
        """Arrival times in endless consecutive blocks of shape [size], ascending; the same whatever the size."""
        reached = 0.0
        while True:
            gaps = self._gaps(size, generator)
            gaps[0] += reached
            unit = np.cumsum(gaps)
            reached = float(unit[-1])
            yield self._clock_s(unit)

    def times_s(self, count: int, generator: np.random.Generator) -> Floats:
        """The first ``count`` arrival times, ascending."""
        return next(self.blocks_s(count, generator)) if count else np.zeros(0)


class PoissonArrivals(_OpenLoop):
    """Exponential gaps."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: RequestRate

    def _gaps(self, count: int, generator: np.random.Generator) -> Floats:
        return generator.exponential(1.0, count)

    def _clock_s(self, unit: Floats) -> Floats:
        return unit / self.rate_per_s

    def mean_rate_per_s(self) -> float:
        return self.rate_per_s


class _GammaGaps(_OpenLoop):
    """``cv`` is the gaps' coefficient of variation: 1 is Poisson, above is bursty."""

    cv: CoefficientOfVariation = 1.0

    def _gaps(self, count: int, generator: np.random.Generator) -> Floats:
        if self.cv == 1.0:
            return generator.exponential(1.0, count)
        shape = 1.0 / self.cv**2
        return generator.gamma(shape, 1.0 / shape, count)


class GammaArrivals(_GammaGaps):
    """Gamma gaps of mean 1/rate and coefficient of variation ``cv``."""

    kind: Literal["gamma"] = "gamma"
    rate_per_s: RequestRate
    cv: CoefficientOfVariation

    def _clock_s(self, unit: Floats) -> Floats:
        return unit / self.rate_per_s

    def mean_rate_per_s(self) -> float:
        return self.rate_per_s


class PiecewiseArrivals(_GammaGaps):
    """A rate that steps through ``(duration_s, rate_per_s)`` pieces and starts over after the last."""

    kind: Literal["piecewise"] = "piecewise"
    pieces: tuple[tuple[Seconds, Annotated[NonNegativeFloat, Field(le=1e9)]], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some_rate(self) -> PiecewiseArrivals:
        if not any(rate for _, rate in self.pieces):
            raise ValueError("every piece has rate 0; at least one must be positive")
        return self

    def _clock_s(self, unit: Floats) -> Floats:
        return _through_pieces(unit, np.array([d for d, _ in self.pieces]), np.array([r for _, r in self.pieces]))

    def mean_rate_per_s(self) -> float:
        return sum(d * r for d, r in self.pieces) / sum(d for d, _ in self.pieces)

    def _rates(self, factor: float) -> dict[str, Any]:
        return {"pieces": [(duration_s, factor * rate) for duration_s, rate in self.pieces]}


class DiurnalArrivals(_GammaGaps):
    """A rate that repeats each ``period_s`` about its mean ``rate_per_s``.

    ``amplitude`` A: the rate is rate_per_s·(1 + A·cos(2π(t - peak_s)/period_s)). ``factors``: equal parts of the
    period (24 of a day are hours), scaled so that their mean is 1. One of the two.
    """

    kind: Literal["diurnal"] = "diurnal"
    rate_per_s: RequestRate
    period_s: Seconds = DAY_S
    amplitude: float | None = Field(None, ge=0, le=1)
    peak_s: float = Field(0.0, ge=-1e9, le=1e9, allow_inf_nan=False)
    factors: tuple[Annotated[NonNegativeFloat, Field(le=1e9)], ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_shape(self) -> DiurnalArrivals:
        if (self.amplitude is None) is (self.factors is None):
            raise ValueError("diurnal arrivals take amplitude or factors; give one of them")
        if self.factors is not None and not any(self.factors):
            raise ValueError("every factor is 0; at least one must be positive")
        if self.factors is not None and self.peak_s:
            raise ValueError("peak_s goes with amplitude; turn the factors round instead")
        return self

    def _clock_s(self, unit: Floats) -> Floats:
        if self.factors is not None:
            factors = np.array(self.factors)
            durations = np.full(len(factors), self.period_s / len(factors))
            return _through_pieces(unit, durations, self.rate_per_s * factors / factors.mean())
        cycles, rest = np.divmod(unit / (self.rate_per_s * self.period_s), 1.0)
        return self.period_s * (cycles + _inverse_of_wave(rest, self.amplitude or 0.0, self.peak_s / self.period_s))

    def mean_rate_per_s(self) -> float:
        return self.rate_per_s


class ClosedLoopArrivals(Validated):
    """``concurrency`` clients, each sending its next request a think time after its last one finished.

    Think times are ``think_s``, or exponential of that mean. Every client's first request is sent at 0.
    """

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: PositiveInt
    think_s: Annotated[NonNegativeFloat, Field(le=1e9)] = 0.0
    think: Literal["fixed", "exponential"] = "fixed"

    def think_times_s(self, count: int, generator: np.random.Generator) -> Floats:
        """Think times before the next ``count`` requests."""
        if self.think == "fixed":
            return np.full(count, self.think_s)
        return generator.exponential(self.think_s, count)


OpenArrivals = PoissonArrivals | GammaArrivals | PiecewiseArrivals | DiurnalArrivals
Arrivals = Annotated[OpenArrivals | ClosedLoopArrivals, Field(discriminator="kind")]


def _through_pieces(unit: Floats, durations_s: Floats, rates_per_s: Floats) -> Floats:
    """The inverse of the cumulative rate of pieces that repeat."""
    clock = np.concatenate(([0.0], np.cumsum(durations_s)))
    mass = np.concatenate(([0.0], np.cumsum(durations_s * rates_per_s)))
    cycles, rest = np.divmod(unit, mass[-1])
    return np.asarray(cycles * clock[-1] + np.interp(rest, mass, clock))


def _inverse_of_wave(mass: Floats, amplitude: float, peak: float) -> Floats:
    """x in [0, 1] with x + A/(2π)·(sin(2π(x - peak)) + sin(2π·peak)) = mass, by bisection to the last digit.

    Newton's method would crawl at amplitude 1, where the rate touches 0.
    """
    turn = 2 * np.pi
    low, high = np.zeros_like(mass), np.ones_like(mass)
    for _ in range(53):
        middle = (low + high) / 2
        reached = middle + amplitude / turn * (np.sin(turn * (middle - peak)) + np.sin(turn * peak))
        below = reached < mass
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
