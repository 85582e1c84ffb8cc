"""What is kept of a run: every record, or only totals of constant size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Protocol

import numpy as np

from specsim.arrays import Floats, Integers, Records
from specsim.results import RequestRecord, Slo, StepLimits, StepRecord, StepTotals, Totals
from specsim.scheduling.records import FINISHED, GAP, STEP


class Sink(Protocol):
    """Told what has happened since the last time; the arrays are used again afterwards."""

    def take(self, finished: Records, steps: Records, gaps: Records) -> None:
        """FINISHED, STEP and GAP records."""
        ...


class KeptRecords:
    """Keeps everything."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._finished, self._steps, self._gaps = [np.zeros(0, FINISHED)], [np.zeros(0, STEP)], [np.zeros(0, GAP)]
        self.finished = 0

    def take(self, finished: Records, steps: Records, gaps: Records) -> None:
        self.finished += len(finished)
        self._finished.append(_copied(finished))
        self._steps.append(_copied(steps))
        self._gaps.append(_copied(gaps))

    def requests(self) -> list[RequestRecord]:
        """By number."""
        columns = _columns(self._finished, by="request_id")
        columns["request_class"] = [self._classes[index] for index in columns["request_class"]]
        return [RequestRecord(*row) for row in _rows(RequestRecord, columns)]

    def steps(self) -> list[StepRecord]:
        """By start."""
        return [StepRecord(*row) for row in _rows(StepRecord, _columns(self._steps, by="start_s"))]

    def gaps(self) -> tuple[Floats, Integers]:
        """Seconds of each gap, and its request."""
        return _joined(self._gaps, "seconds"), _joined(self._gaps, "request_id")


def _copied(records: Records) -> Records:
    """All bytes at once: NumPy copies records field by field, which takes ten times as long."""
    return records.view(np.uint8).copy().view(records.dtype)


def _joined(parts: Sequence[Records], name: str) -> Records:
    return np.concatenate([part[name] for part in parts])


def _columns(parts: Sequence[Records], *, by: str) -> dict[str, list[Any]]:
    order = np.argsort(_joined(parts, by), kind="stable")
    return {name: _joined(parts, name)[order].tolist() for name in parts[0].dtype.names or ()}


def _rows(kind: Any, columns: dict[str, list[Any]]) -> Iterable[tuple[Any, ...]]:
    """In the order of a dataclass's fields."""
    return zip(*(columns[one.name] for one in fields(kind)), strict=True)


class RunningTotals:
    """Keeps totals, and sketches of the latencies. ``slo``: the goals whose goodput is counted."""

    def __init__(self, slo: Slo | None = None, limits: StepLimits | None = None) -> None:
        self.totals, self.step_totals = Totals(good=None if slo is None else 0), StepTotals()
        self._slo, self._limits = slo, limits
        self.last_finish_s = 0.0

    @property
    def finished(self) -> int:
        return self.totals.completed

    def take(self, finished: Records, steps: Records, gaps: Records) -> None:
        totals = self.totals
        self.step_totals.add(steps, self._limits)
        totals.itl.add(gaps["seconds"])
        if not len(finished):
            return
        outputs = finished["output_tokens"]
        arrival, first, finish = (finished[name] for name in ("arrival_s", "first_token_s", "finish_s"))
        tpot = (finish - first) / np.maximum(outputs - 1, 1)
        totals.completed += len(finished)
        totals.input_tokens += int(finished["prompt_tokens"].sum())
        totals.output_tokens += int(outputs.sum())
        totals.preemptions += int(finished["preemptions"].sum())
        totals.cached_tokens += int(finished["cached_tokens"].sum())
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
