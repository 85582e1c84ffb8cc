"""Large runs: price tables, totals in place of records, what stands in the way, and input that is hostile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest

from specsim.arrays import Floats, Reals
from specsim.assembly import assemble
from specsim.cases import load_case
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput, NoAnswer
from specsim.results import RunResult
from specsim.scenario import Scenario, Speculation, load_scenario
from specsim.serving.fleet import Fleet
from specsim.serving.prices import extent_of, priced_replicas, tabled
from specsim.serving.simulate import run, simulate
from specsim.serving.sinks import RunningTotals
from specsim.specs.engine import EngineLimits
from specsim.speculation.compiled_uniform import key_of, uniform_of
from specsim.speculation.program import load_program, program_names
from specsim.speculation.round import RoundCost
from specsim.speculation.uniform import stream_seed, uniform
from specsim.step_prices.table_prices import TablePrices, table_errors
from specsim.workload.request import Requests
from tests.replicas import replica

pytestmark = pytest.mark.slow  # numba compiles for some twenty seconds the first time


def scenario(k: int = 4, requests: int = 1200, **changes: Any) -> Scenario:
    fields: dict[str, Any] = {
        "name": "large", "model": "llama-3.1-8b", "gpu": "a100-80gb", "engine": {"max_num_batched_tokens": 512},
        "workload": {
            "kind": "synthetic", "requests": requests, "arrivals": {"kind": "poisson", "rate_per_s": 4.0},
            "lengths": {
                "kind": "lognormal", "prompt_mean": 600, "prompt_cv": 1, "output_mean": 200, "output_cv": 0.7,
            },
        },
    }  # fmt: skip
    if k:
        fields["speculation"] = {
            "program": "draft-model", "draft_model": "llama-3.2-1b", "max_draft_tokens": k,
            "acceptance": {"kind": "constant", "rate": 0.7},
        }  # fmt: skip
    return Scenario.model_validate(fields | changes)


ASKED = {
    f"k {k} on {gpu}": (lambda k=k, gpu=gpu: scenario(k, gpu=gpu)) for k in (0, 1, 4) for gpu in ("a100-80gb", "h200")
} | {
    "a budget of 8,192 on h100": lambda: scenario(3, gpu="h100-sxm", engine={}),
    "a draft model on a CPU": lambda: load_scenario("cpu-144m"),
    "early exit on a CPU": lambda: load_case("cpu-imposed-157m-turin-2026-11-22").drafters["kangaroo"],
    "look-up on a CPU": lambda: load_case("cpu-imposed-157m-turin-2026-11-22").drafters["ngram"],
}  # fmt: skip


def errors_of(question: Scenario, tried: int = 256) -> Floats:
    """Of random steps, decode, verify and mixed with up to eight chunks."""
    machine = assemble(question)
    priced, exact = tabled(machine).cost, machine.cost
    assert isinstance(priced, TablePrices)
    return table_errors(exact, priced, extent_of(machine), tried=tried, seed=5)


def check(errors: Floats) -> None:
    assert np.median(errors) <= 0.003
    assert errors.max() <= 0.02


@pytest.mark.parametrize("asked", ASKED)
def test_tables_hold_prices(asked: str) -> None:
    check(errors_of(ASKED[asked]()))


def asked_with(program: str, gpu: str, model: str) -> Scenario:
    """A bundled program as it comes."""
    speculation = {"program": program}
    if load_program(program).needs_draft_model:
        speculation["draft_model"] = {"llama-3.1-8b": "llama-3.2-1b", "qwen3-30b-a3b": "qwen3-0.6b"}[model]
    return scenario(0, gpu=gpu, model=model, engine={"max_num_batched_tokens": 1024}, speculation=speculation)


# Their passes carry other tokens than the step's, go through some layers, or run beside each other.
UNLIKE = (
    "beam-search", "deed", "eagle2", "hidden-transfer", "kangaroo", "lookahead", "pard", "pearl", "specbatch", "swift",
)  # fmt: skip
MACHINES = [
    ("h100-sxm", "llama-3.1-8b"), ("a100-80gb", "llama-3.1-8b"), ("l40s", "llama-3.1-8b"),
    ("h100-sxm", "qwen3-30b-a3b"),
]  # fmt: skip


@pytest.mark.parametrize("program", UNLIKE)
def test_tables_hold_the_prices_of_programs(program: str) -> None:
    check(errors_of(asked_with(program, "h100-sxm", "llama-3.1-8b"), tried=128))


@pytest.mark.full
@pytest.mark.parametrize("program", program_names())
@pytest.mark.parametrize(("gpu", "model"), MACHINES)
def test_tables_hold_the_prices_of_every_program(program: str, gpu: str, model: str) -> None:
    """On cards whose attention computes whole tiles too, and of a mixture of experts."""
    check(errors_of(asked_with(program, gpu, model)))


@pytest.mark.parametrize("decoding", [1, 2, 3])
def test_tables_hold_a_pass_that_part_of_the_sequences_reach_just_past_a_tile(decoding: int) -> None:
    """Deep layers run 512 tokens of a prompt and less than one of each sequence beside it; a tile begins at 513."""
    machine = assemble(asked_with("skipdecode", "l40s", "llama-3.1-8b"))
    groups = [Group(decoding, 1, 500, 1), Group(1, 512, 512, 1)]
    priced, exact = (
        one.step(groups, drafting=decoding + 1, draft_tokens=0, drafting_kv_tokens=500.0).seconds
        for one in (tabled(machine).cost, machine.cost)
    )
    assert priced == pytest.approx(exact, rel=0.005)


def test_the_workloads_size_does_not_change_the_prices() -> None:
    small, large = (tabled(assemble(scenario(requests=count))).cost for count in (3, 1_000_000))
    assert small is large
    for count in (3, 2000):
        exact = assemble(scenario(requests=count, cost={"tables": False}))
        assert priced_replicas(assemble(scenario(requests=count)))[0].cost is small
        assert priced_replicas(exact) == [exact]


class Tangled(RoundCost):
    """Prompts cost more the more sequences decode beside them."""

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        price = super().step(
            groups, drafting=drafting, draft_tokens=draft_tokens, drafting_kv_tokens=drafting_kv_tokens
        )
        prompts = sum(one.tokens for one in groups if one.is_prefill)
        decoding = sum(one.sequences for one in groups if not one.is_prefill)
        return replace(price, seconds=price.seconds + 1e-6 * prompts * decoding)


class Whole:
    """Steps whose parts nobody knows; ``bend``: of their tokens' power, 1 where they add up."""

    def __init__(self, bend: float) -> None:
        self.bend = bend

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        tokens = sum((one.tokens for one in groups), 0)
        reading = sum((one.sequences * one.kv_tokens for one in groups if not one.is_prefill), 0)
        seconds = 0.01 + 1e-4 * tokens**self.bend + 1e-7 * reading + 1e-4 * drafting * draft_tokens
        return StepTime(seconds, {}, "roofline", seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


def test_prices_that_tables_do_not_hold_are_refused() -> None:
    limits, machine = EngineLimits(max_num_batched_tokens=512), assemble(scenario(0))
    tangled = Tangled(
        machine.scenario.model, machine.prices, hardware=machine.scenario.gpu, engine=limits,
        precision=machine.precision,
    )  # fmt: skip
    for inexact in (replica(limits, 10_000, tangled), replica(limits, 10_000, Whole(1.5))):
        assert tabled(inexact) is inexact
    drafted = Speculation(program="draft-model", draft_model="llama-3.2-1b", max_draft_tokens=3)
    for speculation in (None, drafted):
        machine = replica(limits, 10_000, Whole(1.0), speculation)
        errors = table_errors(machine.cost, tabled(machine).cost, extent_of(machine))  # type: ignore[arg-type]
        assert errors.max() < 1e-9


@numba.njit
def drawn_of(seed: int, number: int, position: int) -> float:
    return uniform_of(key_of(seed, number), position)


def drawn(seed: int, number: int, position: int) -> float:
    return float(drawn_of(stream_seed(seed, 0), number, position))


def test_uniform_numbers_are_the_same_compiled() -> None:
    numbers, positions = np.arange(50), np.arange(0, 2000, 40)
    for seed in (0, 12, 2**63 + 5):
        found = [drawn(seed, *pair) for pair in zip(numbers.tolist(), positions.tolist(), strict=True)]
        assert found == uniform(seed, numbers, positions).tolist()


def summaries(result: RunResult) -> dict[str, Any]:
    return {key: value for key, value in result.summary().items() if isinstance(value, int | float)}


def test_totals_say_what_records_say() -> None:
    """Counts and means to rounding, quantiles within the sketch's 0.5 % (of each of two neighbouring ranks)."""
    question = scenario(requests=3000)
    kept, streamed = (summaries(simulate(assemble(question), keep=keep)) for keep in (True, False))
    assert kept["completed"] == 3000
    for key, value in kept.items():
        quantile = key.startswith(("median", "p50", "p90", "p95", "p99"))
        assert streamed[key] == pytest.approx(value, rel=0.011 if quantile else 1e-6, abs=1e-9), key


def test_compiled_and_not_agree_on_a_scenario() -> None:
    """1,200 requests on three replicas, one without a drafter, prices from one table each."""
    question = scenario(
        deployment={"replicas": 3, "replicas_without_speculation": 1, "router": "power_of_two"},
    )
    made = assemble(question).replicas
    kinds = {server: tabled(server) for server in dict.fromkeys(made)}
    servers = [kinds[server] for server in made]
    requests = question.workload.draw(question.seed)
    compiled, plain = (run(requests, servers, router="power_of_two", by_events=way) for way in (False, True))
    assert compiled.requests == plain.requests
    assert sorted(compiled.steps, key=repr) == sorted(plain.steps, key=repr)
    assert compiled.acceptance.as_table() == plain.acceptance.as_table()


def test_memory_depends_on_what_is_in_the_system_not_on_the_run() -> None:
    server = tabled(assemble(scenario(0)).replicas[0])
    rows = []
    for count in (20_000, 200_000):
        fleet = Fleet([server], ["default"], router="round_robin")
        times = np.linspace(0.0, count / 20, count)
        ones = np.ones(count, np.int32)
        requests = Requests(times, 20 * ones, 2 * ones, np.zeros(count, np.int16))
        sink = RunningTotals()
        fleet.serve(requests.chunks(4096), sink)
        assert sink.finished == count
        rows.append(sum(map(len, fleet.intake._pools)))
    assert rows[0] == rows[1]


def test_far_beyond_capacity_is_called_saturated() -> None:
    workload = scenario().workload.model_dump() | {"arrivals": {"kind": "poisson", "rate_per_s": 500.0}}
    for keep in (True, False):
        result = simulate(assemble(scenario(workload=workload)), keep=keep)
        assert result.saturated
        assert not result.truncated
        assert result.summary()["completed"] == 1200
    assert not simulate(assemble(scenario(0))).saturated


def test_a_request_longer_than_the_cache_is_refused_before_anything_runs() -> None:
    lengths = {"kind": "empirical", "pairs": [[100, 300], [10**7, 5]]}
    workload = scenario().workload.model_dump() | {"lengths": lengths}
    with pytest.raises(NoAnswer, match="needs room for"):
        simulate(assemble(scenario(workload=workload)))


def test_what_cannot_be_served_is_refused() -> None:
    machine = tabled(assemble(scenario(0)))
    ones, zeros = np.ones(3, np.int32), np.zeros(3, np.int16)
    with pytest.raises(InvalidInput, match="descend; sort"):
        run(Requests(np.array([0.0, 2.0, 1.0]), ones, ones, zeros), machine)
    with pytest.raises(InvalidInput, match="has no arrival time"):
        run(Requests(None, ones, ones, zeros), machine)


@pytest.mark.parametrize("k", [0, 4])
def test_ctrl_c_gives_what_is_done(k: int) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 500:
            raise KeyboardInterrupt

    compiled = simulate(assemble(scenario(k)), progress=stop)
    small = scenario(k, requests=600)
    by_events = run(small.requests(), assemble(small).replicas[0], progress=stop, by_events=True)
    for result in (compiled, by_events):
        assert result.interrupted
        assert result.truncated
        assert 500 <= len(result.requests) <= 1200
    assert len(by_events.requests) < 520  # it hears of each step's
