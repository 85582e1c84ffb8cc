"""What holds in every step, whatever the limits, the drafter and the traffic; one or two steps in flight."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.scheduling.scheduler import Scheduled, Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits
from tests.scheduling.named_blocks import named_blocks

MOST_STEPS = 2_000


@dataclass(frozen=True)
class Case:
    limits: EngineLimits
    num_kv_blocks: int
    drafting: dict[str, Any]
    requests: list[tuple[int, int, int, int, tuple[int, ...]]]  # step, prompt, output, priority, prefix hashes
    seed: int
    least_blocks: int = 0  # with fewer a request is refused

    def sequences(self) -> list[SequenceState]:
        return [
            SequenceState(number, prompt, output, priority=priority, prefix_hashes=hashes, hash_block_tokens=4)
            for number, (_, prompt, output, priority, hashes) in enumerate(self.requests)
        ]

    def drawn(self, request: int, position: int, most: int) -> int:
        """0 to ``most``, a function of the request's own position alone."""
        return random.Random(f"{self.seed} {request} {position}").randint(0, most)


@dataclass
class Run:
    """Everything that happens to one case; ``events`` yields each step right after it was scheduled."""

    case: Case
    scheduler: Scheduler = field(init=False)
    sequences: list[SequenceState] = field(init=False)
    in_flight: deque[Step] = field(default_factory=deque)
    wrong: Counter[int] = field(default_factory=Counter)  # positions computed in vain, of each request
    tokens: Counter[int] = field(default_factory=Counter)
    emitted: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.case.limits, self.case.num_kv_blocks, **self.case.drafting)
        self.sequences = self.case.sequences()

    def steps(self) -> Iterator[Step]:
        waiting = deque(zip(self.sequences, self.case.requests, strict=True))
        depth = 2 if self.case.limits.async_scheduling else 1
        for number in range(MOST_STEPS):
            while waiting and waiting[0][1][0] <= number:
                self.scheduler.add(waiting.popleft()[0])
            if not (self.scheduler.has_work or self.in_flight or waiting):
                return
            step = self.scheduler.schedule()
            for share in step.scheduled:
                self.tokens[share.sequence.request_id] += share.tokens
                if depth == 2 and share.emits:
                    self.propose(share.sequence)
            yield step
            if step.scheduled:
                self.in_flight.append(step)
            if self.in_flight and (len(self.in_flight) == depth or not step.scheduled):
                self.complete(self.in_flight.popleft())
        raise AssertionError("it does not end")

    def complete(self, step: Step) -> None:
        accepted = [self.accepted(share) for share in step.scheduled]
        for share, right in zip(step.scheduled, accepted, strict=True):
            if not (share.sequence.finished or share.sequence.stale_tokens):
                drafts = share.drafts - right if self.case.drafting["verifies_drafts"] else 0
                self.wrong[share.sequence.request_id] += drafts + share.padding
        emitted = self.scheduler.complete(step, accepted)
        for share, count in zip(step.scheduled, emitted, strict=True):
            self.emitted[share.sequence.request_id] += count
            if count and not share.sequence.finished and not self.case.limits.async_scheduling:
                self.propose(share.sequence)

    def accepted(self, share: Scheduled) -> int:
        return self.case.drawn(share.sequence.request_id, share.sequence.emitted_tokens, share.drafts)

    def propose(self, sequence: SequenceState) -> None:
        k = self.case.drafting["max_draft_tokens"]
        self.scheduler.propose(sequence, self.case.drawn(-1 - sequence.request_id, sequence.known_tokens, k))


