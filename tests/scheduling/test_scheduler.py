"""The scheduler step by step, against schedules worked out by hand."""

from __future__ import annotations

import pytest

from specsim.cost.cache import CacheLayout
from specsim.errors import NoAnswer
from specsim.scheduling.scheduler import Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits


def scheduler(
    blocks: int = 1000, *, seqs: int = 256, budget: int = 8192, size: int = 16, drafts: int = 0, lookahead: int = 0,
    chunked: bool = True, whole: bool = True,
) -> Scheduler:  # fmt: skip
    """``blocks`` that can be held; ``whole``: an admission needs room for its whole prompt."""
    limits = EngineLimits(
        max_num_seqs=seqs, max_num_batched_tokens=budget, block_size=size, chunked_prefill=chunked,
        scheduler_reserve_full_isl=whole,
    )  # fmt: skip
    return Scheduler(limits, blocks + 1, max_draft_tokens=drafts, lookahead_tokens=lookahead)


def run(one: Scheduler, *, propose: int = 0, right: int = 0) -> Step:
    """A whole step: ``right`` drafts of each share accepted, ``propose`` new ones for each that goes on."""
    step = one.schedule()
    emitted = one.complete(step, [min(right, share.drafts) for share in step.scheduled])
    for share, count in zip(step.scheduled, emitted, strict=True):
        if count and not share.sequence.finished:
            one.propose(share.sequence, propose)
    return step


def shares(step: Step) -> list[tuple[int, int, int, bool, bool]]:
    return [(s.sequence.request_id, s.tokens, s.drafts, s.emits, s.prefill) for s in step.scheduled]


def test_a_request_alone() -> None:
    one = scheduler()
    sequence = SequenceState(0, prompt_tokens=5, output_tokens=3)
    one.add(sequence)
    assert shares(run(one)) == [(0, 5, 0, True, True)]
    assert (sequence.computed_tokens, sequence.emitted_tokens) == (5, 1)
    assert shares(run(one)) == [(0, 1, 0, True, False)]
    assert shares(run(one)) == [(0, 1, 0, True, False)]
    assert sequence.finished
    assert not one.has_work
    assert one.free_blocks == 1000
    assert one.schedule().scheduled == []


def test_prefill_is_chunked_and_others_use_what_is_left() -> None:
    one = scheduler(budget=10)
    one.add(SequenceState(0, 25, 2))
    one.add(SequenceState(1, 3, 2))
    one.add(SequenceState(2, 4, 2))
    assert shares(run(one)) == [(0, 10, 0, False, True)]
    assert shares(run(one)) == [(0, 10, 0, False, True)]
    assert shares(run(one)) == [(0, 5, 0, True, True), (1, 3, 0, True, True), (2, 2, 0, False, True)]
    assert shares(run(one)) == [(0, 1, 0, True, False), (1, 1, 0, True, False), (2, 2, 0, True, True)]


def test_a_last_chunk_of_one_prompt_token_is_a_prefill() -> None:
    one = scheduler(budget=10)
    one.add(SequenceState(0, 11, 2))
    assert shares(run(one)) == [(0, 10, 0, False, True)]
    assert shares(run(one)) == [(0, 1, 0, True, True)]
    assert shares(run(one)) == [(0, 1, 0, True, False)]


def test_without_chunks_a_prompt_waits_for_a_whole_step() -> None:
    one = scheduler(budget=10, chunked=False)
    for number in range(2):
        one.add(SequenceState(number, 8, 2))
    one.add(SequenceState(2, 1, 2))  # would fit at once, but nobody overtakes
    assert shares(run(one)) == [(0, 8, 0, True, True)]
    assert shares(run(one)) == [(0, 1, 0, True, False), (1, 8, 0, True, True), (2, 1, 0, True, True)]


