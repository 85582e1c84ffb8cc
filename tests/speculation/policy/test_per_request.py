"""Rules that give each request its own length: by hand, and against the closed form of a confidence stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from specsim.errors import InvalidInput
from specsim.speculation.acceptance import AcceptanceDraws, ConfidenceAcceptance, ConfidenceLevel
from specsim.speculation.policy import (
    ConfidencePolicy,
    PlusMinusPolicy,
    Rounds,
    ThresholdAdaptation,
    VerifyBudgetPolicy,
)

ONE = np.zeros(1, dtype=np.int64)


def shown(request: int, drafted: int, accepted: int) -> Rounds:
    return Rounds(ONE + request, ONE + drafted, ONE + accepted, batch=1)


def test_plus_minus_by_hand(machine: Any, setting: Any) -> None:
    decider = PlusMinusPolicy(initial=3).start(setting(machine, longest=8))
    seen = []
    for full in (True, True, True, False, False, True, *[False] * 9):
        length = int(decider.lengths(ONE, decider.draft_tokens(1, 9.0), None).lengths[0])
        seen.append(length)
        decider.observe(shown(0, length, length if full else length - 1))
    assert seen == [3, 5, 7, 8, 7, 6, 8, 7, 6, 5, 4, 3, 2, 1, 1]


def test_each_request_has_its_own_length_and_the_drafter_runs_for_the_longest(machine: Any, setting: Any) -> None:
    decider = PlusMinusPolicy(initial=4).start(setting(machine, longest=8))
    decider.observe(Rounds(np.array([7, 9]), np.array([4, 4]), np.array([4, 1]), batch=2))
    drafts = decider.lengths(np.array([9, 5, 7]), decider.draft_tokens(3, 9.0), None)
    assert drafts.lengths.tolist() == [3, 4, 6]
    assert drafts.computed == 6
    assert decider.lengths(np.array([9, 5, 7]), 4, None).lengths.tolist() == [3, 4, 4]
    assert not decider.uniform
    assert decider.table() is None


def test_requests_long_unseen_are_forgotten(machine: Any, setting: Any) -> None:
    decider = PlusMinusPolicy(initial=2).start(setting(machine, longest=8, max_num_seqs=2))
    for request in range(1000):
        decider.observe(shown(request, 2, 2))
        decider.observe(shown(5000, 8, 8))
        if request > 4:  # seen all the time, so its length stays at the cap that it has reached
            assert decider.lengths(ONE + 5000, 8, None).lengths.tolist() == [8]
    assert decider.lengths(ONE + 999, 8, None).lengths.tolist() == [4]
    assert decider.lengths(ONE, 8, None).lengths.tolist() == [2]  # forgotten, so it starts anew


LAW = ConfidenceAcceptance(
    levels=(
        ConfidenceLevel(confidence=0.95, weight=5, rate=0.97),
        ConfidenceLevel(confidence=0.6, weight=3, rate=0.55),
        ConfidenceLevel(confidence=0.2, weight=2, rate=0.1),
    ),
    persistence=0.6,
)


@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_a_stop_does_what_its_closed_form_says(machine: Any, setting: Any, threshold: float, keep_last: bool) -> None:
    """Tokens, proposals and passes of a round, over 3000 requests of 120 tokens that the same draws decide.

    A sequence alone computes what it would propose if the last draft were kept.
    """
    made = setting(machine, LAW, longest=6)
    decider = ConfidencePolicy(threshold=threshold, keep_last=keep_last).start(made)
    keeping = ConfidencePolicy(threshold=threshold, keep_last=True).start(made)
    draws, requests = AcceptanceDraws(LAW, 3), np.arange(3000)
    positions, sums = np.ones(3000, dtype=np.int64), np.zeros(4)
    while (here := np.flatnonzero(positions < 120)).size:
        confidences = draws.confidences(requests[here], positions[here], 6)
        lengths = decider.lengths(requests[here], 6, confidences).lengths
        passes = keeping.lengths(requests[here], 6, confidences).lengths
        accepted = draws.accepted(requests[here], positions[here], lengths)
        positions[here] += accepted + 1
        sums += [len(here), accepted.sum() + len(here), lengths.sum(), passes.sum()]
    expected = LAW.stopped(6, threshold, keep_last=keep_last)
    assert (sums[1:] / sums[0]).tolist() == pytest.approx(
        [expected.tokens, expected.drafted, expected.passes], rel=0.015, abs=1e-9
    )


def test_the_batch_drafts_as_long_as_one_sequence_goes_on(machine: Any, setting: Any) -> None:
    confidences = np.array([[0.9, 0.1, 0.9], [0.9, 0.9, 0.1], [0.1, 0.9, 0.9]])
    ids = np.arange(3)
    dropped = ConfidencePolicy(threshold=0.5).start(setting(machine, LAW, longest=3)).lengths(ids, 3, confidences)
    assert (dropped.lengths.tolist(), dropped.computed) == ([1, 2, 0], 3)
    kept = ConfidencePolicy(threshold=0.5, keep_last=True).start(setting(machine, LAW, longest=3))
    assert kept.lengths(ids, 3, confidences).lengths.tolist() == [2, 3, 1]
    assert kept.lengths(ids[2:], 3, confidences[2:]).computed == 1
    assert kept.needs_confidences


def threshold_of(decider: Any) -> float:
    """The lowest confidence that still drafts, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        drafts = decider.lengths(ONE, 1, np.full((1, 1), middle)).lengths[0] == 1
        low, high = (low, middle) if drafts else (middle, high)
    return high


