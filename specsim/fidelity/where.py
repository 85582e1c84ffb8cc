"""Where a round's error sits: in the target's pass, in drafting, in sampling, or in the host.

Both sides are cut alike. The cost model bills the host time that drafting adds as drafting, and a profile holds it as
the difference to a round without drafts; so of a measured round, host time above that of the same batch at k = 0
counts as drafting. A cell's parts are medians over its rounds and its round is a mean: what lies between them is
``slow rounds``, which no prediction has. Contributions, (predicted - measured) / measured round, add up to the error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.fidelity.map_errors import CellError, Fidelity
from specsim.results import GridRow

TARGET, DRAFT, SAMPLE, HOST, SLOW = "target", "draft", "sample", "host", "slow rounds"
PARTS = (TARGET, DRAFT, SAMPLE, HOST, SLOW)
# The cost model's parts by the measured one that holds them.
_BILLED = {
    "verify": TARGET,
    "gemm": TARGET,
    "lm_head": TARGET,
    "attention": TARGET,
    "elementwise": TARGET,
    "communication": TARGET,
    "draft": DRAFT,
    "sampling": SAMPLE,
    "host": HOST,
}
_FITTED = {
    "matrix products": ("gemm", "lm_head"),
    "attention": ("attention",),
    "elementwise": ("elementwise",),
    "communication": ("communication",),
}


@dataclass(frozen=True, slots=True)
class CellParts:
    """One cell's seconds by part, predicted and measured."""

    cell: CellError
    predicted_s: dict[str, float]
    measured_s: dict[str, float]

    @property
    def verified_tokens(self) -> int:
        """Tokens in the target's pass: batch × (k + 1)."""
        return self.cell.predicted.batch * (self.cell.predicted.draft_tokens + 1)

    def contribution(self, part: str) -> float:
        """(Predicted - measured) seconds of the part as a share of the measured round."""
        return (self.predicted_s[part] - self.measured_s[part]) / self.cell.measured_s

    def error(self, part: str) -> float | None:
        """Predicted / measured - 1 of the part itself; None where nothing was measured."""
        return self.predicted_s[part] / self.measured_s[part] - 1.0 if self.measured_s[part] > 0 else None


@dataclass(frozen=True, slots=True)
class PartSummary:
    """One part over several cells; shares are of the measured round."""

    part: str
    share: float  # mean
    contribution: float  # mean, signed
    absolute: float  # mean of |contribution|
    error: float | None  # of the part's seconds over all cells


def cell_parts(fidelity: Fidelity, rows: Iterable[GridRow]) -> list[CellParts]:
    """Every cell whose prediction names its parts, whose measurement tells them apart, and whose batch was also
    measured at k = 0.
    """
    by_cell: dict[tuple[int, int], list[GridRow]] = {}
    for row in rows:
        by_cell.setdefault((row.batch, row.draft_tokens), []).append(row)
    found = []
    for cell in fidelity.cells:
        batch, k = cell.predicted.batch, cell.predicted.draft_tokens
        plain = by_cell.get((batch, 0))
        told_apart = not any(np.isnan(row.target_s) for row in by_cell[batch, k])
        if plain and cell.predicted.parts and told_apart:
            measured = _measured_s(by_cell[batch, k], {row.repeat: row.host_s for row in plain}, cell.measured_s)
            found.append(CellParts(cell, _predicted_s(cell), measured))
    return found


def summaries(cells: Sequence[CellParts]) -> list[PartSummary]:
    """Each part over ``cells``, at least one."""
    return [_summary(part, cells) for part in PARTS]


def by_width(cells: Sequence[CellParts]) -> dict[tuple[int, int], list[CellParts]]:
    """Cells by how many tokens the target verifies at once, in ranges (first, last) that double."""
    groups: dict[tuple[int, int], list[CellParts]] = {}
    for cell in sorted(cells, key=lambda one: one.verified_tokens):
        power = 2 ** (cell.verified_tokens.bit_length() - 1)
        groups.setdefault((power, 2 * power - 1), []).append(cell)
    return groups


@dataclass(frozen=True, slots=True)
class Factor:
    """What a predicted part of the target's pass would have to be multiplied by; ± one standard error."""

    part: str
    factor: float
    standard_error: float


def target_factors(cells: Sequence[CellParts]) -> list[Factor]:
    """Factors on the predicted parts of the target's pass that fit the measured passes best, in relative squares.

    measured = Σ factor · part, divided by measured; ordinary least squares over the cells. Matrix products and the
    output head grow alike and count as one part. Empty with no more cells than parts, or with one part alone.
    """
    measured = np.array([cell.measured_s[TARGET] for cell in cells])
    table = {
        name: np.array([sum(cell.cell.predicted.parts.get(one, 0.0) for one in parts) for cell in cells])
        for name, parts in _FITTED.items()
    }
    names = [name for name, seconds in table.items() if seconds.any()]
    if len(names) < 2 or len(cells) <= len(names):
        return []
    scaled = np.stack([table[name] / measured for name in names], axis=1)
    factors, _, rank, _ = np.linalg.lstsq(scaled, np.ones(len(cells)), rcond=None)
    if rank < len(names):
        return []
    left = 1.0 - scaled @ factors
    covariance = np.linalg.inv(scaled.T @ scaled) * float(left @ left) / (len(cells) - len(names))
    errors = np.sqrt(np.diag(covariance))
    return [Factor(name, float(f), float(e)) for name, f, e in zip(names, factors, errors, strict=True)]


def _predicted_s(cell: CellError) -> dict[str, float]:
    seconds = dict.fromkeys(PARTS, 0.0)
    for name, value in cell.predicted.parts.items():
        seconds[_BILLED[name]] += value
    return seconds


def _measured_s(rows: Sequence[GridRow], plain_host_s: dict[int, float], round_s: float) -> dict[str, float]:
    host_s = float(np.median(list(plain_host_s.values())))
    extra_s = [row.host_s - plain_host_s.get(row.repeat, host_s) for row in rows]
    seconds = {
        TARGET: float(np.median([row.target_s for row in rows])),
        DRAFT: float(np.median([row.draft_s + extra for row, extra in zip(rows, extra_s, strict=True)])),
        SAMPLE: float(np.median([row.sample_s for row in rows])),
        HOST: host_s,
    }
    return seconds | {SLOW: round_s - sum(seconds.values())}


def _summary(part: str, cells: Sequence[CellParts]) -> PartSummary:
    contributions = [cell.contribution(part) for cell in cells]
    measured = sum(cell.measured_s[part] for cell in cells)
    predicted = sum(cell.predicted_s[part] for cell in cells)
    return PartSummary(
        part,
        float(np.mean([cell.measured_s[part] / cell.cell.measured_s for cell in cells])),
        float(np.mean(contributions)),
        float(np.mean(np.abs(contributions))),
        predicted / measured - 1.0 if measured > 0 and part != SLOW else None,
    )