def test_max_num_seqs_holds_the_queue() -> None:
    one = scheduler(seqs=2)
    for number in range(3):
        one.add(SequenceState(number, 4, 2))
    assert [s[0] for s in shares(run(one))] == [0, 1]
    assert [s[0] for s in shares(run(one))] == [0, 1]
    assert [s[0] for s in shares(run(one))] == [2]


def test_a_short_budget_trims_drafts_and_unscheduled_ones_keep_theirs() -> None:
    one = scheduler(budget=10, drafts=3)
    for number in range(3):
        one.add(SequenceState(number, 3, 20))
    run(one, propose=3)
    step = one.schedule()
    assert shares(step) == [(0, 4, 3, True, False), (1, 4, 3, True, False), (2, 2, 1, True, False)]
    assert one.complete(step, [3, 0, 1]) == [4, 1, 2]
    assert [s.sequence.computed_tokens for s in step.scheduled] == [7, 4, 5]  # all known tokens but the last

    tight = scheduler(budget=8, drafts=3)
    for number in range(3):
        tight.add(SequenceState(number, 2, 20))
    run(tight, propose=3)
    assert [s[:3] for s in shares(run(tight, propose=0))] == [(0, 4, 3), (1, 4, 3)]
    assert [s[:3] for s in shares(run(tight))] == [(0, 1, 0), (1, 1, 0), (2, 4, 3)]


def test_accepted_drafts_are_cut_at_the_length_limit() -> None:
    one = scheduler(drafts=4)
    one.add(SequenceState(0, 3, 3))
    run(one, propose=4)
    step = one.schedule()
    assert one.complete(step, [4]) == [2]
    assert not one.has_work
    assert one.free_blocks == one.num_blocks


def filled() -> tuple[Scheduler, list[SequenceState]]:
    """Three running requests on 2 blocks of 4 each, one block free, a fourth queued that would fit it."""
    one = scheduler(7, seqs=3, size=4)
    sequences = [SequenceState(0, 8, 5), SequenceState(1, 8, 5), SequenceState(2, 8, 5), SequenceState(3, 1, 3)]
    for sequence in sequences:
        one.add(sequence)
    run(one)
    assert one.free_blocks == 1
    return one, sequences


def test_the_last_running_request_is_preempted_and_nobody_admitted() -> None:
    one, (_, _, victim, queued) = filled()
    step = one.schedule()
    assert [s.sequence.request_id for s in step.scheduled] == [0, 1]
    assert step.preempted == [victim]
    assert list(one.waiting) == [victim, queued]  # at the head of the queue
    assert (victim.computed_tokens, victim.blocks, victim.emitted_tokens, victim.preemptions) == (0, 0, 1, 1)
    assert one.free_blocks == 1  # enough for the fourth request, which stays out all the same
    one.complete(step, [0, 0])


def test_a_preempted_request_is_recomputed_with_what_it_had_emitted() -> None:
    one, (first, second, victim, queued) = filled()
    run(one)
    while not (first.finished and second.finished):
        assert [s[0] for s in shares(run(one))] == [0, 1]  # the victim needs 3 blocks; nobody overtakes it
    assert shares(run(one)) == [(2, 9, 0, True, True), (3, 1, 0, True, True)]  # 8 prompt tokens and 1 emitted
    assert (victim.computed_tokens, victim.emitted_tokens) == (9, 2)
    while one.has_work:
        run(one)
    assert victim.finished
    assert queued.finished
    assert one.free_blocks == 7


def test_several_victims_return_in_their_old_order() -> None:
    one = scheduler(6, size=4, drafts=8)
    sequences = [SequenceState(number, 8, 9) for number in range(3)]
    for sequence in sequences:
        one.add(sequence)
    run(one, propose=8)  # 8 + 1 + 8 tokens take 5 blocks
    step = one.schedule()
    assert [s.sequence.request_id for s in step.scheduled] == [0]
    assert [s.request_id for s in step.preempted] == [2, 1]
    assert [s.request_id for s in one.waiting] == [1, 2]
    assert all(s.draft_tokens == 0 for s in one.waiting)


