"""SGLang's rules, against schedules worked out by hand and against what holds in every step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.scheduling.scheduler import Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits
from tests.scheduling.named_blocks import named_blocks
from tests.scheduling.test_scheduler_invariants import Case, Run, cases


def scheduler(blocks: int = 1000, **limits: Any) -> Scheduler:
    """``blocks`` that can be held, of one token each unless a size is given."""
    return Scheduler(EngineLimits.model_validate({"rules": "sglang", "block_size": 1} | limits), blocks + 1)


def run(one: Scheduler) -> Step:
    step = one.schedule()
    one.complete(step, [0] * len(step.scheduled))
    return step


def shares(step: Step) -> list[tuple[int, int]]:
    return [(share.sequence.request_id, share.tokens) for share in step.scheduled]


def test_decoding_pauses_while_prompts_are_computed() -> None:
    one = scheduler(max_num_batched_tokens=10)
    one.add(SequenceState(0, 4, 5))
    assert shares(run(one)) == [(0, 4)]
    assert shares(run(one)) == [(0, 1)]
    one.add(SequenceState(1, 25, 5))
    assert [shares(run(one)) for _ in range(3)] == [[(1, 10)], [(1, 10)], [(1, 5)]]
    assert shares(run(one)) == [(0, 1), (1, 1)]


def test_mixed_chunks_let_decoding_ride_along_for_as_many_tokens_less() -> None:
    one = scheduler(max_num_batched_tokens=10, mixed_chunks=True)
    one.add(SequenceState(0, 4, 9))
    run(one)
    one.add(SequenceState(1, 25, 5))
    assert [shares(run(one)) for _ in range(3)] == [[(1, 9), (0, 1)], [(1, 9), (0, 1)], [(1, 7), (0, 1)]]


def test_a_prompt_is_cut_to_whole_pages_and_fills_the_next_step_first() -> None:
    one = scheduler(block_size=4, max_num_batched_tokens=10)
    one.add(SequenceState(0, 5, 3))
    one.add(SequenceState(1, 9, 3))
    one.add(SequenceState(2, 3, 3))
    assert shares(run(one)) == [(0, 5), (1, 4)]  # 5 tokens are left: one page
    assert shares(run(one)) == [(1, 5), (2, 3)]
    assert shares(run(one)) == [(0, 1), (1, 1), (2, 1)]


def test_no_more_than_max_running_requests() -> None:
    one = scheduler(max_num_seqs=2)
    for number in range(3):
        one.add(SequenceState(number, 4, 2))
    assert [shares(run(one)) for _ in range(3)] == [[(0, 4), (1, 4)], [(0, 1), (1, 1)], [(2, 4)]]


def test_admission_expects_outputs_and_running_ones_at_a_falling_ratio() -> None:
    """Of 200 slots the first holds 50 and may write 79 more. The second asks for 50 + 49 + a page of 1 slot.

    Free are 150 - 79·ratio; the ratio is 0.7 at first, which leaves 94.7, too little for 100.
    """
    one = scheduler(200)
    one.add(SequenceState(0, 50, 80))
    run(one)
    one.add(SequenceState(1, 50, 49))
    assert shares(run(one)) == [(0, 1)]
    while one.waiting:
        assert [share[0] for share in shares(run(one))] in ([0], [1])  # refused until the first has left
    assert [sequence.request_id for sequence in one.running] == [1]


def test_a_request_that_fits_the_estimate_is_admitted_though_its_output_may_not_fit() -> None:
    """150 - 79·0.7 = 94.7 slots are left for 40 + 53 + 1 = 94."""
    one = scheduler(200)
    one.add(SequenceState(0, 50, 80))
    run(one)
    one.add(SequenceState(1, 40, 53))
    assert shares(run(one)) == [(1, 40)]


def test_the_fewest_outputs_are_given_up_first_then_the_longest_prompt() -> None:
    """100 outputs each on 290 slots: the first is expected to write 70 when the others come, who in all need 307."""
    one = scheduler(290)
    first, longer, shorter = SequenceState(0, 1, 100), SequenceState(1, 5, 100), SequenceState(2, 1, 100)
    one.add(first)
    run(one)
    one.add(longer)
    one.add(shorter)
    assert shares(run(one)) == [(1, 5), (2, 1)]
    while not (step := one.schedule()).preempted:
        one.complete(step, [0] * len(step.scheduled))
    assert step.preempted == one.waiting == [longer]  # as many outputs as the last, and a longer prompt
    assert shares(step) == [(0, 1), (2, 1)]
    ratio = (first.emitted_tokens + shorter.emitted_tokens + 2 * 20) / (200 + 1)
    assert one._replica.record["new_token_ratio"][0] == pytest.approx(min(1.0, ratio))
    one.complete(step, [0, 0])
    while one.has_work:
        run(one)
    assert (
        longer.lost_tokens == 5 + 94
    )  # the prompts and 3 outputs a step, 7 + 3·n, leave no room for 3 more at n = 94


def test_what_could_never_be_admitted_is_refused() -> None:
    one = scheduler(20)
    one.add(SequenceState(0, 10, 8))
    with pytest.raises(NoAnswer, match="request 1 is taken to fill 20 KV slots"):
        one.add(SequenceState(1, 10, 9))


def test_a_budget_below_a_page_is_refused() -> None:
    with pytest.raises(InvalidInput, match="max_num_batched_tokens is 8 and one request may take 16; raise it"):
        scheduler(block_size=16, max_num_batched_tokens=8)


@st.composite
def questions(draw: st.DrawFn) -> Case:
    case = draw(cases())
    limits = case.limits.model_copy(
        update={
            "rules": "sglang", "mixed_chunks": draw(st.booleans()), "async_scheduling": False,
            "max_num_batched_tokens": max(case.limits.max_num_batched_tokens, case.limits.block_size + 6),
        }
    )  # fmt: skip
    return replace(case, limits=limits, num_kv_blocks=case.num_kv_blocks + 3)


@settings(max_examples=300)
@given(case=questions())
def test_every_step_keeps_to_the_rules(case: Case) -> None:
    run = Run(case)
    for step in run.steps():
        assert step.scheduled or step.preempted or not run.scheduler.has_work
        assert len(run.scheduler.running) <= case.limits.max_num_seqs
        prompts = [share for share in step.scheduled if share.prefill]
        assert sum(share.tokens for share in prompts) <= case.limits.max_num_batched_tokens
        assert sum(not share.emits for share in step.scheduled) <= 1
        if not case.limits.mixed_chunks and not any(share.sequence.preemptions for share in step.scheduled):
            assert len(prompts) in (0, len(step.scheduled))
        plain = sum(sequence.blocks - sequence.named_blocks for sequence in run.sequences)
        holders = Counter(block.address for sequence in run.sequences for block in named_blocks(sequence))
        assert plain + len(holders) + run.scheduler.free_blocks == run.scheduler.num_blocks
    for sequence in run.sequences:
        number = sequence.request_id
        assert sequence.finished
        assert run.emitted[number] == sequence.output_tokens
        assert sequence.hit_tokens + run.tokens[number] == (
            sequence.scheduled_tokens + sequence.lost_tokens + run.wrong[number]
        )
