"""Where the scheduler means to differ from vLLM 0.32's, each with its test. Everything else is in the recordings.

1. A request that could never run is refused when it arrives. vLLM refuses by ``max_model_len``, checks once that one
   such sequence fits the KV cache, and would else let a request wait for ever.
2. A prompt and output longer than ``max_model_len`` are refused; vLLM cuts the output.
3. Requests end by their length alone: there are no stop tokens, aborts or grammars.
4. What a request emits is shared with nobody. vLLM would find it again in a later prompt that repeats it.
5. Equal priorities go by order of arrival; vLLM breaks ties of arrival times by the request's name.
6. Drafts that nobody verifies are a rule of ours; vLLM verifies all drafts.
7. ``long_prefill_token_threshold`` never cuts a padded decode (an assertion of vLLM fails there). With prefix caching
   a budget below one padded request is refused; vLLM would never admit the request whose prefix leaves one token.
8. At most two steps are in flight, so no pipeline parallelism.

Not there at all: images and encoders, LoRA, KV connectors, sliding-window and state-space caches, multi-module MTP's
look-ahead in prompts, ``max_num_active_seqs``, ``max_num_scheduled_tokens``, deferred prefills of data parallelism,
pausing, streamed input.
"""

from __future__ import annotations

from typing import Any

import pytest

from specsim.errors import InvalidInput, NoAnswer
from specsim.scheduling.scheduler import Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits


def limits(**changes: Any) -> EngineLimits:
    return EngineLimits.model_validate({"block_size": 4, "max_num_batched_tokens": 64} | changes)


def shares(step: Step) -> list[tuple[int, int, int]]:
    return [(share.sequence.request_id, share.tokens, share.drafts) for share in step.scheduled]


def plain(one: Scheduler) -> Step:
    """A step that accepts nothing and drafts nothing."""
    step = one.schedule()
    one.complete(step, [0] * len(step.scheduled))
    return step


def test_1_what_could_never_run_is_refused() -> None:
    one = Scheduler(limits(), 4)  # 12 slots
    one.add(SequenceState(0, 12, 1))
    with pytest.raises(NoAnswer, match="request 1 needs room for 13 tokens and the KV cache holds 12; raise"):
        one.add(SequenceState(1, 12, 2))


def test_2_what_is_longer_than_the_model_is_refused() -> None:
    one = Scheduler(limits(max_model_len=20), 100)
    one.add(SequenceState(0, 12, 8))
    with pytest.raises(NoAnswer, match="21 prompt and output tokens and the model takes 20; raise"):
        one.add(SequenceState(1, 12, 9))


def test_3_a_request_ends_by_its_length() -> None:
    one = Scheduler(limits(), 100, max_draft_tokens=3)
    sequence = SequenceState(0, 5, 4)
    one.add(sequence)
    plain(one)
    one.propose(sequence, 3)
    assert one.complete(one.schedule(), [3]) == [3]  # 4 tokens come out, 3 are wanted
    assert sequence.finished


def test_4_an_answer_is_shared_with_nobody() -> None:
    """The second prompt repeats the first one and its answer, 16 tokens in all; only the prompt's 8 are found."""
    one = Scheduler(limits(prefix_caching=True), 100)
    one.add(SequenceState(0, 8, 9, prefix_hashes=(1, 2), hash_block_tokens=4))
    while one.has_work:
        plain(one)
    follower = SequenceState(1, 17, 1, prefix_hashes=(1, 2, 3, 4), hash_block_tokens=4)
    one.add(follower)
    assert shares(plain(one)) == [(1, 9, 0)]
    assert follower.hit_tokens == 8


def test_5_equal_priorities_go_by_arrival() -> None:
    one = Scheduler(limits(scheduling_policy="priority", max_num_seqs=1), 100)
    for number in (7, 3, 5):
        one.add(SequenceState(number, 4, 1, priority=2))
    one.add(SequenceState(9, 4, 1, priority=1))
    assert [shares(plain(one))[0][0] for _ in range(4)] == [9, 7, 3, 5]


def test_6_unverified_drafts_take_no_position_and_no_budget() -> None:
    """HAMburger (arXiv 2505.20438): one position is computed a round, whatever comes out of it."""
    one = Scheduler(limits(max_num_batched_tokens=2, max_num_seqs=2), 100, max_draft_tokens=3, verifies_drafts=False)
    sequences = [SequenceState(number, 1, 9) for number in range(2)]
    for sequence in sequences:
        one.add(sequence)
    plain(one)
    for right in (3, 1):
        for sequence in sequences:
            one.propose(sequence, 3)
        step = one.schedule()
        assert shares(step) == [(0, 1, 3), (1, 1, 3)]
        assert one.complete(step, [right, right]) == [1 + right, 1 + right]
    for sequence in sequences:
        assert sequence.emitted_tokens == 1 + 4 + 2
        assert (sequence.computed_tokens, sequence.known_tokens) == (3, 4)  # a prompt token and two rounds
        assert sequence.blocks == 1


def test_7_padding_is_not_cut_and_must_fit_the_budget() -> None:
    one = Scheduler(limits(long_prefill_token_threshold=2), 100, max_draft_tokens=4, pads_new_decodes=True)
    one.add(SequenceState(0, 1, 9))
    plain(one)
    late = SequenceState(1, 1, 9)
    one.add(late)
    step = one.schedule()
    assert [(share.tokens, share.drafts, share.padding) for share in step.scheduled] == [(1, 0, 0), (5, 0, 4)]
    assert one.complete(step, [0, 0]) == [1, 1]
    assert (late.computed_tokens, late.known_tokens) == (1, 2)
    with pytest.raises(InvalidInput, match="max_num_batched_tokens is 4 and one request may take 5; raise it"):
        Scheduler(
            limits(max_num_batched_tokens=4, prefix_caching=True), 100, max_draft_tokens=4, pads_new_decodes=True
        )


def test_8_a_third_step_must_wait() -> None:
    one = Scheduler(limits(async_scheduling=True), 100)
    one.add(SequenceState(0, 100, 9))
    first = one.schedule()
    one.schedule()
    with pytest.raises(InvalidInput, match="2 steps are in flight; complete one"):
        one.schedule()
    one.complete(first, [0])
    one.schedule()