@st.composite
def cases(draw: st.DrawFn, *, shared: bool = True) -> Case:
    size, k = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    slots, lookahead = draw(st.sampled_from([0, 0, 1, k])), draw(st.sampled_from([0, k, k + 1]))
    chunked = draw(st.booleans())
    lengths = draw(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 14)), min_size=1, max_size=9))
    longest = max(prompt + output for prompt, output in lengths)
    limits = EngineLimits(
        max_num_seqs=draw(st.integers(1, 6)), block_size=size, chunked_prefill=chunked,
        max_num_batched_tokens=slots + (draw(st.integers(1, 40)) if chunked else longest + draw(st.integers(0, 40))),
        prefix_caching=shared and draw(st.booleans()), async_scheduling=draw(st.booleans()),
        scheduling_policy=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 5])),
        scheduler_reserve_full_isl=shared and draw(st.booleans()), watermark=draw(st.sampled_from([0.0, 0.1])),
        max_model_len=draw(st.sampled_from([None, longest, longest + 3])),
    )  # fmt: skip
    fits = k < limits.max_num_batched_tokens - slots or not limits.prefix_caching
    pads = k > 0 and fits and draw(st.booleans())
    needed = -(-(longest + lookahead + k * (pads and limits.prefix_caching)) // size)
    step, requests = 0, []
    for prompt, output in lengths:
        step += draw(st.sampled_from([0, 0, 1, 3]))
        hashes = tuple(draw(st.sampled_from([(), (1, 2, 3, 4), (1, 2, 5), (9,)])))
        requests.append((step, prompt, output, draw(st.integers(0, 2)), hashes))
    drafting = {
        "max_draft_tokens": k, "lookahead_tokens": lookahead, "draft_slots": slots, "pads_new_decodes": pads,
        "recompute_last_hit": draw(st.booleans()), "verifies_drafts": pads or draw(st.integers(0, 2)) > 0,
    }  # fmt: skip
    blocks, seed = needed + 1 + draw(st.integers(0, needed)), draw(st.integers(0, 2**32))
    return Case(limits, blocks, drafting, requests, seed, needed + 1)


@settings(max_examples=200)
@given(case=cases())
def test_every_step_keeps_to_its_limits_and_all_work_is_done(case: Case) -> None:
    run = Run(case)
    for step in run.steps():
        assert_within_limits(run, step)
        assert_blocks_conserved(run)
    assert run.scheduler.free_blocks == run.scheduler.num_blocks
    assert_all_done(run)


def assert_within_limits(run: Run, step: Step) -> None:
    limits, slots = run.case.limits, run.case.drafting["draft_slots"]
    assert sum(share.tokens + slots for share in step.scheduled) <= limits.max_num_batched_tokens
    assert len(run.scheduler.running) <= limits.max_num_seqs
    assert step.scheduled or step.preempted or run.in_flight or not run.scheduler.has_work
    assert all(share.tokens >= 1 for share in step.scheduled)
    assert len({share.sequence.request_id for share in step.scheduled}) == len(step.scheduled)
    assert not {id(s) for s in step.preempted} & {id(share.sequence) for share in step.scheduled}
    for sequence in run.scheduler.running:
        held = min(sequence.scheduled_tokens, limits.max_model_len or 10**9)
        assert sequence.blocks * limits.block_size >= held


def assert_blocks_conserved(run: Run) -> None:
    scheduler, size = run.scheduler, run.case.limits.block_size
    plain = sum(sequence.blocks - sequence.named_blocks for sequence in run.sequences)
    holders = Counter(block for sequence in run.sequences for block in named_blocks(sequence))
    assert plain + len(holders) + scheduler.free_blocks == scheduler.num_blocks == run.case.num_kv_blocks - 1
    assert all(block.references == count for block, count in holders.items())
    for sequence, (*_, hashes) in zip(run.sequences, run.case.requests, strict=True):
        for index, block in enumerate(named_blocks(sequence)):  # what is shared is the sequence's own prefix
            end = (index + 1) * size
            shared = end <= min(sequence.prompt_tokens, 4 * len(hashes))
            name = hashes[(end - 1) // 4] if shared else sequence.request_id
            assert (block.private, block.hash, block.place) == (not shared, name, index)


def assert_all_done(run: Run) -> None:
    """And what was lost is done again."""
    for sequence in run.sequences:
        number = sequence.request_id
        assert sequence.finished
        assert run.emitted[number] == sequence.output_tokens
        # Found or computed = in the cache at the end, or lost to preemptions, or drafted wrong.
        assert sequence.hit_tokens + run.tokens[number] == (
            sequence.scheduled_tokens + sequence.lost_tokens + run.wrong[number]
        )
        assert sequence.computed_tokens <= sequence.known_tokens - 1 + run.case.drafting["max_draft_tokens"]
        if not sequence.preemptions:
            assert sequence.lost_tokens == 0
        if not run.case.limits.prefix_caching:
            assert sequence.hit_tokens == 0


@settings(max_examples=150)
@given(case=cases())
def test_nobody_overtakes_under_fcfs(case: Case) -> None:
    case = replace(case, limits=case.limits.model_copy(update={"scheduling_policy": "fcfs"}))
    run = Run(case)
    admitted: list[int] = []
    for step in run.steps():
        order = [sequence.request_id for sequence in [*run.scheduler.running, *run.scheduler.waiting]]
        assert order == sorted(order)
        admitted += [
            share.sequence.request_id for share in step.scheduled if share.sequence.request_id not in admitted
        ]
    assert admitted == sorted(admitted)


@settings(max_examples=200)
@given(case=cases())
def test_under_priority_no_better_number_waits_for_a_worse_one_that_is_admitted(case: Case) -> None:
    case = replace(case, limits=case.limits.model_copy(update={"scheduling_policy": "priority"}))
    run = Run(case)
    before: set[int] = set()
    for step in run.steps():
        ranks = [(s.priority, s.request_id) for s in run.scheduler.waiting]
        assert ranks == sorted(ranks)
        now = {sequence.request_id for sequence in run.scheduler.running}
        for number in now - before:
            assert not ranks or (run.sequences[number].priority, number) < ranks[0]
        for victim in step.preempted:
            kept = [(s.priority, s.request_id) for s in run.scheduler.running]
            assert all(rank < (victim.priority, victim.request_id) for rank in kept)
        before = now


def trace(case: Case) -> tuple[list[Any], int]:
    """What each step does, and the most blocks in use."""
    run, rows, peak = Run(case), [], 0
    for step in run.steps():
        peak = max(peak, run.scheduler.num_blocks - run.scheduler.free_blocks)
        rows.append([(s.sequence.request_id, s.tokens, s.drafts, s.padding, s.emits) for s in step.scheduled])
        rows.append([s.request_id for s in step.preempted])
    return rows, peak


@settings(max_examples=200)
@given(case=cases(shared=False), more=st.integers(1, 60))
def test_blocks_beyond_the_peak_change_nothing(case: Case, more: int) -> None:
    """Where no admission asks for more than it takes: not with a watermark, a whole prompt or a cache to keep."""
    limits = case.limits.model_copy(update={"watermark": 0.0})
    ample, peak = trace(replace(case, limits=limits, num_kv_blocks=10_000))
    enough = max(peak + 1, case.least_blocks)
    for blocks in (enough, enough + more):
        assert trace(replace(case, limits=limits, num_kv_blocks=blocks)) == (ample, peak)


@settings(max_examples=100)
@given(case=cases())
def test_the_same_case_goes_the_same_way(case: Case) -> None:
    assert trace(case) == trace(case)
