"""Predicted speed-ups against measured ones, the cost model's error apart from the acceptance law's.

    speed-up of k at a batch = tokens a round commits · seconds of a plain round ÷ seconds of a round with k drafts

Both rounds are of the same repeat, and taken in turn where the engines could be up together, so that a machine that
drifts spoils no ratio. **Cost
error** is that of the ratio of times: the prediction with the acceptance that was counted in the run, and with as
many drafts as were counted, for look-up proposes nothing where it finds nothing. **Acceptance error** is that of the
tokens a round commits, which a law fitted on other prompts told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.fidelity.map_errors import Predicted, counted_tokens, mean_round_s, plain_rounds
from specsim.results import GridRow


@dataclass(frozen=True, slots=True)
class SpeedupError:
    """One cell with k >= 1. ``ratios`` [repeats]: seconds of a plain round over those of this one, as measured.

    ``round_s``: the predicted round's, with the drafts that were counted; ``tokens``: that a round committed.
    """

    predicted: Predicted
    plain: Predicted
    ratios: Floats
    tokens: float
    round_s: float

    @property
    def measured(self) -> float:
        """The speed-up that was measured."""
        return float(np.median(self.ratios)) * self.tokens

    @property
    def foretold(self) -> float:
        """The speed-up that was predicted."""
        return self.predicted.tokens_per_round * self.plain.round_s / self.predicted.round_s

    @property
    def cost_error(self) -> float:
        return self.plain.round_s / self.round_s / float(np.median(self.ratios)) - 1.0

    @property
    def acceptance_error(self) -> float:
        return self.predicted.tokens_per_round / self.tokens - 1.0

    @property
    def error(self) -> float:
        """Of both together."""
        return self.foretold / self.measured - 1.0

    @property
    def covered(self) -> bool | None:
        """Whether the predicted 90 % interval of the speed-up holds the measured one; None where none was stated."""
        low, high = self.predicted.speedup_low, self.predicted.speedup_high
        return None if low is None or high is None else low <= self.measured <= high


def speedup_errors(
    predicted: Iterable[Predicted], rows: Sequence[GridRow], drafted: Mapping[tuple[int, int], float] | None = None
) -> list[SpeedupError]:
    """Every measured cell with drafts that plain rounds took turns with, or whose batch ran without in its repeat.

    ``drafted``: the mean drafts of a round by (batch, k), where they were counted.
    """
    forecast = {(one.batch, one.draft_tokens): one for one in predicted}
    seconds = {(row.repeat, row.batch): mean_round_s(row) for row in rows if not row.draft_tokens}
    tokens = counted_tokens(rows)
    found = []
    for batch, k in sorted({(row.batch, row.draft_tokens) for row in rows if row.draft_tokens}):
        ratios = [
            ratio
            for row in rows
            if (row.batch, row.draft_tokens) == (batch, k) and (ratio := _ratio(row, seconds)) is not None
        ]
        if ratios:
            round_s = _round_s(forecast, batch, (drafted or {}).get((batch, k), k))
            cell = SpeedupError(forecast[batch, k], forecast[batch, 0], np.array(ratios), tokens[batch, k], round_s)
            found.append(cell)
    return found


def _ratio(row: GridRow, plain_s: Mapping[tuple[int, int], float]) -> float | None:
    """Plain rounds that this one lasts, inverted; ``plain_s`` by (repeat, batch) is asked where none took turns."""
    rounds = plain_rounds(row)
    if rounds is not None:
        return 1.0 / rounds
    beside = plain_s.get((row.repeat, row.batch))
    return None if beside is None else beside / mean_round_s(row)


def _round_s(forecast: Mapping[tuple[int, int], Predicted], batch: int, drafts: float) -> float:
    """Of a mean round with so many drafts: linear between the predicted ones."""
    lengths = sorted(k for size, k in forecast if size == batch)
    return float(np.interp(drafts, lengths, [forecast[batch, k].round_s for k in lengths]))
