"""A replica's timeline, worked by hand, and what it asks its prices."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from specsim.cost.forward import Group, Source
from specsim.cost.step_time import StepTime
from specsim.results import RunResult, StepRecord
from specsim.scenario import Speculation
from specsim.serving.simulate import run
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.policy import FixedPolicy, Policy, TablePolicy
from specsim.speculation.program import DraftProgram, Phase
from specsim.workload.request import RequestSpec
from tests.replicas import replica


class Steady:
    """Every step takes the same time; remembers what it was asked."""

    def __init__(self, seconds: float = 1.0, sources: Sequence[Source] = ("roofline",), lag_s: float = 0.0) -> None:
        self.seconds, self.lag_s = seconds, lag_s
        self.sources = sources
        self.asked: list[tuple[list[Group], int, int, float]] = []

    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime:
        self.asked.append((list(groups), drafting, draft_tokens, drafting_kv_tokens))
        source = self.sources[min(len(self.asked), len(self.sources)) - 1]
        return StepTime(self.seconds, {}, source, self.seconds, self.seconds, lag_s=self.lag_s)


def speculation(k: int, rate: float, policy: Policy | None = None) -> Speculation:
    program = DraftProgram(
        name="look-up", source="test", lossless=True, proposal="copy",
        phases=(Phase(where="cpu", weights="none", passes="none"),),
    )  # fmt: skip
    return Speculation(
        program=program,
        max_draft_tokens=k,
        acceptance=ConstantAcceptance(rate=rate),
        policy=policy or FixedPolicy(k=k),
    )


def serve(
    requests: list[tuple[float, int, int]], cost: Steady, speculation: Speculation | None = None, **limits: int | bool
) -> RunResult:
    """(arrival, prompt, output) each; 1000 KV blocks."""
    server = replica(EngineLimits.model_validate(limits), 1000, cost, speculation)
    return run([RequestSpec(number, *request) for number, request in enumerate(requests)], server)


def test_a_timeline_by_hand() -> None:
    result = serve([(0.0, 4, 3), (0.5, 6, 3), (10.25, 2, 1)], Steady())
    times = [(r.first_token_s, r.finish_s) for r in result.requests]
    assert times == [(1.0, 3.0), (2.0, 4.0), (11.25, 11.25)]
    assert [r.ttft_s for r in result.requests] == [1.0, 1.5, 1.0]
    assert [r.tpot_s for r in result.requests] == [1.0, 1.0, None]
    assert [r.rounds for r in result.requests] == [2, 2, 0]
    assert result.itl_s.tolist() == [1.0] * 4
    assert result.duration_s == 11.25
    assert result.steps == [
        StepRecord(0.0, 1.0, 1, 4, 0, 0, 0, kv_blocks=1, waiting=0),
        StepRecord(1.0, 1.0, 2, 6, 1, 0, 0, kv_blocks=2, waiting=0),
        StepRecord(2.0, 1.0, 2, 0, 2, 0, 0, kv_blocks=2, waiting=0),
        StepRecord(3.0, 1.0, 1, 0, 1, 0, 0, kv_blocks=1, waiting=0),
        StepRecord(10.25, 1.0, 1, 2, 0, 0, 0, kv_blocks=1, waiting=0),
    ]
    assert result.acceptance.rounds == {0: {0: 4}}
    assert not result.truncated
    assert not result.saturated


def test_tokens_are_out_later_than_the_next_step_starts() -> None:
    """Steps of 1 s that follow at once, whose tokens take 1.5 s: the first of 3 at 1.5 s, the last at 3.5 s."""
    result = serve([(0.0, 4, 3), (0.5, 6, 3)], Steady(lag_s=0.5))
    assert [(r.first_token_s, r.finish_s) for r in result.requests] == [(1.5, 3.5), (2.5, 4.5)]
    assert [(step.start_s, step.duration_s, step.latency_s) for step in result.steps] == [
        (float(start), 1.0, 1.5) for start in range(4)
    ]
    assert result.itl_s.tolist() == [1.0] * 4


@pytest.mark.parametrize("by_events", [False, True])
def test_a_client_asks_again_when_it_has_its_answer(by_events: bool) -> None:
    """One step of 1 s a request, out after 1.5 s, and 0.25 s to think: one request each 1.75 s."""
    server = replica(EngineLimits(), 1000, Steady(lag_s=0.5))
    rows = [RequestSpec(number, None, 4, 1, think_s=0.25) for number in range(3)]
    result = run(rows, server, clients=1, by_events=by_events)
    assert [one.arrival_s for one in result.requests] == [0.0, 1.75, 3.5]
    assert [one.finish_s for one in result.requests] == [1.5, 3.25, 5.0]


@pytest.mark.parametrize(("asynchronous", "first_s"), [(False, 2.0), (True, 3.0)])
def test_an_asynchronous_engine_has_chosen_the_next_step_already(asynchronous: bool, first_s: float) -> None:
    """A request comes while the first step of 1 s runs; the one after was chosen when that began. Idle, none was."""
    result = serve([(0.0, 4, 6), (0.5, 6, 3), (20.25, 2, 1)], Steady(), async_scheduling=asynchronous)
    assert [one.first_token_s for one in result.requests] == [1.0, first_s, 21.25]


def test_an_asynchronous_engine_that_runs_out_of_work_waits_for_nothing() -> None:
    result = serve([(0.0, 4, 2), (1.5, 6, 3)], Steady(), async_scheduling=True)
    assert [one.first_token_s for one in result.requests] == [1.0, 3.0]


@pytest.mark.parametrize("by_events", [False, True])
def test_the_front_end_takes_its_time_both_ways(by_events: bool) -> None:
    """0.25 s to the scheduler and 0.5 s back: a token of a step of 1 s after 1.75 s. The next request comes then."""
    limits = EngineLimits(frontend_request_s=0.25, frontend_response_s=0.5)
    rows = [RequestSpec(number, None, 4, 3) for number in range(2)]
    result = run(rows, replica(limits, 1000, Steady()), clients=1, by_events=by_events)
    assert [(one.arrival_s, one.ttft_s, one.finish_s) for one in result.requests] == [
        (0.0, 1.75, 3.75),
        (3.75, 1.75, 7.5),
    ]
    assert result.itl_s.tolist() == [1.0] * 4


def test_equal_requests_that_start_together_come_in_waves() -> None:
    """Steps of 12 tokens take one whole prompt of 4 beside seven decodes, and one token of the next. A prompt that
    straddles two steps ends with the later one, so that after some waves none does: eight steps of 24 have prompts.
    """
    clients, output, waves = 8, 24, 40
    rows = [RequestSpec(number, None, 4, output) for number in range(clients * waves)]
    server = replica(EngineLimits(max_num_batched_tokens=12), 1000, Steady())
    result = run(rows, server, clients=clients)
    late = [step for step in result.steps if step.start_s >= 20 * output and step.start_s < 36 * output]
    chunks = [step.prefill_tokens for step in late if step.prefill_tokens]
    assert set(chunks) == {4}
    assert len(chunks) / 16 == pytest.approx(clients, rel=0.1)


def test_requests_of_one_instant_share_a_step() -> None:
    cost = Steady()
    serve([(3.0, 4, 1), (3.0, 5, 1), (3.0, 6, 1)], cost)
    assert [len(groups) for groups, *_ in cost.asked] == [3]


def test_decoding_sequences_of_one_width_are_one_group_and_chunks_stand_alone() -> None:
    cost = Steady()
    serve([(0.0, 10, 9), (0.0, 20, 9), (0.5, 5, 9)], cost, max_num_batched_tokens=32)
    first, second = cost.asked[0], cost.asked[1]
    assert first == ([Group(1, 10, 10, 1), Group(1, 20, 20, 1)], 2, 0, 16.0)  # 11 and 21 known tokens
    assert second == ([Group(2, 1, 16.0, 1), Group(1, 5, 5, 1)], 3, 0, pytest.approx((12 + 22 + 6) / 3))


def test_a_chunk_that_is_not_the_last_wants_no_logits() -> None:
    cost = Steady()
    serve([(0.0, 25, 2)], cost, max_num_batched_tokens=10)
    assert [groups for groups, *_ in cost.asked] == [
        [Group(1, 10, 10, 0)], [Group(1, 10, 20, 0)], [Group(1, 5, 25, 1)], [Group(1, 1, 26, 1)],
    ]  # fmt: skip
    assert [drafting for _, drafting, *_ in cost.asked] == [0, 0, 1, 0]


def test_rounds_that_accept_everything() -> None:
    """1 token from the prefill, then 1 + 3 a round: 9 tokens take 2 rounds, drafted at the end of the step before."""
    cost = Steady()
    result = serve([(0.0, 8, 9)], cost, speculation(3, 1.0))
    assert cost.asked == [
        ([Group(1, 8, 8, 1)], 1, 3, 9.0),
        ([Group(1, 4, 12, 4)], 1, 3, 13.0),
        ([Group(1, 4, 16, 4)], 0, 3, 0.0),
    ]
    record = result.requests[0]
    assert (record.rounds, record.drafted, record.accepted, record.finish_s) == (2, 6, 6, 3.0)
    assert result.acceptance.rounds == {3: {3: 2}}
    assert result.acceptance.acceptance_length() == 4.0
    assert [(s.verify_tokens, s.draft_tokens, s.accepted) for s in result.steps] == [(0, 0, 0), (4, 3, 3), (4, 3, 3)]
    assert result.itl_s.tolist() == [1.0, 1.0]  # chunks, not tokens


def test_rounds_that_accept_nothing() -> None:
    cost = Steady()
    result = serve([(0.0, 8, 4)], cost, speculation(2, 0.0))
    assert [groups[0] for groups, *_ in cost.asked] == [
        Group(1, 8, 8, 1), Group(1, 3, 11, 3), Group(1, 3, 12, 3), Group(1, 3, 13, 3),
    ]  # fmt: skip
    assert result.acceptance.rounds == {2: {0: 3}}


def test_the_overshoot_of_the_last_round_counts_as_accepted() -> None:
    result = serve([(0.0, 8, 3)], Steady(), speculation(4, 1.0))
    record = result.requests[0]
    assert (record.output_tokens, record.rounds, record.accepted) == (3, 1, 4)


def test_k_comes_from_the_requests_scheduled_prefills_included() -> None:
    cost = Steady()
    policy = TablePolicy(ranges=((1, 1, 4), (2, 8, 0)))
    result = serve([(0.0, 4, 30), (1.5, 4, 1)], cost, speculation(4, 0.0, policy))
    assert [k for _, _, k, _ in cost.asked[:5]] == [4, 4, 0, 4, 4]  # two are scheduled in the third step alone
    assert [s.draft_tokens for s in result.steps[:6]] == [0, 4, 4, 0, 4, 4]  # and verify a step later


def test_k_leaves_out_running_requests_that_the_budget_left_out() -> None:
    cost = Steady()
    policy = TablePolicy(ranges=((1, 2, 3), (3, 8, 1)))
    serve([(0.0, 1, 20)] * 3, cost, speculation(3, 0.0, policy), max_num_batched_tokens=4)
    assert [sum(group.sequences for group in groups) for groups, *_ in cost.asked[:3]] == [3, 2, 1]
    assert [k for _, _, k, _ in cost.asked[:3]] == [1, 3, 3]


def test_widths_that_a_short_budget_trimmed_are_groups_of_their_own() -> None:
    cost = Steady()
    serve([(0.0, 3, 20)] * 3, cost, speculation(3, 0.0), max_num_batched_tokens=10)
    groups, drafting, *_ = cost.asked[1]
    assert groups == [Group(2, 4, 7.0, 4), Group(1, 2, 5.0, 2)]
    assert drafting == 3


def test_the_worst_price_source_is_told() -> None:
    assert (
        serve([(0.0, 3, 4)], Steady(sources=("measured", "extrapolated", "measured"))).price_source == "extrapolated"
    )
    assert serve([(0.0, 3, 4)], Steady(sources=("measured",))).price_source == "measured"


def test_preempted_requests_are_recomputed_and_told() -> None:
    """Two requests of 8 + 8 tokens on 5 blocks of 4: the second loses its cache as soon as both decode."""
    server = replica(EngineLimits(block_size=4), 5, Steady())
    result = run([RequestSpec(0, 0.0, 8, 8), RequestSpec(1, 0.0, 8, 8)], server)
    assert [r.preemptions for r in result.requests] == [0, 1]
    assert result.requests[0].finish_s == 8.0
    assert result.requests[1].first_token_s == 1.0  # a streamed token is not taken back
    assert result.requests[1].finish_s == 15.0  # waits out the first, then 9 tokens at once and 6 more
    assert sorted(result.itl_s.tolist())[-1] == 8.0
    assert result.requests[1].rounds == 6
