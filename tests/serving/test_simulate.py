"""Whole runs: open and closed loops, replicas, saturation, and scenarios priced by the roofline."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import specsim
from specsim.assembly import assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput, NoAnswer
from specsim.results import RunResult
from specsim.scenario import Scenario, Speculation
from specsim.serving.simulate import run, simulate
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import ConditionalAcceptance
from specsim.workload.arrivals import PoissonArrivals
from specsim.workload.request import RequestSpec
from tests.replicas import replica


class PerToken:
    """A step's seconds are affine in its tokens and its draft tokens."""

    def __init__(self, base_s: float = 1.0, token_s: float = 0.0, draft_s: float = 0.0) -> None:
        self.base_s, self.token_s, self.draft_s = base_s, token_s, draft_s

    def step(
        self, groups: Sequence[Group], *, drafting: int, draft_tokens: int, drafting_kv_tokens: float
    ) -> StepTime:
        tokens = sum(group.tokens for group in groups)
        seconds = self.base_s + self.token_s * tokens + self.draft_s * drafting * draft_tokens
        return StepTime(seconds, {}, "roofline", seconds, seconds)


def closed(count: int, output: int, think_s: float = 0.0) -> list[RequestSpec]:
    return [RequestSpec(number, None, 4, output, think_s=think_s) for number in range(count)]


def speculation(program: str, k: int, rates: tuple[float, ...], policy_k: int | None = None) -> Speculation:
    fields: dict[str, Any] = {
        "program": program, "max_draft_tokens": k, "acceptance": ConditionalAcceptance(rates=rates),
        "policy": {"kind": "fixed", "k": k if policy_k is None else policy_k},
    }  # fmt: skip
    if program == "draft-model":
        fields["draft_model"] = "vicuna-68m"
    return Speculation.model_validate(fields)


def same(one: RunResult, other: RunResult, *, kv_blocks: bool = True) -> bool:
    """To the last digit; without ``kv_blocks``, that column of the steps apart."""
    left, right = asdict(one), asdict(other)
    for name in ("itl_s", "itl_request"):
        if not np.array_equal(left.pop(name), right.pop(name)):
            return False
    if not kv_blocks:
        for step in left["steps"] + right["steps"]:
            del step["kv_blocks"]
    return left == right


def test_a_closed_loop_without_thinking_keeps_the_batch_full() -> None:
    """4 clients, outputs of 5 tokens, 1 s a step: 4 requests every 5 s."""
    result = run(closed(40, 5), replica(EngineLimits(), 100, PerToken()), clients=4)
    assert result.duration_s == 50.0
    assert {step.sequences for step in result.steps} == {4}
    assert {r.e2e_s for r in result.requests} == {5.0}
    assert not result.saturated


def test_a_client_thinks_between_requests() -> None:
    result = run(closed(10, 3, 2.5), replica(EngineLimits(), 100, PerToken()), clients=1)
    assert [r.arrival_s for r in result.requests] == pytest.approx([5.5 * index for index in range(10)])
    assert {r.ttft_s for r in result.requests} == {1.0}


def test_a_closed_loop_never_holds_more_than_its_clients() -> None:
    result = run(closed(60, 4, 0.7), replica(EngineLimits(max_num_seqs=2), 100, PerToken()), clients=3)
    changes = sorted([(r.finish_s, -1) for r in result.requests] + [(r.arrival_s, 1) for r in result.requests])
    assert max(np.cumsum([change for _, change in changes])) == 3
    assert max(step.sequences + step.waiting for step in result.steps) == 3


def test_closed_loop_arrivals_ignore_the_times_of_a_trace() -> None:
    requests = [RequestSpec(number, 1000.0 * number, 4, 2) for number in range(4)]
    result = run(requests, replica(EngineLimits(), 100, PerToken()), clients=1)
    assert [r.arrival_s for r in result.requests] == [0.0, 2.0, 4.0, 6.0]


def test_an_open_loop_wants_times() -> None:
    with pytest.raises(InvalidInput, match="request 0 has no arrival time"):
        run(closed(2, 2), replica(EngineLimits(), 100, PerToken()))


def test_requests_are_served_by_arrival_whatever_their_order() -> None:
    requests = [RequestSpec(0, 5.0, 4, 1), RequestSpec(1, 0.0, 4, 1)]
    result = run(requests, replica(EngineLimits(), 100, PerToken()))
    assert [(r.request_id, r.finish_s) for r in result.requests] == [(0, 6.0), (1, 1.0)]


