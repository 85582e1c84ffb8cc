"""A predicted batch × k map against a measured one: how far off, where the error sits, what the advice costs.

Round time is scored cell by cell. **Regret** is the throughput lost by following the predicted best k instead of the
measured best: the measured best is chosen on odd repeats and both are scored on even ones, so that a lucky repeat
cannot flatter either side. Where acceptance was imposed its exact mean stands in for the sampled one; where it is
real, the tokens that the run counted do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from specsim.arrays import Floats
from specsim.errors import InvalidInput
from specsim.fidelity.bootstrap import Range, error_range, mean_absolute, noise, percentile_absolute, spread
from specsim.results import GridRow


@dataclass(frozen=True, slots=True)
class Predicted:
    """One predicted cell: seconds of a round with their 90 % interval, tokens it commits, where the price is from.

    ``parts``: seconds by the cost model's parts; empty where nobody wrote them down. ``speedup_low`` and ``_high``:
    the 90 % interval of the speed-up, acceptance's own error in it; None likewise.
    """

    batch: int
    draft_tokens: int
    round_s: float
    low_s: float
    high_s: float
    tokens_per_round: float
    source: str
    parts: Mapping[str, float] = field(default_factory=dict)
    speedup_low: float | None = None
    speedup_high: float | None = None


@dataclass(frozen=True, slots=True)
class CellError:
    """One cell compared; ``repeats_s`` [repeats, NaN where one is missing] are mean rounds, measured their median."""

    predicted: Predicted
    repeats_s: Floats

    @property
    def measured_s(self) -> float:
        return float(np.nanmedian(self.repeats_s))

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted.round_s / self.measured_s - 1.0

    @property
    def spread(self) -> float:
        """(Largest - smallest) / median over the repeats; 0 of a single one."""
        return spread(self._present) or 0.0

    @property
    def noise(self) -> float | None:
        """Half of the 90 % interval of the repeats' mean, as a share of it; None of a single one."""
        return noise(self._present)

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the predicted 90 % interval."""
        return self.predicted.low_s <= self.measured_s <= self.predicted.high_s

    @property
    def _present(self) -> Floats:
        return self.repeats_s[~np.isnan(self.repeats_s)]


@dataclass(frozen=True, slots=True)
class Regret:
    """One batch size's decision. ``share``: throughput lost by the predicted k, as a share of the measured best's."""

    batch: int
    predicted_k: int
    measured_k: int
    share: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Maps compared: one, or several together."""

    cells: tuple[CellError, ...]
    regrets: tuple[Regret, ...]

    def mean_absolute_error(self) -> float:
        return float(np.mean([abs(cell.error) for cell in self.cells]))

    def mean_error(self) -> float:
        """The signed mean: what is left of it is bias."""
        return float(np.mean([cell.error for cell in self.cells]))

    def percentile_absolute_error(self, percent: float) -> float:
        return float(np.percentile([abs(cell.error) for cell in self.cells], percent))

    def mean_range(self) -> Range:
        """The 90 % bootstrap interval of the mean |error|, over cells and repeats."""
        return error_range(*self._arrays(), mean_absolute)

    def percentile_range(self, percent: float) -> Range:
        """The 90 % bootstrap interval of a percentile of |error|."""
        return error_range(*self._arrays(), percentile_absolute(percent))

    def covered(self) -> int:
        """Cells inside their predicted 90 % interval."""
        return sum(cell.covered for cell in self.cells)

    def coverage(self) -> float:
        """Share of cells inside their predicted 90 % interval."""
        return self.covered() / len(self.cells)

    def worst_regret(self) -> float:
        """0 where no decision was measured in both odd and even repeats."""
        return max((regret.share for regret in self.regrets), default=0.0)

    def noisier_than(self, bar: float) -> int:
        """Cells whose repeats do not tell the round time to within ``bar``: they need more repeats."""
        return sum(cell.noise is None or cell.noise > bar for cell in self.cells)

    def _arrays(self) -> tuple[Floats, Floats]:
        longest = max(cell.repeats_s.size for cell in self.cells)
        padded = [np.pad(c.repeats_s, (0, longest - c.repeats_s.size), constant_values=np.nan) for c in self.cells]
        return np.array([cell.predicted.round_s for cell in self.cells]), np.array(padded)


