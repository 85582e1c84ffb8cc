"""Scores of studies by hand."""

from __future__ import annotations

import pytest

from specsim.fidelity.study_errors import ComparedFigure, choices, signs, summarise


def test_errors_by_hand() -> None:
    rows = [
        ComparedFigure("step", 10.0, 11.0, 10.5, 11.5, by_smallest=9.0),  # +10 %, not covered; the naive one -10 %
        ComparedFigure("step", 10.0, 8.0, 7.0, 10.0),  # -20 %, covered at the very end
        ComparedFigure("step", 10.0, 10.0, by_length=15.0),  # right, and no interval is stated
    ]
    found = summarise(rows)
    assert (found.count, found.covered, found.stated) == (3, 1, 2)
    assert (found.mean, found.bias, found.worst) == pytest.approx((0.1, -0.1 / 3, -0.2))
    assert found.by_length == pytest.approx((0.5, 0.0, 1))
    assert found.by_smallest == pytest.approx((0.1, 0.1, 1))


def test_signs_leave_out_what_is_near_one() -> None:
    rows = [
        ComparedFigure("speed-up", 1.04, 0.5),  # within 5 %: not asked
        ComparedFigure("speed-up", 1.2, 1.01, by_length=2.0),
        ComparedFigure("speed-up", 0.8, 1.01, by_length=2.0),
        ComparedFigure("speed-up", 0.8, 0.99, by_length=2.0, by_smallest=1.5),
    ]
    told = signs(rows)
    assert (told.right, told.count) == (2, 3)
    assert told.by_length == (1, 3)
    assert told.by_smallest == (0, 1)


def test_regret_is_what_the_predicted_choice_gives_away() -> None:
    """k = 3 looks best and is 1.2, k = 1 is best at 1.5: a fifth of the throughput. Off is an alternative of each."""
    rows = [
        ComparedFigure("speed-up", 1.5, 1.3, by_length=1.7, choice="c=1", drafter="eagle3", draft_tokens=1),
        ComparedFigure("speed-up", 1.2, 1.4, by_length=2.4, choice="c=1", drafter="eagle3", draft_tokens=3),
        ComparedFigure("speed-up", 0.8, 0.9, by_length=2.4, choice="c=64", drafter="eagle3", draft_tokens=3),
        ComparedFigure("speed-up", 1.25, 0.9, choice="c=8", drafter="eagle3", draft_tokens=3),
    ]
    first, loaded, missed = choices(rows)
    assert (first.predicted, first.best) == (("eagle3", 3), ("eagle3", 1))
    assert first.regret == pytest.approx(0.2)
    assert first.regret_by_length == pytest.approx(0.2)
    assert (loaded.predicted, loaded.regret) == (("", 0), 0.0)
    assert loaded.regret_by_length == pytest.approx(0.2)
    assert (missed.predicted, missed.regret) == (("", 0), pytest.approx(0.2))
    assert missed.regret_by_length is None