def test_replicas_take_turns_and_do_not_meet() -> None:
    """Odd and even requests on two replicas live exactly as on one replica each."""
    times = PoissonArrivals(rate_per_s=3.0).times_s(60, np.random.default_rng(1))
    requests = [RequestSpec(number, time, 8, 5) for number, time in enumerate(times.tolist())]
    server = replica(EngineLimits(max_num_seqs=4), 100, PerToken(0.3, 0.01))
    both = run(requests, server, replicas=2)
    halves = [run(requests[part::2], server) for part in (0, 1)]
    for number, half in enumerate(halves):
        alone = [replace(record, replica=number) for record in half.requests]
        assert [record for record in both.requests if record.replica == number] == alone
    assert sorted(both.itl_s) == sorted([*halves[0].itl_s, *halves[1].itl_s])
    assert len(both.steps) == len(halves[0].steps) + len(halves[1].steps)
    assert (both.num_gpus, halves[0].num_gpus) == (2, 1)


@pytest.mark.parametrize(
    ("gap_s", "saturated"), [(1e-6, True), (0.5, True), (0.9, True), (1.02, False), (2.0, False), (0.0, True)]
)
def test_saturation(gap_s: float, saturated: bool) -> None:
    """One request a second can be served."""
    requests = [RequestSpec(number, gap_s * number, 4, 1) for number in range(1000)]
    result = run(requests, replica(EngineLimits(max_num_seqs=1), 100, PerToken()))
    assert result.saturated is saturated
    assert not result.truncated


@pytest.mark.parametrize("seed", range(5))
def test_a_stable_random_queue_is_not_called_saturated(seed: int) -> None:
    times = PoissonArrivals(rate_per_s=0.9).times_s(3000, np.random.default_rng(seed))
    requests = [RequestSpec(number, time, 4, 1) for number, time in enumerate(times.tolist())]
    assert not run(requests, replica(EngineLimits(max_num_seqs=1), 100, PerToken())).saturated


def test_progress_hears_every_finish() -> None:
    heard: list[tuple[int, int]] = []
    run(
        [RequestSpec(number, 0.0, 4, 1 + number) for number in range(5)],
        replica(EngineLimits(), 100, PerToken()),
        progress=lambda done, total: heard.append((done, total)),
        by_events=True,
    )
    assert heard == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_request_that_can_never_run_is_an_answer_of_one_line() -> None:
    with pytest.raises(NoAnswer, match="request 1 needs room for") as caught:
        run([RequestSpec(0, 0.0, 4, 1), RequestSpec(1, 3.0, 400, 9)], replica(EngineLimits(), 10, PerToken()))
    assert "\n" not in str(caught.value)


def test_an_empty_workload_is_an_empty_run() -> None:
    result = run([], replica(EngineLimits(), 10, PerToken()))
    assert (result.requests, result.steps, result.duration_s, result.itl_s.size) == ([], [], 0.0, 0)


@pytest.mark.parametrize("program", ["ngram", "draft-model"])
def test_zero_drafts_equal_no_speculation_to_the_last_digit(program: str) -> None:
    times = PoissonArrivals(rate_per_s=2.0).times_s(80, np.random.default_rng(2))
    requests = [RequestSpec(number, time, 30, 12) for number, time in enumerate(times.tolist())]
    # A loaded draft model takes a slot of the budget for each request, so the budget is ample.
    limits, cost = EngineLimits(max_num_batched_tokens=4096), PerToken(0.05, 0.002, 0.001)
    plain = run(requests, replica(limits, 500, cost))
    off = run(requests, replica(limits, 500, cost, speculation(program, 4, (0.7,) * 4, policy_k=0)))
    on = run(requests, replica(limits, 500, cost, speculation(program, 4, (0.7,) * 4)))
    assert same(off, plain, kv_blocks=program == "ngram")  # a loaded draft model still reserves its slots
    assert not same(on, plain, kv_blocks=False)


def test_lookahead_slots_of_an_idle_drafter_cost_kv_blocks() -> None:
    """Prompts fill blocks of 16 to the last slot but one, so 4 slots more mean a second block each.

    Of 11 blocks one is never used.
    """
    requests = [RequestSpec(number, 0.0, 15, 2) for number in range(10)]
    server = replica(EngineLimits(), 11, PerToken())
    loaded = replica(EngineLimits(), 11, PerToken(), speculation("draft-model", 4, (0.7,) * 4, policy_k=0))
    assert max(step.sequences for step in run(requests, server).steps) == 10
    assert max(step.sequences for step in run(requests, loaded).steps) == 5


