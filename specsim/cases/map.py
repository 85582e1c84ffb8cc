"""Cases that are batch × k maps: the prediction now, the committed one, and their score."""

from __future__ import annotations

import json

from specsim.analytic.rounds import SpeedupMap, speedup_map
from specsim.assembly import assemble
from specsim.cases.case import Case
from specsim.errors import InvalidInput
from specsim.fidelity import Fidelity, Predicted, compare, read_grid


def predict_case(case: Case) -> SpeedupMap:
    """The prediction as the code stands now."""
    return speedup_map(assemble(case.scenario))


def predicted_cells(speedups: SpeedupMap) -> list[Predicted]:
    """A map's cells in the form that ``compare`` scores."""
    return [
        Predicted(
            cell.batch, cell.draft_tokens, cell.round_s, cell.round_low_s, cell.round_high_s, cell.tokens_per_round,
            cell.source, cell.parts,
        )
        for cell in speedups.cells
    ]  # fmt: skip


def committed_cells(case: Case) -> list[Predicted] | None:
    """The prediction that was written down before the run, or None."""
    if not case.predicted.exists():
        return None
    return [Predicted(**cell) for cell in json.loads(case.predicted.read_text())["cells"]]


def score(case: Case) -> Fidelity:
    """The prediction, as the code stands now, against the measurement. Raises InvalidInput for a served case."""
    if case.loads is not None:
        raise InvalidInput(f"{case.folder} holds served loads and no map; score it with specsim validate")
    return compare(predicted_cells(predict_case(case)), read_grid(case.measured))
