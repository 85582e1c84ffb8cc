"""Cases that are batch × k maps: each drafter's prediction as it was committed, and as the code stands now."""

from __future__ import annotations

from typing import Any

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import assemble
from specsim.cases.case import REFERENCE, Case
from specsim.cases.pin import read_prediction
from specsim.errors import InvalidInput
from specsim.fidelity import Fidelity, Predicted, SpeedupError, compare, read_grid, speedup_errors
from specsim.fidelity.acceptance_file import ACCEPTANCE, read_acceptances
from specsim.results import AcceptanceCounts, GridRow, pooled


def predicted_cells(speedups: SpeedupMap) -> list[Predicted]:
    """A map's cells in the form that ``compare`` scores."""
    return [
        Predicted(
            cell.batch,
            cell.draft_tokens,
            cell.round_s,
            cell.round_low_s,
            cell.round_high_s,
            cell.tokens_per_round,
            cell.source,
            cell.parts,
            cell.low,
            cell.high,
        )
        for cell in speedups.cells
    ]


def committed_prediction(case: Case, drafter: str) -> dict[str, Any] | None:
    """What was written down of a drafter before the run: ``profile``, ``cells`` and more; None where nothing was."""
    found = read_prediction(case.predicted).get(drafter) if case.predicted.exists() else None
    if found is not None and not (isinstance(found, dict) and isinstance(found.get("cells"), list)):
        raise InvalidInput(f"{case.predicted} is no prediction of {drafter}; write it again with --predict")
    return found


def measured_rows(case: Case, drafter: str) -> list[GridRow]:
    """A drafter's rows of ``measured.csv``. Raises InvalidInput where there are none."""
    found = read_grid(case.measured)
    strange = [name for name in found if name not in case.drafters]
    if strange:
        raise InvalidInput(f"{case.measured} holds {strange[0]}, which is no drafter of the case; add or remove it")
    if drafter not in found:
        raise InvalidInput(
            f"{case.measured} holds no rows of {drafter}; measure it first: specsim measure {case.folder} --grid"
        )
    return found[drafter]


def score(case: Case, drafter: str) -> Fidelity:
    """A drafter's prediction, as the code stands now, against its measurement.

    Raises InvalidInput for a drafter that the case has no map of; served loads have none of any.
    """
    if drafter not in case.drafters:
        raise InvalidInput(f"{case.folder} holds no map of {drafter}; score what it holds with specsim validate")
    cells = predicted_cells(speedup_map(assemble(case.drafters[drafter]), decode_only=True))
    return compare(cells, measured_rows(case, drafter), counted=real_acceptance(case))


def committed_score(case: Case, drafter: str) -> Fidelity | None:
    """A drafter's prediction as it was committed against its measurement; None where nothing was written down."""
    prediction = committed_prediction(case, drafter)
    if prediction is None:
        return None
    cells = [Predicted(**cell) for cell in prediction["cells"]]
    return compare(cells, measured_rows(case, drafter), counted=real_acceptance(case))


def committed_speedups(case: Case, drafter: str) -> list[SpeedupError]:
    """The speed-ups of a committed prediction against those of a real engine; none where nothing was written down.

    Of the reference engine round times tell all: it was measured with acceptance imposed.
    """
    prediction = committed_prediction(case, drafter)
    if prediction is None or case.engine == REFERENCE:
        return []
    cells = [Predicted(**cell) for cell in prediction["cells"]]
    return speedup_errors(cells, measured_rows(case, drafter), _drafted(case, drafter))


def _drafted(case: Case, drafter: str) -> dict[tuple[int, int], float]:
    """Mean drafts of a round by (batch, k), over all repeats; empty where nobody counted."""
    path = case.folder / ACCEPTANCE
    records: dict[tuple[int, int], list[AcceptanceCounts]] = {}
    for (name, _, batch, k), counts in (read_acceptances(path) if path.exists() else {}).items():
        if name == drafter:
            records.setdefault((batch, k), []).append(counts)
    return {cell: _mean_drafts(pooled(found)) for cell, found in records.items()}


def _mean_drafts(counts: AcceptanceCounts) -> float:
    return counts.drafted() / sum(sum(row.values()) for row in counts.rounds.values())


def real_acceptance(case: Case) -> bool:
    """Whether drafts were verified for real; otherwise acceptance was imposed."""
    return case.scenario.weights is not None
