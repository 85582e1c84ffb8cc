"""Laws that every run obeys, over random small scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.results import RunResult
from specsim.scenario import Speculation
from specsim.serving.fleet import Fleet
from specsim.serving.simulate import run
from specsim.serving.sinks import KeptRecords
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import uniform
from specsim.speculation.policy import FixedPolicy, TablePolicy
from specsim.speculation.program import DraftProgram, Phase
from specsim.workload.request import RequestSpec, requests_of
from tests.replicas import replica

BASE_S = 0.01
RATE = 0.6


class Affine:
    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime:
        seconds = BASE_S + 0.001 * sum(group.tokens for group in groups) + 0.0003 * drafting * draft_tokens
        return StepTime(seconds, {}, "roofline", seconds, seconds)


@dataclass(frozen=True)
class Case:
    requests: list[RequestSpec]
    limits: EngineLimits
    num_kv_blocks: int
    speculation: Speculation | None
    seed: int
    replicas: int = 1

    def machine(self) -> Assembly:
        return replica(self.limits, self.num_kv_blocks, Affine(), self.speculation, self.seed)

    def run(self) -> RunResult:
        return run(self.requests, self.machine(), replicas=self.replicas)

    def fleet(self) -> Fleet:
        """Its replicas after the run."""
        fleet = Fleet([self.machine()] * self.replicas, ["default"], router="round_robin")
        fleet.serve([requests_of(self.requests)], KeptRecords(["default"]))
        return fleet

    def longest(self) -> int:
        """Tokens that the longest request needs room for."""
        drafts = 2 * self.speculation.max_draft_tokens if self.speculation else 0
        return max(r.prompt_tokens + r.output_tokens for r in self.requests) + drafts


def speculating(k: int, lookahead: bool, switching: bool = False) -> Speculation:
    program = DraftProgram(
        name="test",
        source="test",
        lossless=True,
        proposal="chain",
        lookahead="per_token" if lookahead else "none",
        phases=(Phase(where="cpu", weights="none", passes="none"),),
    )
    policy = TablePolicy(ranges=((1, 2, k), (3, 4, k // 2), (5, 5, 0))) if switching else FixedPolicy(k=k)
    return Speculation.model_validate(
        {"program": program, "max_draft_tokens": k, "acceptance": {"kind": "constant", "rate": RATE}, "policy": policy}
    )


@st.composite
def cases(draw: st.DrawFn, *, roomy: bool = False) -> Case:
    """``roomy``: tokens and sequences without limit, so that drafts are never trimmed; KV blocks are ample too."""
    lengths = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=25))
    gaps = draw(
        st.lists(st.sampled_from([0.0, 0.003, 0.011, 0.05, 0.4]), min_size=len(lengths), max_size=len(lengths))
    )
    arrivals = np.cumsum(gaps).tolist()
    k = draw(st.integers(0, 4))
    speculation = None if k == 0 else speculating(k, draw(st.booleans()), not roomy and draw(st.booleans()))
    limits = EngineLimits(
        max_num_seqs=256 if roomy else draw(st.integers(1, 6)),
        max_num_batched_tokens=8192 if roomy else draw(st.integers(1, 64)),
        block_size=draw(st.sampled_from([1, 3, 16])),
        scheduler_reserve_full_isl=draw(st.booleans()),
    )
    requests = [RequestSpec(i, arrivals[i], *pair) for i, pair in enumerate(lengths)]
    case = Case(requests, limits, 1, speculation, draw(st.integers(0, 2**32)), 1 if roomy else draw(st.integers(1, 3)))
    spare = 10_000 if roomy else draw(st.integers(0, 30))
    return replace(case, num_kv_blocks=-(-case.longest() // limits.block_size) + 1 + spare)


def fingerprint(result: RunResult) -> str:
    return repr((result.requests, result.steps, result.itl_s.tolist(), result.acceptance))


@settings(max_examples=150)
@given(case=cases())
def test_requests_tokens_and_blocks_are_conserved_within_limits(case: Case) -> None:
    result, fleet = case.run(), case.fleet()
    assert_conserved(case, result, fleet)
    assert_within_limits(case, result)


def assert_conserved(case: Case, result: RunResult, fleet: Fleet) -> None:
    assert [(r.request_id, r.prompt_tokens, r.output_tokens, r.arrival_s) for r in result.requests] == [
        (r.request_id, r.prompt_tokens, r.output_tokens, r.arrival_s) for r in case.requests
    ]
    assert len(fleet.replicas) == case.replicas
    for one in fleet.replicas:
        assert one["num_running"] == one["num_waiting"] == 0
        assert one["free_plain"] + one["free_named"] == case.num_kv_blocks - 1  # the null block
    prompts = sum(r.prompt_tokens for r in result.requests)
    prefilled = sum(step.prefill_tokens for step in result.steps)
    verified = sum(step.verify_tokens for step in result.steps)
    rounds, drafted, accepted = (
        sum(getattr(r, name) for r in result.requests) for name in ("rounds", "drafted", "accepted")
    )
    assert verified == rounds + drafted
    assert sum(step.draft_tokens for step in result.steps) == drafted == result.acceptance.drafted()
    assert sum(step.accepted for step in result.steps) == accepted == result.acceptance.accepted()
    assert rounds == sum(sum(row.values()) for row in result.acceptance.rounds.values())
    preemptions = sum(r.preemptions for r in result.requests)
    # An admission of one token may be padded to a round's width.
    padding = sum(r.prompt_tokens == 1 for r in result.requests) * (
        case.speculation.max_draft_tokens if case.speculation else 0
    )
    assert prompts <= prefilled <= prompts + padding if preemptions == 0 else prefilled > prompts
    for r in result.requests:
        # The first token comes from the prefill, as does one after each recomputation that was not itself cut short.
        most = case.speculation.max_draft_tokens if case.speculation else 0
        assert r.output_tokens - 1 - r.preemptions <= r.rounds + r.accepted <= r.output_tokens - 1 + most
    chunks = sum(r.rounds for r in result.requests) + preemptions
    assert len(result.itl_s) <= chunks
    if preemptions == 0:
        assert len(result.itl_s) == chunks


def assert_within_limits(case: Case, result: RunResult) -> None:
    """Limits of steps hold, and nothing is served before it arrives."""
    for step in result.steps:
        assert 1 <= step.sequences <= case.limits.max_num_seqs
        assert 1 <= step.prefill_tokens + step.verify_tokens <= case.limits.max_num_batched_tokens
        assert step.kv_blocks <= case.num_kv_blocks
        assert 0 <= step.accepted <= step.draft_tokens
    for r in result.requests:
        steps = r.rounds + (r.output_tokens > 0)
        assert r.first_token_s >= r.arrival_s + BASE_S
        assert r.e2e_s >= steps * BASE_S - 1e-9
        assert r.finish_s >= r.first_token_s
    assert result.duration_s == max(r.finish_s for r in result.requests)
    for number in range(case.replicas):
        own = result.requests[number :: case.replicas]
        firsts = [r.first_token_s for r in own]
        assert firsts == sorted(firsts)  # first come, first served: nobody starves


@settings(max_examples=40)
@given(case=cases())
def test_a_replica_works_without_a_break_while_it_has_work(case: Case) -> None:
    """On one replica steps follow each other at once, or the next one starts with an arrival."""
    result = replace(case, replicas=1).run()
    arrivals = {r.arrival_s for r in result.requests}
    end = 0.0
    for step in result.steps:
        assert step.start_s == end or step.start_s in arrivals
        end = step.start_s + step.duration_s


@settings(max_examples=40)
@given(case=cases())
def test_one_seed_one_result(case: Case) -> None:
    assert fingerprint(case.run()) == fingerprint(case.run())


@settings(max_examples=60)
@given(case=cases(), more=st.integers(0, 50))
def test_kv_blocks_beyond_the_peak_change_nothing(case: Case, more: int) -> None:
    """Where an admission asks for room for its whole prompt, that room may lie above the peak of blocks in use."""
    case = replace(case, limits=case.limits.model_copy(update={"scheduler_reserve_full_isl": False}))
    ample = replace(case, num_kv_blocks=100_000)
    result = ample.run()
    peak = max(step.kv_blocks for step in result.steps)
    least = -(-case.longest() // case.limits.block_size)
    tight = replace(case, num_kv_blocks=max(peak, least) + 1 + more).run()
    assert fingerprint(tight) == fingerprint(result)


@settings(max_examples=80)
@given(case=cases(roomy=True))
def test_acceptance_is_a_function_of_seed_request_and_position(case: Case) -> None:
    """Whatever else runs: at output position p a draft is right when u(seed, request, p) < a, alone or in a batch."""
    result = case.run()
    k = case.speculation.max_draft_tokens if case.speculation else 0
    for r in result.requests:
        position, rounds, accepted = 1, 0, 0
        while position < r.output_tokens:
            ids = np.full(k, r.request_id)
            wrong = np.flatnonzero(uniform(case.seed, ids, position + np.arange(k)) >= RATE)
            right = int(wrong[0]) if wrong.size else k
            position, rounds, accepted = position + right + 1, rounds + 1, accepted + right
        assert (r.rounds, r.drafted, r.accepted) == (rounds, rounds * k, accepted)


@settings(max_examples=30)
@given(case=cases(roomy=True), k=st.integers(1, 4))
def test_a_longer_draft_never_needs_more_rounds(case: Case, k: int) -> None:
    """Draws are shared between draft lengths, and so are arrivals and lengths; k more drafts only ever skip rounds."""
    short = replace(case, speculation=speculating(k, False)).run()
    long = replace(case, speculation=speculating(k + 1, False)).run()
    for one, other in zip(short.requests, long.requests, strict=True):
        assert (one.arrival_s, one.prompt_tokens, one.output_tokens) == (
            other.arrival_s,
            other.prompt_tokens,
            other.output_tokens,
        )
        assert other.rounds <= one.rounds
