"""What happened in a run since a sink was last told: arrays behind a LOG record."""

from __future__ import annotations

import numpy as np

from specsim.jit import point
from specsim.results import AcceptanceCounts
from specsim.scheduling.records import FINISHED, GAP, LOG, STEP
from specsim.serving.sinks import Sink


class Log:
    """Room for ``rows`` finished requests, as many steps, and ``gaps`` gaps, until it is emptied."""

    def __init__(self, rows: int, gaps: int, longest: int) -> None:
        self.record = np.zeros(1, LOG)
        self._finished, self._steps, self._gaps = np.zeros(rows, FINISHED), np.zeros(rows, STEP), np.zeros(gaps, GAP)
        self._acceptance = np.zeros((longest + 1, longest + 1), np.int64)
        arrays = {"finished": self._finished, "steps": self._steps, "gaps": self._gaps, "acceptance": self._acceptance}
        point(self.record, {**arrays, "longest_draft": longest})

    def empty(self, sink: Sink) -> None:
        """Hand everything to the sink."""
        steps, gaps = (int(self.record[name][0]) for name in ("num_steps", "num_gaps"))
        sink.take(self._finished[: self.finished], self._steps[:steps], self._gaps[:gaps])
        for name in ("num_finished", "num_steps", "num_gaps"):
            self.record[name] = 0

    @property
    def finished(self) -> int:
        """Requests that finished since it was last emptied."""
        return int(self.record["num_finished"][0])

    def acceptance(self) -> AcceptanceCounts:
        """The record h[d][j] so far."""
        counts = AcceptanceCounts()
        for drafted, accepted in np.argwhere(self._acceptance).tolist():
            counts.add(drafted, accepted, int(self._acceptance[drafted, accepted]))
        return counts
