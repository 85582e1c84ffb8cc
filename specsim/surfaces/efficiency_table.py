"""A surface's answers for one matrix or head layout, tabulated over the dimensions that change from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from specsim.arrays import Booleans, Floats, Integers
from specsim.surfaces.estimates import EXTRAPOLATED, INTERPOLATED, MEASURED
from specsim.surfaces.look_up import LookUp


class EfficiencyTable:
    """Log efficiencies, or log times, over the running dimensions of one matrix or head layout, their errors, and what
    was measured.

    Beyond the nodes the error grows, by once itself a correlation length. ``outside``: the fixed dimensions are beyond
    those measured.
    """

    def __init__(self, look_up: LookUp, exact: Booleans, nodes: Sequence[Floats], *, outside: bool) -> None:
        self._look_up, self._exact, self._outside = look_up, exact, outside
        self._ends = [(math.exp(axis[0]), math.exp(axis[-1])) for axis in nodes]

    def inside(self, running: tuple[Any, ...]) -> tuple[Any, ...]:
        """Running dimensions, those beyond the nodes at the nearest end; the same object where none is."""
        if any(isinstance(value, np.ndarray) for value in running):
            return tuple(np.clip(value, *ends) for value, ends in zip(running, self._ends, strict=True))
        if all(low <= value <= high for value, (low, high) in zip(running, self._ends, strict=True)):
            return running
        return tuple(min(max(value, low), high) for value, (low, high) in zip(running, self._ends, strict=True))

    def one(self, logs: list[float]) -> tuple[float, float, int]:
        """Value, error and rank at one place, given by its logs."""
        (value, error), beyond, node = self._look_up.one(logs)
        if beyond or self._outside:
            return value, error * (1.0 + beyond), EXTRAPOLATED
        return value, error, MEASURED if node >= 0 and self._exact[node] else INTERPOLATED

    def many(self, logs: list[Floats]) -> tuple[Floats, Floats, Integers]:
        """The same at many: arrays of logs that broadcast."""
        (value, error), beyond, node = self._look_up.many(logs)
        rank = np.where((node >= 0) & self._exact[node], MEASURED, INTERPOLATED)
        rank = np.where((beyond > 0) | self._outside, EXTRAPOLATED, rank)
        return value, np.asarray(error * (1.0 + beyond)), rank
