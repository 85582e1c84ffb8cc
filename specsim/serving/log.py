"""What happened in a run since a sink was last told: arrays behind a LOG record."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.jit import address_of
from specsim.results import AcceptanceCounts
from specsim.scheduling.records import LOG
from specsim.scheduling.step import REQUEST_COLUMNS, REQUEST_TIMES, STEP_COLUMNS, STEP_TIMES
from specsim.serving.sinks import Sink


class Log:
    """Arrays behind a LOG record: rows of what happened since they were last emptied."""

    def __init__(self, rows: int, gaps: int, longest: int) -> None:
        self.record = np.zeros(1, LOG)
        self._arrays = {
            "requests": np.zeros((rows, REQUEST_COLUMNS), np.int64), "request_times": np.zeros((rows, REQUEST_TIMES)),
            "steps": np.zeros((rows, STEP_COLUMNS), np.int64), "step_times": np.zeros((rows, STEP_TIMES)),
            "gaps": np.zeros(gaps), "gap_requests": np.zeros(gaps, np.int64),
            "acceptance": np.zeros((longest + 1, longest + 1), np.int64),
        }  # fmt: skip
        for name, array in self._arrays.items():
            self.record[name] = address_of(array)
        self.record["longest_draft"] = longest

    def empty(self, sink: Sink) -> None:
        """Hand everything to the sink."""
        counts = [int(self.record[name][0]) for name in ("num_requests", "num_steps", "num_gaps")]
        names = ("requests", "request_times", "steps", "step_times", "gaps", "gap_requests")
        used: list[Any] = [self._arrays[name][: counts[index // 2]] for index, name in enumerate(names)]
        sink.take(*used)
        for name in ("num_requests", "num_steps", "num_gaps"):
            self.record[name] = 0

    @property
    def finished(self) -> int:
        """Requests that finished since it was last emptied."""
        return int(self.record["num_requests"][0])

    def acceptance(self) -> AcceptanceCounts:
        """The record h[d][j] so far."""
        counts, table = AcceptanceCounts(), self._arrays["acceptance"]
        for drafted, accepted in np.argwhere(table).tolist():
            counts.add(drafted, accepted, int(table[drafted, accepted]))
        return counts