def together(maps: Sequence[Fidelity]) -> Fidelity:
    """Several maps as one, every cell with the same weight."""
    return Fidelity(
        tuple(cell for one in maps for cell in one.cells), tuple(regret for one in maps for regret in one.regrets)
    )


def compare(predicted: Iterable[Predicted], rows: Iterable[GridRow], *, counted: bool = False) -> Fidelity:
    """Score a predicted map against measured repeats; ``counted``: acceptance was real.

    Raises InvalidInput if a measured cell was not predicted, or fewer than two repeats were measured.
    """
    forecast = {(p.batch, p.draft_tokens): p for p in predicted}
    measured = list(rows)
    repeats = sorted({row.repeat for row in measured})
    if len(repeats) < 2:
        raise InvalidInput(f"{len(repeats)} repeats measured; choosing and scoring the best k needs at least 2")
    cells: dict[tuple[int, int], Floats] = {}
    for row in measured:
        seconds = cells.setdefault((row.batch, row.draft_tokens), np.full(len(repeats), np.nan))
        seconds[repeats.index(row.repeat)] = mean_round_s(row)
    missing = next((key for key in sorted(cells) if key not in forecast), None)
    if missing is not None:
        batch, k = missing
        raise InvalidInput(f"batch {batch} with k = {k} was measured and not predicted; predict it too")
    batches = sorted({row.batch for row in measured})
    tokens = {key: cell.tokens_per_round for key, cell in forecast.items()}
    if counted:
        tokens |= counted_tokens(measured)
    return Fidelity(
        tuple(CellError(forecast[key], cells[key]) for key in sorted(cells)),
        tuple(_regret(batch, forecast, measured, tokens) for batch in batches if _told_twice(batch, measured)),
    )


def mean_round_s(row: GridRow) -> float:
    """Seconds of a cell's mean round in one repeat."""
    return row.elapsed_s / row.rounds


def plain_rounds(row: GridRow) -> float | None:
    """A cell's mean round in plain rounds of the same moments; None where none took turns with it."""
    return None if row.plain_s is None else mean_round_s(row) / row.plain_s


def counted_tokens(rows: Iterable[GridRow]) -> dict[tuple[int, int], float]:
    """Tokens that a sequence's round committed, over all repeats, by (batch, k)."""
    tokens: dict[tuple[int, int], tuple[int, int]] = {}
    for row in rows:
        output, rounds = tokens.get((row.batch, row.draft_tokens), (0, 0))
        tokens[row.batch, row.draft_tokens] = output + row.output_tokens, rounds + row.rounds * row.batch
    return {cell: output / rounds for cell, (output, rounds) in tokens.items()}


def _told_twice(batch: int, rows: Sequence[GridRow]) -> bool:
    """Whether odd and even repeats have every draft length of a batch size that any of them has."""
    odd, even = (
        {row.draft_tokens for row in rows if row.batch == batch and row.repeat % 2 == parity} for parity in (1, 0)
    )
    return odd == even


def _regret(
    batch: int,
    forecast: Mapping[tuple[int, int], Predicted],
    rows: Sequence[GridRow],
    tokens: Mapping[tuple[int, int], float],
) -> Regret:
    """``tokens``: that a measured round commits."""
    rows = [row for row in rows if row.batch == batch]
    lengths = sorted({row.draft_tokens for row in rows})

    def measured_rate(k: int, parity: int) -> float:
        cells = [row for row in rows if row.draft_tokens == k and row.repeat % 2 == parity]
        return tokens[batch, k] / float(np.median([plain_rounds(row) or mean_round_s(row) for row in cells]))

    def predicted_rate(k: int) -> float:
        return forecast[batch, k].tokens_per_round / forecast[batch, k].round_s

    chosen = max(lengths, key=predicted_rate)
    best = max(lengths, key=lambda k: measured_rate(k, 1))
    return Regret(batch, chosen, best, 1.0 - measured_rate(chosen, 0) / measured_rate(best, 0))