def test_a_request_that_lacks_room_may_be_its_own_victim() -> None:
    one = scheduler(5, size=4)
    sequences = [SequenceState(0, 8, 8), SequenceState(1, 8, 8)]
    for sequence in sequences:
        one.add(sequence)
    run(one)
    step = one.schedule()  # request 0 takes the fifth block, request 1 finds none
    assert [s.sequence.request_id for s in step.scheduled] == [0]
    assert step.preempted == [sequences[1]]


def test_a_victim_is_not_readmitted_in_its_step_though_its_first_chunk_would_fit() -> None:
    one = scheduler(5, size=4, budget=8, whole=False)
    one.add(SequenceState(0, 4, 10))
    one.add(SequenceState(1, 20, 1))
    assert [s[:2] for s in shares(run(one))] == [(0, 4), (1, 4)]
    assert [s[:2] for s in shares(run(one))] == [(0, 1), (1, 7)]  # 2 + 3 blocks: all
    step = run(one)
    assert [s[:2] for s in shares(step)] == [(0, 1)]
    assert [s.request_id for s in step.preempted] == [1]
    assert one.free_blocks == 3
    assert [s[:2] for s in shares(run(one))] == [(0, 1), (1, 7)]  # 2 blocks, a step later


def test_a_prompt_is_admitted_when_all_of_it_fits() -> None:
    one = scheduler(5, size=4, budget=8)
    one.add(SequenceState(0, 4, 2))
    one.add(SequenceState(1, 20, 1))
    assert [s[:2] for s in shares(run(one))] == [(0, 4)]  # 5 blocks wanted, 4 free
    assert [s[:2] for s in shares(run(one))] == [(0, 1)]
    assert [s[:2] for s in shares(run(one))] == [(1, 8)]


def test_lookahead_slots_are_taken_in_every_step() -> None:
    one = scheduler(10, size=4, drafts=3, lookahead=3)
    sequence = SequenceState(0, 4, 8)
    one.add(sequence)
    run(one)  # 4 tokens + 3 slots
    assert sequence.blocks == 2
    run(one)  # 4 computed + 1 + 3
    assert sequence.blocks == 2
    run(one)
    assert sequence.blocks == 3


@pytest.mark.parametrize(
    ("prompt", "output", "drafts", "lookahead", "chunked"),
    [(6, 3, 0, 0, True), (6, 3, 2, 0, True), (4, 3, 2, 2, True), (7, 1, 5, 1, True), (6, 3, 0, 0, False)],
)
def test_requests_are_refused_exactly_when_they_could_never_run(
    prompt: int, output: int, drafts: int, lookahead: int, chunked: bool
) -> None:
    """8 KV slots. What needs them all without drafts runs to its end, alone; one token more is refused."""
    budget = 4 if chunked else 8
    one = scheduler(8, size=1, budget=budget, drafts=drafts, lookahead=lookahead, chunked=chunked)
    sequence = SequenceState(0, prompt, output)
    one.add(sequence)
    most = steps = 0
    while one.has_work and steps < 100:
        steps += 1
        step = one.schedule()
        most = max(most, one.num_blocks - one.free_blocks)
        if one.complete(step, [0] * len(step.scheduled)) != [0] and not sequence.finished:
            one.propose(sequence, drafts)
    assert sequence.finished
    assert most == 8
    assert (sequence.preemptions > 0) == (drafts > 0 and output > 1)  # no room for its drafts: it starts over
    with pytest.raises(NoAnswer, match=r"request 1 .* raise") as caught:
        one.add(SequenceState(1, prompt + 1, output))
    assert "\n" not in str(caught.value)
    assert not one.has_work


def test_an_unchunked_prompt_longer_than_a_step_is_refused() -> None:
    one = scheduler(budget=10, chunked=False)
    with pytest.raises(NoAnswer, match="may prefill 11 tokens at once and a step takes 10"):
        one.add(SequenceState(0, 10, 2))
    one.add(SequenceState(1, 10, 1))