def test_a_threshold_follows_the_acceptance_rate_by_hand(machine: Any, setting: Any) -> None:
    """Rates 1, 0, 0 make averages 1, 0.5, 0.25 against 0.9: down, up, up by a tenth of 0.01 each."""
    policy = ConfidencePolicy(threshold=0.5, adapt=ThresholdAdaptation())
    decider = policy.start(setting(machine, LAW, longest=4))
    found = []
    for accepted in (4, 0, 0):
        decider.observe(shown(0, 4, accepted))
        found.append(threshold_of(decider))
    assert found == pytest.approx([0.499, 0.5, 0.501], abs=1e-6)
    for _ in range(2000):
        decider.observe(shown(0, 4, 0))
    assert decider.lengths(ONE, 4, np.full((1, 4), 0.999)).lengths.tolist() == [0]


def test_a_long_memory_waits_before_it_raises_the_threshold(machine: Any, setting: Any) -> None:
    """Rates 1, 0, 0 make averages 1, 0.9, 0.81 against 0.85: down, down, up."""
    policy = ConfidencePolicy(threshold=0.5, adapt=ThresholdAdaptation(memory=0.9, target=0.85))
    decider = policy.start(setting(machine, LAW, longest=4))
    found = []
    for accepted in (4, 0, 0):
        decider.observe(shown(0, 4, accepted))
        found.append(threshold_of(decider))
    assert found == pytest.approx([0.499, 0.498, 0.499], abs=1e-6)


def test_without_confidences_there_is_one_clear_line(machine: Any, setting: Any) -> None:
    decider = ConfidencePolicy(threshold=0.5).start(setting(machine, LAW))
    with pytest.raises(InvalidInput, match="kind confidence"):
        decider.lengths(ONE, 4, None)


def test_where_no_sequence_drafts_the_drafter_still_reads_prompts(machine: Any, setting: Any) -> None:
    nobody = ONE[:0]
    rising = PlusMinusPolicy().start(setting(machine))
    assert rising.lengths(nobody, 8, None).computed == 8
    stop = ConfidencePolicy(threshold=0.5).start(setting(machine, LAW))
    assert stop.lengths(nobody, 8, np.zeros((0, 8))).computed == 8
    assert VerifyBudgetPolicy(k=8).start(setting(machine, LAW)).lengths(nobody, 8, np.zeros((0, 8))).computed == 8
