"""When requests arrive. Every process draws from the generator it is given and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


class _Arrivals(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PoissonArrivals(_Arrivals):
    """Exponential gaps."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: PositiveFloat

    def times_s(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Arrival times, shape [count], ascending."""
        return np.cumsum(generator.exponential(1.0 / self.rate_per_s, count))


class GammaArrivals(_Arrivals):
    """Gamma gaps of mean 1/rate and coefficient of variation ``cv`` (1 is Poisson, above is bursty)."""

    kind: Literal["gamma"] = "gamma"
    rate_per_s: PositiveFloat
    cv: PositiveFloat

    def times_s(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        shape = 1.0 / self.cv**2
        return np.cumsum(generator.gamma(shape, 1.0 / (shape * self.rate_per_s), count))


class PiecewiseArrivals(_Arrivals):
    """Poisson whose rate steps through ``(duration_s, rate_per_s)`` pieces and starts over after the last."""

    kind: Literal["piecewise"] = "piecewise"
    pieces: tuple[tuple[PositiveFloat, NonNegativeFloat], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _some_rate(self) -> PiecewiseArrivals:
        if not any(rate for _, rate in self.pieces):
            raise ValueError("every piece has rate 0; at least one must be positive")
        return self

    def times_s(self, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Unit-rate arrivals mapped through the inverse of the cumulative rate."""
        durations = np.array([d for d, _ in self.pieces])
        expected = durations * np.array([r for _, r in self.pieces])
        clock = np.concatenate(([0.0], np.cumsum(durations)))
        mass = np.concatenate(([0.0], np.cumsum(expected)))
        unit = np.cumsum(generator.exponential(1.0, count))
        cycles, rest = np.divmod(unit, mass[-1])
        return np.asarray(cycles * clock[-1] + np.interp(rest, mass, clock))


class ClosedLoopArrivals(_Arrivals):
    """``concurrency`` clients, each sending its next request ``think_s`` after the last one finished."""

    kind: Literal["closed_loop"] = "closed_loop"
    concurrency: PositiveInt
    think_s: NonNegativeFloat = 0.0


Arrivals = Annotated[
    PoissonArrivals | GammaArrivals | PiecewiseArrivals | ClosedLoopArrivals, Field(discriminator="kind")
]