def test_drafts_are_verified_once() -> None:
    one = scheduler(drafts=3)
    sequence = SequenceState(0, 4, 20)
    one.add(sequence)
    run(one, propose=3)
    step = one.schedule()
    one.complete(step, [0])
    assert shares(step) == [(0, 4, 3, True, False)]
    assert shares(one.schedule()) == [(0, 1, 0, True, False)]


def test_a_drafter_takes_its_rows_of_the_budget() -> None:
    """PARD verifies k + 1 tokens a sequence and drafts with k rows more: 9 of 10 tokens for one, 1 left for none."""
    limits = EngineLimits(max_num_batched_tokens=10, block_size=16)
    one = Scheduler(limits, 100, max_draft_tokens=4, draft_slots=4)
    for number in range(2):
        one.add(SequenceState(number, 3, 20))
    assert shares(run(one, propose=4)) == [(0, 3, 0, True, True)]
    assert shares(run(one, propose=4)) == [(0, 5, 4, True, False)]
    one.propose(one.running[0], 0)
    assert shares(run(one)) == [(0, 1, 0, True, False), (1, 1, 0, False, True)]


def test_requests_of_one_step_share_a_prefix() -> None:
    limits = EngineLimits(max_num_batched_tokens=64, block_size=4, prefix_caching=True)
    one = Scheduler(limits, 100)
    for number in range(3):
        one.add(SequenceState(number, 10, 2, prefix_hashes=(1, 2), hash_block_tokens=4))
    one.add(SequenceState(3, 8, 2, prefix_hashes=(1, 2), hash_block_tokens=4))  # its last block is computed again
    assert [s[:2] for s in shares(run(one))] == [(0, 10), (1, 2), (2, 2), (3, 4)]
    assert one.num_blocks - one.free_blocks == 3 + 1 + 1 + 1


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    limits = EngineLimits(max_num_batched_tokens=64, block_size=4, prefix_caching=True)
    one = Scheduler(limits, 6)
    first, victim = SequenceState(0, 7, 3), SequenceState(1, 11, 3)
    one.add(first)
    one.add(victim)
    run(one)  # 2 and 3 blocks: all
    step = run(one)
    assert [s[0] for s in shares(step)] == [0, 1]  # both write into their last block
    step = run(one)  # now the first needs a third
    assert step.preempted == [victim]
    assert (victim.lost_tokens, victim.emitted_tokens) == (12, 2)
    assert [s[:2] for s in shares(run(one))] == [(1, 5)]  # 13 tokens; of its 3 full blocks the last was reused
    assert victim.hit_tokens == 8


def test_the_worst_priority_is_preempted_and_gives_its_share_of_the_step_back() -> None:
    limits = EngineLimits(max_num_batched_tokens=9, block_size=4, scheduling_policy="priority")
    one = Scheduler(limits, 6, max_draft_tokens=3)
    worst, better, best = (SequenceState(number, 4, 9, priority=-number) for number in range(3))
    one.add(worst)
    run(one)
    one.add(better)
    one.add(best)
    assert [s[:2] for s in shares(run(one, propose=3))] == [(0, 1), (2, 4), (1, 4)]  # 4 of 5 blocks
    step = one.schedule()  # 4 tokens for the worst, 4 for the best: no block is left, and of the budget one token
    assert shares(step) == [(2, 4, 3, True, False), (1, 4, 3, True, False)]
    assert step.preempted == [worst]