def test_tokens_per_round_agree_with_the_law() -> None:
    """5 standard errors of the mean of the law's own variance."""
    rates = (0.9, 0.7, 0.4)
    law = ConditionalAcceptance(rates=rates)
    requests = [RequestSpec(number, 0.0, 4, 2001) for number in range(20)]
    result = run(requests, replica(EngineLimits(), 5000, PerToken(), speculation("ngram", 3, rates), seed=5))
    survival = law.survival(3)
    mean = law.expected_tokens(3)
    # E[j²] = Σ (2i - 1) r_i for j accepted drafts.
    variance = float(((2 * np.arange(1, 4) - 1) * survival).sum() - survival.sum() ** 2)
    rounds = result.acceptance.drafting_rounds()
    measured = result.acceptance.acceptance_length()
    assert measured is not None
    assert abs(measured - mean) < 5 * (variance / rounds) ** 0.5
    assert (variance / rounds) ** 0.5 < 0.01
    # Rounds of a request: (N - 1 + (E[X²]/E[X] - 1)/2) / E[X], by renewal theory.
    second = variance + mean**2
    renewal = (2000 + (second / mean - 1) / 2) / mean
    assert np.mean([r.rounds for r in result.requests]) == pytest.approx(renewal, rel=0.01)


SCENARIO: dict[str, Any] = {
    "name": "small",
    "model": "vicuna-7b",
    "gpu": "a100-80gb",
    "engine": {"max_num_seqs": 32},
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 8.0},
        "lengths": {"kind": "lognormal", "prompt_mean": 200, "prompt_cv": 1, "output_mean": 40, "output_cv": 0.7},
        "requests": 60,
    },
    "speculation": {
        "program": "draft-model",
        "draft_model": "vicuna-68m",
        "max_draft_tokens": 4,
        "acceptance": {"kind": "constant", "rate": 0.7},
    },
    "cost": {"source": "roofline"},
    "seed": 11,
}


def test_a_scenario_end_to_end() -> None:
    scenario = Scenario.model_validate(SCENARIO)
    result = simulate(assemble(scenario))
    drawn = scenario.requests()
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens) for r in result.requests] == [
        (r.arrival_s, r.prompt_tokens, r.output_tokens) for r in drawn
    ]
    assert (result.engine, result.price_source, result.scenario_sha256) == ("simulated", "roofline", scenario.sha256())
    assert result.versions["specsim"] == specsim.__version__
    assert max(step.kv_blocks for step in result.steps) <= assemble(scenario).num_kv_blocks
    # Every round streams all weights at least: 13.5 GB at 2.04 TB/s take 6.6 ms.
    assert min(step.duration_s for step in result.steps) > 5e-3
    plain = simulate(assemble(scenario.without_speculation()))
    assert np.mean([r.tpot_s or 0 for r in result.requests]) < np.mean([r.tpot_s or 0 for r in plain.requests])


def test_a_closed_loop_scenario() -> None:
    workload = SCENARIO["workload"] | {"arrivals": {"kind": "closed_loop", "concurrency": 4}}
    result = simulate(assemble(Scenario.model_validate(SCENARIO | {"workload": workload})))
    assert len(result.requests) == 60
    assert max(step.sequences for step in result.steps) == 4


def test_the_seed_decides_the_run() -> None:
    runs = [simulate(assemble(Scenario.model_validate(SCENARIO | {"seed": seed}))) for seed in (11, 11, 12)]
    assert same(runs[0], runs[1])
    assert runs[0].requests != runs[2].requests


DIGEST = """
import hashlib, sys
from specsim.scenario import Scenario
from specsim.assembly import assemble
from specsim.serving.simulate import simulate
result = simulate(assemble(Scenario.model_validate_json(sys.stdin.read())))
text = repr((result.requests, result.steps, result.itl_s.tolist(), result.acceptance, result.summary()))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_two_processes_agree_to_the_last_digit() -> None:
    scenario = Scenario.model_validate(SCENARIO).model_dump_json(by_alias=True)
    digests = set()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(specsim.__file__).parents[1])}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], input=scenario, env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == 64
