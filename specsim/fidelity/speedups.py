"""Predicted speed-ups against measured ones, the cost model's error apart from the acceptance law's.

    speed-up of k at a batch = tokens a round commits · seconds of a plain round ÷ seconds of a round with k drafts

Both rounds are of the same repeat, minutes apart at most, so that a machine that drifts spoils no ratio. **Cost
error** is that of the ratio of times: the prediction with the acceptance that was counted in the run. **Acceptance
error** is that of the tokens a round commits, which a law fitted on other prompts told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specsim.arrays import Floats
from specsim.fidelity.map_errors import Predicted, counted_tokens, mean_round_s
from specsim.results import GridRow


@dataclass(frozen=True, slots=True)
class SpeedupError:
    """One cell with k >= 1. ``ratios`` [repeats]: seconds of a plain round over those of this one, as measured."""

    predicted: Predicted
    plain: Predicted
    ratios: Floats
    tokens: float

    @property
    def measured(self) -> float:
        """The speed-up that was measured."""
        return float(np.median(self.ratios)) * self.tokens

    @property
    def foretold(self) -> float:
        """The speed-up that was predicted."""
        return self.predicted.tokens_per_round * self._times

    @property
    def cost_error(self) -> float:
        return self._times / float(np.median(self.ratios)) - 1.0

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

    @property
    def _times(self) -> float:
        return self.plain.round_s / self.predicted.round_s


def speedup_errors(predicted: Iterable[Predicted], rows: Sequence[GridRow]) -> list[SpeedupError]:
    """Every measured cell with drafts whose batch also ran without in the same repeat."""
    forecast = {(one.batch, one.draft_tokens): one for one in predicted}
    seconds = {(row.repeat, row.batch, row.draft_tokens): mean_round_s(row) for row in rows}
    tokens = counted_tokens(rows)
    found = []
    for batch, k in sorted({(row.batch, row.draft_tokens) for row in rows if row.draft_tokens}):
        both = [row.repeat for row in rows if (row.batch, row.draft_tokens) == (batch, k)]
        ratios = [
            seconds[repeat, batch, 0] / seconds[repeat, batch, k] for repeat in both if (repeat, batch, 0) in seconds
        ]
        if ratios:
            cell = SpeedupError(forecast[batch, k], forecast[batch, 0], np.array(ratios), tokens[batch, k])
            found.append(cell)
    return found