def test_an_asynchronous_step_counts_on_drafts_and_takes_the_wrong_ones_back() -> None:
    limits = EngineLimits(max_num_batched_tokens=64, block_size=4, async_scheduling=True)
    one = Scheduler(limits, 100, max_draft_tokens=2)
    sequence = SequenceState(0, 4, 6)
    one.add(sequence)

    def begin() -> Step:
        step = one.schedule()
        for share in step.scheduled:
            one.propose(share.sequence, 2)
        return step

    prefill = begin()
    second = begin()
    assert shares(second) == [(0, 3, 2, True, False)]  # the first token is still to come
    assert one.complete(prefill, [0]) == [1]
    third = begin()
    assert sequence.scheduled_tokens == 4 + 3 + 3
    assert one.complete(second, [1]) == [2]
    assert (sequence.computed_tokens, sequence.scheduled_tokens, sequence.known_tokens) == (6, 9, 7)
    fourth = begin()
    assert one.complete(third, [1]) == [2]  # 5 of 6
    assert shares(begin()) == []  # the step in flight ends it
    assert one.complete(fourth, [2]) == [1]
    assert not one.has_work
    assert one.free_blocks == one.num_blocks


def test_a_preempted_requests_token_in_flight_still_counts() -> None:
    limits = EngineLimits(max_num_batched_tokens=64, block_size=4, async_scheduling=True)
    one = Scheduler(limits, 5)
    first, victim = SequenceState(0, 8, 9), SequenceState(1, 7, 3)
    one.add(first)
    one.add(victim)
    prefill = one.schedule()  # 2 and 2 blocks: all
    step = one.schedule()
    assert [s[0] for s in shares(step)] == [0]
    assert step.preempted == [victim]
    assert one.complete(prefill, [0, 0]) == [1, 1]
    assert (victim.emitted_tokens, victim.computed_tokens, victim.lost_tokens) == (1, 0, 7)
    assert list(one.waiting) == [victim]
    one.complete(step, [0])
    while not first.finished:
        run(one)
    assert shares(run(one)) == [(1, 8, 0, True, True)]  # 7 prompt tokens and the one that was in flight


@pytest.mark.parametrize(
    ("layout", "held"),
    [
        (CacheLayout(16, 0.0), 63),  # 1,000 tokens
        (CacheLayout(16, 0.0, 1, 3, 9, 0), 63 + 3 * 9),  # three groups of layers with a window of 128
        (CacheLayout(16, 0.0, 0, 1, 9, 0), 9),  # nothing but windows
        (CacheLayout(528, 0.0, 1, 0, 0, 3), 2 + 3),  # states beside full attention
        (CacheLayout(16, 0.0, 0, 0, 0, 1), 1),  # states alone
    ],
)
def test_a_sequence_holds_what_its_layers_keep(layout: CacheLayout, held: int) -> None:
    one = Scheduler(EngineLimits(max_num_batched_tokens=8192), 200, layout=layout)
    one.add(SequenceState(0, prompt_tokens=1000, output_tokens=2))
    run(one)
    assert one.num_blocks - one.free_blocks == held
    run(one)
    assert one.free_blocks == one.num_blocks  # it has ended


def test_states_bound_how_many_run_whatever_their_length() -> None:
    """20 blocks of 4 a sequence: five run, and a sixth waits for one of them."""
    one = Scheduler(EngineLimits(max_num_batched_tokens=8192), 21, layout=CacheLayout(16, 0.0, 0, 0, 0, 4))
    for number in range(6):
        one.add(SequenceState(number, prompt_tokens=500, output_tokens=3))
    assert [len(run(one).scheduled) for _ in range(4)] == [5, 5, 5, 1]


def test_a_request_longer_than_any_window_runs() -> None:
    one = Scheduler(EngineLimits(max_num_batched_tokens=8192), 20, layout=CacheLayout(16, 0.0, 0, 1, 9, 0))
    one.add(SequenceState(0, prompt_tokens=100_000, output_tokens=2))
    with pytest.raises(NoAnswer, match="needs room for 100001 tokens and the KV cache holds 320"):
        Scheduler(EngineLimits(), 21).add(SequenceState(0, prompt_tokens=100_000, output_tokens=2))
