"""Predicted against measured: how far off a batch × k map is, and what its advice would have cost.

Round time is scored cell by cell. **Regret** is the throughput lost by following the predicted best k instead of the
measured best: the measured best is chosen on odd repeats and both are scored on even ones, so that a lucky repeat
cannot flatter either side. Where acceptance was imposed its exact mean stands in for the sampled one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from specsim.errors import InvalidInput
from specsim.results import GridRow

COLUMNS = fields(GridRow)


@dataclass(frozen=True, slots=True)
class Predicted:
    """One predicted cell: seconds of a round with their 90 % interval, tokens it commits, where the price is from."""

    batch: int
    draft_tokens: int
    round_s: float
    low_s: float
    high_s: float
    tokens_per_round: float
    source: str


@dataclass(frozen=True, slots=True)
class CellError:
    """One cell compared. ``spread`` is (largest - smallest) / median over the measured repeats."""

    predicted: Predicted
    measured_s: float
    spread: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted.round_s / self.measured_s - 1.0

    @property
    def covered(self) -> bool:
        """Whether the measurement lies in the predicted 90 % interval."""
        return self.predicted.low_s <= self.measured_s <= self.predicted.high_s


@dataclass(frozen=True, slots=True)
class Regret:
    """One batch size's decision. ``share``: throughput lost by the predicted k, as a share of the measured best's."""

    batch: int
    predicted_k: int
    measured_k: int
    share: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A whole map compared."""

    cells: tuple[CellError, ...]
    regrets: tuple[Regret, ...]

    def mean_absolute_error(self) -> float:
        return float(np.mean([abs(cell.error) for cell in self.cells]))

    def percentile_absolute_error(self, percent: float) -> float:
        return float(np.percentile([abs(cell.error) for cell in self.cells], percent))

    def coverage(self) -> float:
        """Share of cells inside their predicted 90 % interval."""
        return float(np.mean([cell.covered for cell in self.cells]))

    def worst_regret(self) -> float:
        return max(regret.share for regret in self.regrets)


def compare(predicted: Iterable[Predicted], rows: Iterable[GridRow]) -> Fidelity:
    """Score a predicted map against measured repeats.

    Raises InvalidInput if a measured cell was not predicted, or fewer than two repeats were measured.
    """
    forecast = {(p.batch, p.draft_tokens): p for p in predicted}
    measured = list(rows)
    repeats = {row.repeat for row in measured}
    if len(repeats) < 2:
        raise InvalidInput(f"{len(repeats)} repeats measured; choosing and scoring the best k needs at least 2")
    cells = []
    for key in sorted({(row.batch, row.draft_tokens) for row in measured}):
        if key not in forecast:
            raise InvalidInput(f"batch {key[0]} with k = {key[1]} was measured and not predicted; predict it too")
        seconds = [_mean_round_s(row) for row in measured if (row.batch, row.draft_tokens) == key]
        middle = float(np.median(seconds))
        cells.append(CellError(forecast[key], middle, (max(seconds) - min(seconds)) / middle))
    batches = sorted({row.batch for row in measured})
    return Fidelity(tuple(cells), tuple(_regret(batch, forecast, measured) for batch in batches))


def _mean_round_s(row: GridRow) -> float:
    return row.elapsed_s / row.rounds


def _regret(batch: int, forecast: dict[tuple[int, int], Predicted], rows: list[GridRow]) -> Regret:
    rows = [row for row in rows if row.batch == batch]
    lengths = sorted({row.draft_tokens for row in rows})

    def measured_rate(k: int, parity: int) -> float:
        seconds = [_mean_round_s(r) for r in rows if r.draft_tokens == k and r.repeat % 2 == parity]
        return forecast[batch, k].tokens_per_round / float(np.median(seconds))

    def predicted_rate(k: int) -> float:
        return forecast[batch, k].tokens_per_round / forecast[batch, k].round_s

    chosen = max(lengths, key=predicted_rate)
    best = max(lengths, key=lambda k: measured_rate(k, 1))
    return Regret(batch, chosen, best, 1.0 - measured_rate(chosen, 0) / measured_rate(best, 0))


def write_grid(path: Path, rows: Iterable[GridRow]) -> None:
    """Append measured rows to a CSV; each call is one checkpoint."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in COLUMNS], lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            values = asdict(row)
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()})


def read_grid(path: Path) -> list[GridRow]:
    """Measured rows of a CSV. Raises InvalidInput with file and line for one that cannot be read."""
    if not path.exists():
        raise InvalidInput(f"there is no {path}; measure the case first: specsim measure SCENARIO --grid")
    rows = []
    with path.open(newline="") as file:
        for line, record in enumerate(csv.DictReader(file), start=2):
            try:
                values = {f.name: int(record[f.name]) if f.type == "int" else float(record[f.name]) for f in COLUMNS}
                rows.append(GridRow(**values))  # type: ignore[arg-type]  # each column as its own type
            except (KeyError, TypeError, ValueError) as error:
                raise InvalidInput(f"{path}:{line}: {error} is missing or not a number; measure it again") from error
    if not rows:
        raise InvalidInput(f"{path} holds no rows; measure the case first: specsim measure SCENARIO --grid")
    return rows
