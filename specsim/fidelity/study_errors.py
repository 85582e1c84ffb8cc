"""Predicted against measured over the rows of studies: errors, sign and choice of speed-ups, coverage, naive rivals.

Two naive predictors stand beside every figure. **Acceptance length**: a round costs what a plain step costs, so that
the speed-up is the acceptance length; it knows the plain run as measured. **Smallest batch**: what was measured at the
smallest load holds at every load, per sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NEAR_ONE = 0.05  # speed-ups within 1 ± this have no sign worth telling


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """One figure compared. ``predicted``, ``low`` and ``high`` in the unit of ``measured``.

    ``label``: what was measured; ``low`` is None where no interval is stated. ``by_length`` and ``by_smallest``: what
    the naive predictors say; None where they say nothing. ``choice``: what alternatives of one decision have in
    common; ``draft_tokens`` tells them apart with ``drafter``.
    """

    label: str
    measured: float
    predicted: float
    low: float | None = None
    high: float | None = None
    by_length: float | None = None
    by_smallest: float | None = None
    choice: Hashable = None
    drafter: str = ""
    draft_tokens: int = 0

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted / self.measured - 1.0

    @property
    def covered(self) -> bool | None:
        """Whether the measured figure lies in the stated interval; None where none is stated."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """``mean`` and ``worst`` of |error|, the worst with its sign; ``bias``: the mean error.

    ``covered`` of ``stated`` intervals hold. ``by_length``, ``by_smallest``: (mean |error| of the naive predictor, of
    ours on the same rows, rows); None where it says nothing.
    """

    count: int
    mean: float
    bias: float
    worst: float
    covered: int
    stated: int
    by_length: tuple[float, float, int] | None
    by_smallest: tuple[float, float, int] | None


def summarise(rows: Sequence[ComparedFigure]) -> ErrorSummary:
    """Errors of at least one comparison."""
    errors = np.array([row.error for row in rows])
    stated = [row.covered for row in rows if row.covered is not None]
    return ErrorSummary(
        len(rows),
        float(np.abs(errors).mean()),
        float(errors.mean()),
        float(errors[np.abs(errors).argmax()]),
        sum(stated),
        len(stated),
        _naive(rows, lambda row: row.by_length),
        _naive(rows, lambda row: row.by_smallest),
    )


def _naive(
    rows: Iterable[ComparedFigure], says: Callable[[ComparedFigure], float | None]
) -> tuple[float, float, int] | None:
    pairs = [(said / row.measured - 1.0, row.error) for row in rows if (said := says(row)) is not None]
    if not pairs:
        return None
    naive, ours = np.abs(np.array(pairs)).mean(axis=0).tolist()
    return naive, ours, len(pairs)


@dataclass(frozen=True, slots=True)
class Signs:
    """Of ``count`` speed-ups outside of 1 ± NEAR_ONE: on how many the prediction takes the right side of 1.

    ``by_length``, ``by_smallest``: (right, asked) of the naive predictors, asked only where they say something.
    """

    right: int
    count: int
    by_length: tuple[int, int]
    by_smallest: tuple[int, int]


def signs(rows: Iterable[ComparedFigure]) -> Signs:
    """Whether speed-ups are told from slow-downs."""
    told = [row for row in rows if abs(row.measured - 1.0) > NEAR_ONE]

    def right(says: Callable[[ComparedFigure], float | None]) -> tuple[int, int]:
        asked = [(said, row.measured) for row in told if (said := says(row)) is not None]
        return sum((said > 1.0) is (measured > 1.0) for said, measured in asked), len(asked)

    ours, count = right(lambda row: row.predicted)
    return Signs(ours, count, right(lambda row: row.by_length), right(lambda row: row.by_smallest))


@dataclass(frozen=True, slots=True)
class JudgedChoice:
    """One decision between measured alternatives, off among them, as (drafter, k); "", 0 is off.

    ``regret``: share of the best measured throughput that the predicted choice gives away.
    """

    choice: Hashable
    predicted: tuple[str, int]
    best: tuple[str, int]
    regret: float
    regret_by_length: float | None


def choices(rows: Iterable[ComparedFigure]) -> list[JudgedChoice]:
    """A decision for each group of speed-ups that share a ``choice``; off has the speed-up 1 in all of them."""
    groups: dict[Hashable, list[ComparedFigure]] = {}
    for row in rows:
        groups.setdefault(row.choice, []).append(row)
    return [_chosen(choice, members) for choice, members in groups.items()]


def _chosen(choice: Hashable, rows: Sequence[ComparedFigure]) -> JudgedChoice:
    off = ("", 0)
    measured = {off: 1.0} | {(row.drafter, row.draft_tokens): row.measured for row in rows}
    predicted = {off: 1.0} | {(row.drafter, row.draft_tokens): row.predicted for row in rows}
    by_length = {off: 1.0} | {
        (row.drafter, row.draft_tokens): row.by_length for row in rows if row.by_length is not None
    }
    best = max(measured, key=measured.__getitem__)
    mine = max(predicted, key=predicted.__getitem__)
    naive = max(by_length, key=by_length.__getitem__) if len(by_length) == len(measured) else None
    return JudgedChoice(
        choice,
        mine,
        best,
        1.0 - measured[mine] / measured[best],
        None if naive is None else 1.0 - measured[naive] / measured[best],
    )
