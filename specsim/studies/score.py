"""A study's rows against their predictions, with acceptance as measured in each cell and as at the smallest load only.

The first isolates the cost model's error. The second is how a user asks: acceptance is known from one small run, and
the question is what speculation does as the load grows. Where a study tells no acceptance at all, the second takes its
drafter's own and the first says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from specsim.errors import SpecsimError
from specsim.fidelity.study_errors import ComparedFigure
from specsim.scenario import Scenario
from specsim.studies.predict import Forecast, NotPredicted, accepting, forecasts, scenario_of_row
from specsim.studies.quantities import QUANTITIES, SPEEDUP
from specsim.studies.study import DRAFT_TOKENS, DRAFTER, Split, Study, StudyRow

THROUGHPUT, STEP = "output_throughput", "step_ms"
AcceptanceSource = Literal["measured", "smallest"]
Condition = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MeasuredFigure:
    """One measured figure and what is predicted for it, by what acceptance was taken from.

    ``measured``: acceptance as measured in this very cell; None where it was not. ``smallest``: as measured at the
    smallest load. ``by_length``, ``by_smallest``: what the naive predictors say (``fidelity.study_errors``).
    """

    row: StudyRow
    quantity: str
    value: float
    measured: Forecast | None
    smallest: Forecast
    by_length: float | None
    by_smallest: float | None

    @property
    def label(self) -> str:
        return QUANTITIES[self.quantity].label

    def comparison(self, acceptance: AcceptanceSource) -> ComparedFigure | None:
        """Against one of the two predictions; None where there is none."""
        told = self.measured if acceptance == "measured" else self.smallest
        if told is None:
            return None
        choice = (self.row.study, self.row.apart_from((DRAFTER, DRAFT_TOKENS)))
        return ComparedFigure(
            self.label,
            self.value,
            told.value,
            told.low,
            told.high,
            self.by_length,
            self.by_smallest,
            choice,
            self.row.condition.get(DRAFTER, ""),
            self.row.k,
        )


@dataclass(frozen=True, slots=True)
class StudyScore:
    """``unpredicted``: rows without a prediction, and why."""

    name: str
    study: Study
    figures: tuple[MeasuredFigure, ...]
    unpredicted: tuple[tuple[StudyRow, str], ...]

    def part(self, split: Split) -> list[MeasuredFigure]:
        """Figures of one split."""
        return [figure for figure in self.figures if figure.row.split == split]


@dataclass(frozen=True, slots=True)
class _Told:
    row: StudyRow
    measured: dict[str, Forecast] | None
    smallest: dict[str, Forecast]


def score_study(name: str, study: Study, rows: Sequence[StudyRow]) -> StudyScore:
    """Predict every row; a row that cannot be says why. Raises InvalidInput for settings that make no scenario."""
    lengths, told, unpredicted = _smallest_lengths(rows), list[_Told](), list[tuple[StudyRow, str]]()
    for row in rows:
        try:
            scenario = scenario_of_row(study, row)
        except NotPredicted as error:
            unpredicted.append((row, str(error)))
            continue
        try:
            told.append(_told(scenario, row, lengths.get(_alike(row))))
        except SpecsimError as error:
            unpredicted.append((row, str(error)))
    told = _with_speedups(told)
    plain = {_without_drafter(one.row): one.row for one in told if not one.row.k}
    smallest = _smallest_rows([one.row for one in told])
    figures = [
        MeasuredFigure(
            row=one.row,
            quantity=quantity,
            value=value,
            measured=_as_measured(one, quantity),
            smallest=one.smallest[quantity],
            by_length=_by_length(one.row, quantity, plain.get(_without_drafter(one.row))),
            by_smallest=_by_smallest(one.row, quantity, smallest.get(_alike(one.row))),
        )
        for one in told
        for quantity, value in one.row.figures.items()
    ]
    return StudyScore(name, study, tuple(figures), tuple(unpredicted))


def _as_measured(told: _Told, quantity: str) -> Forecast | None:
    found = told.smallest if told.measured is None and not QUANTITIES[quantity].accepts else told.measured
    return None if found is None else found[quantity]


def _told(scenario: Scenario, row: StudyRow, smallest_length: float | None) -> _Told:
    if not row.k:
        found = forecasts(scenario, row)
        return _Told(row, found, found)
    own, small = row.acceptance_length, smallest_length
    measured = None if own is None else forecasts(accepting(scenario, own), row)
    if measured is not None and (small is None or small == own):
        return _Told(row, measured, measured)
    return _Told(row, measured, forecasts(accepting(scenario, small), row, intervals=own is None))


def _alike(row: StudyRow) -> Condition:
    """Rows that differ in their load alone share it."""
    return row.apart_from(() if row.load is None else (row.load[0], "requests"))


def _without_drafter(row: StudyRow) -> Condition:
    return row.apart_from((DRAFTER, DRAFT_TOKENS))


def _smallest_rows(rows: Iterable[StudyRow]) -> dict[Condition, StudyRow]:
    found: dict[Condition, StudyRow] = {}
    for row in sorted((one for one in rows if one.load is not None), key=_load):
        found.setdefault(_alike(row), row)
    return found


def _load(row: StudyRow) -> float:
    assert row.load is not None
    return row.load[1]


def _smallest_lengths(rows: Sequence[StudyRow]) -> dict[Condition, float]:
    known = [row for row in rows if row.acceptance_length is not None]
    return {
        key: row.acceptance_length for key, row in _smallest_rows(known).items() if row.acceptance_length is not None
    }


def _with_speedups(told: list[_Told]) -> list[_Told]:
    """Rows of served speculation whose plain run was served too also tell a speed-up, of output tokens/s."""
    plain = {_without_drafter(one.row): one for one in told if not one.row.k and THROUGHPUT in one.row.figures}
    made = []
    for one in told:
        base = plain.get(_without_drafter(one.row)) if one.row.k else None
        if base is None or base.measured is None or THROUGHPUT not in one.row.figures or SPEEDUP in one.row.figures:
            made.append(one)
            continue
        ratio = one.row.figures[THROUGHPUT] / base.row.figures[THROUGHPUT]
        row = replace(one.row, figures={**one.row.figures, SPEEDUP: ratio})
        measured = None if one.measured is None else one.measured | _ratio(one.measured, base.measured)
        made.append(_Told(row, measured, one.smallest | _ratio(one.smallest, base.measured)))
    return made


def _ratio(one: dict[str, Forecast], base: dict[str, Forecast]) -> dict[str, Forecast]:
    """Two simulations state no interval of their ratio: what they get wrong they get wrong together."""
    source = one[THROUGHPUT].source
    return {SPEEDUP: Forecast(one[THROUGHPUT].value / base[THROUGHPUT].value, None, None, source)}


def _by_length(row: StudyRow, quantity: str, plain: StudyRow | None) -> float | None:
    """A round costs what the measured plain step costs."""
    length, power = row.acceptance_length, QUANTITIES[quantity].length_power
    told = QUANTITIES[quantity].accepts or quantity == STEP
    if not row.k or not told or length is None or (plain is None and quantity != SPEEDUP):
        return None
    if quantity == SPEEDUP:
        return length
    assert plain is not None
    return plain.figures[quantity] * length**power if quantity in plain.figures else None


def _by_smallest(row: StudyRow, quantity: str, smallest: StudyRow | None) -> float | None:
    """Per sequence as at the smallest load, which itself needs no prediction."""
    if smallest is None or smallest is row or smallest.line == row.line or quantity not in smallest.figures:
        return None
    return smallest.figures[quantity] * (_load(row) / _load(smallest)) ** QUANTITIES[quantity].load_power
