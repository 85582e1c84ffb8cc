"""What a cell of the map says, in the measures that people compare by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from specsim.analytic.speedups import Cell
from specsim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Measure:
    """``of``: its value in a cell; ``form``: how it is written, as ``format`` takes it."""

    name: str
    unit: str
    form: str
    of: Callable[[Cell], float]

    def text(self, cell: Cell) -> str:
        """The value as it is written."""
        return format(self.of(cell), self.form)


SPEEDUP = Measure("Speed-up", "x", ".2f", lambda cell: cell.speedup)


def measures(scenario: Scenario) -> dict[str, Measure]:
    """Those that the scenario tells, by name: cost only where it says what a GPU costs.

    In steady service each of B requests gets a token every B / (output tokens/s) seconds in the mean. A replica's
    tokens a second are shared by the GPUs of its tensor parallelism; of these, USD an hour make USD a million tokens.
    """
    gpus, usd = scenario.deployment.tensor_parallel, scenario.usd_per_gpu_hour
    found = [
        SPEEDUP,
        Measure("TPOT", "ms", ".3g", lambda cell: 1e3 * cell.batch / cell.output_tokens_per_s),
        Measure("Output tokens/s/GPU", "", ",.0f", lambda cell: cell.output_tokens_per_s / gpus),
    ]
    if usd is not None:
        found.append(
            Measure(
                "Cost",
                "USD per 1M output tokens",
                "#.3g",
                lambda cell: usd * gpus * 1e6 / (3600 * cell.output_tokens_per_s),
            )
        )
    return {one.name: one for one in found}
