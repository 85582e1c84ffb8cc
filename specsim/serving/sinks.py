"""What is kept of a run: every record, or only totals of constant size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.results import RequestRecord, Slo, StepLimits, StepRecord, StepTotals, Totals


class Sink(Protocol):
    """Told what has happened since the last time; the arrays are used again afterwards. Columns as in state.Log."""

    def take(
        self,
        finished: Integers,
        finished_s: Floats,
        steps: Integers,
        steps_s: Floats,
        gaps_s: Floats,
        gap_request: Integers,
    ) -> None: ...


class Records:
    """Keeps everything."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._parts: list[tuple[Integers, Floats, Integers, Floats, Floats, Integers]] = []
        self.finished = 0

    def take(
        self,
        finished: Integers,
        finished_s: Floats,
        steps: Integers,
        steps_s: Floats,
        gaps_s: Floats,
        gap_request: Integers,
    ) -> None:
        self.finished += len(finished)
        self._parts.append(
            (finished.copy(), finished_s.copy(), steps.copy(), steps_s.copy(), gaps_s.copy(), gap_request.copy())
        )

    def requests(self) -> list[RequestRecord]:
        """By number."""
        if not self._parts:
            return []
        rows, times = (np.concatenate([part[i] for part in self._parts]) for i in (0, 1))
        order = np.argsort(rows[:, 0], kind="stable")
        number, law, prompt, output, rounds, drafted, accepted, preemptions, replica, cached = rows[order].T.tolist()
        arrival, first, finish = times[order].T.tolist()
        names = [self._classes[index] for index in law]
        columns = (
            number,
            names,
            arrival,
            first,
            finish,
            prompt,
            output,
            rounds,
            drafted,
            accepted,
            preemptions,
            replica,
            cached,
        )
        return list(map(RequestRecord, *columns))

    def steps(self) -> list[StepRecord]:
        """By start."""
        if not self._parts:
            return []
        rows, times = (np.concatenate([part[i] for part in self._parts]) for i in (2, 3))
        order = np.argsort(times[:, 0], kind="stable")
        start, duration, lag = times[order].T.tolist()
        columns = (start, duration, *rows[order].T.tolist(), lag)
        return list(map(StepRecord, *columns))

    def gaps(self) -> tuple[Floats, Integers]:
        """Seconds of each gap, and its request."""
        if not self._parts:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        return np.concatenate([part[4] for part in self._parts]), np.concatenate([part[5] for part in self._parts])


class Streamed:
    """Keeps totals and quantile sketches; ``slo``: whose goodput it counts, ``limits``: what requests wait for."""

    def __init__(self, slo: Slo | None = None, limits: StepLimits | None = None) -> None:
        self.totals, self.step_totals = Totals(good=None if slo is None else 0), StepTotals()
        self._slo, self._limits = slo, limits
        self.last_finish_s = 0.0

    @property
    def finished(self) -> int:
        return self.totals.completed

    def take(
        self,
        finished: Integers,
        finished_s: Floats,
        steps: Integers,
        steps_s: Floats,
        gaps_s: Floats,
        gap_request: Integers,
    ) -> None:
        totals = self.totals
        self.step_totals.add(steps, steps_s[:, 1], self._limits)
        totals.itl.add(gaps_s)
        if not len(finished):
            return
        outputs = finished[:, 3]
        arrival, first, finish = finished_s.T
        tpot = (finish - first) / np.maximum(outputs - 1, 1)
        totals.completed += len(finished)
        totals.input_tokens += int(finished[:, 2].sum())
        totals.output_tokens += int(outputs.sum())
        totals.preemptions += int(finished[:, 7].sum())
        totals.cached_tokens += int(finished[:, 9].sum())
        totals.ttft.add(first - arrival)
        totals.e2el.add(finish - arrival)
        totals.tpot.add(tpot[outputs > 1])
        self.last_finish_s = max(self.last_finish_s, float(finish.max()))
        if self._slo is not None:
            good = np.ones(len(finished), dtype=bool)
            latencies = (first - arrival, tpot, finish - arrival)
            for limit, seconds in zip(self._slo.request_limits(), latencies, strict=True):
                if limit is not None:
                    good &= seconds <= limit
            totals.good = (totals.good or 0) + int(good.sum())
