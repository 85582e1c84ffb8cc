"""Large runs: price tables, totals in place of records, what stands in the way, and input that is hostile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import pytest

from specsim.arrays import Reals
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput, NoAnswer
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.scheduling.accept import key_of, uniform_of
from specsim.serving.fleet import Fleet
from specsim.serving.price_table import InexactTables, table_errors, tabled
from specsim.serving.server import Server
from specsim.serving.simulate import is_large, run, servers_of, simulate
from specsim.serving.sinks import Streamed
from specsim.serving.tabulate import Shape
from specsim.specs.engine import EngineLimits
from specsim.speculation.uniform import stream_seed, uniform
from specsim.workload.request import Requests

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


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("gpu", ["a100-80gb", "h200"])
def test_tables_hold_prices(k: int, gpu: str) -> None:
    """Of 200 random steps, decode, verify and mixed: half within 0.5 %, all within 2 %."""
    question = scenario(k, gpu=gpu)
    server = servers_of(question)[0]
    made = tabled(server)
    shape = Shape(256, 512, 131_072, tuple(sorted({0, k})), True, server.graph_sizes)
    errors = table_errors(server.cost, made.cost, shape, steps=200, seed=5)  # type: ignore[arg-type]
    assert np.median(errors) <= 0.005
    assert errors.max() <= 0.02


class Tangled:
    """A chunk costs more the more sequences decode beside it."""

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        seconds: Reals = 0.01
        for one in groups:
            for other in groups:
                seconds = seconds + 1e-9 * (one.tokens * one.kv_tokens) * (other.tokens * other.kv_tokens) ** 0.5
        return StepTime(seconds, {}, "roofline", seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


def test_prices_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InexactTables, match="tables miss"):
        tabled(Server(EngineLimits(max_num_batched_tokens=512), 10_000, Tangled()))


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
    assert is_large(question)
    kept, streamed = (summaries(simulate(question, keep=keep)) for keep in (True, False))
    assert kept["completed"] == 3000
    for key, value in kept.items():
        quantile = key.startswith(("median", "p50", "p90", "p95", "p99"))
        assert streamed[key] == pytest.approx(value, rel=0.011 if quantile else 1e-6, abs=1e-9), key


def test_compiled_and_not_agree_on_a_scenario() -> None:
    """1,200 requests on three replicas, one without a drafter, prices from one table each."""
    question = scenario(
        deployment={"replicas": 3, "replicas_without_speculation": 1, "router": "power_of_two"},
    )
    made = servers_of(question)
    kinds = {id(server): tabled(server) for server in made}
    servers = [kinds[id(server)] for server in made]
    requests = question.workload.draw(question.seed)
    compiled, plain = (run(requests, servers, router="power_of_two", by_events=way) for way in (False, True))
    assert compiled.requests == plain.requests
    assert sorted(compiled.steps, key=repr) == sorted(plain.steps, key=repr)
    assert compiled.acceptance.as_table() == plain.acceptance.as_table()


def test_memory_depends_on_what_is_in_the_system_not_on_the_run() -> None:
    server = tabled(servers_of(scenario(0))[0])
    rows = []
    for count in (20_000, 200_000):
        fleet = Fleet([server], ["default"], router="round_robin")
        times = np.linspace(0.0, count / 20, count)
        ones = np.ones(count, np.int32)
        requests = Requests(times, 20 * ones, 2 * ones, np.zeros(count, np.int16))
        sink = Streamed()
        fleet.serve(requests.chunks(4096), sink)
        assert sink.finished == count
        rows.append(sum(map(len, fleet._pools)))
    assert rows[0] == rows[1]


def test_far_beyond_capacity_is_called_saturated() -> None:
    workload = scenario().workload.model_dump() | {"arrivals": {"kind": "poisson", "rate_per_s": 500.0}}
    for keep in (True, False):
        result = simulate(scenario(workload=workload), keep=keep)
        assert result.saturated
        assert not result.truncated
        assert result.summary()["completed"] == 1200
    assert not simulate(scenario(0)).saturated


def test_a_request_longer_than_the_cache_is_refused_before_anything_runs() -> None:
    lengths = {"kind": "empirical", "pairs": [[100, 300], [10**7, 5]]}
    workload = scenario().workload.model_dump() | {"lengths": lengths}
    with pytest.raises(NoAnswer, match="needs room for"):
        simulate(scenario(workload=workload))


def test_what_cannot_be_served_is_refused() -> None:
    server = tabled(servers_of(scenario(0))[0])
    ones, zeros = np.ones(3, np.int32), np.zeros(3, np.int16)
    with pytest.raises(InvalidInput, match="descend; sort"):
        run(Requests(np.array([0.0, 2.0, 1.0]), ones, ones, zeros), server)
    with pytest.raises(InvalidInput, match="has no arrival time"):
        run(Requests(None, ones, ones, zeros), server)


@pytest.mark.parametrize("k", [0, 4])
def test_ctrl_c_gives_what_is_done(k: int) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 500:
            raise KeyboardInterrupt

    compiled = simulate(scenario(k), progress=stop)
    small = scenario(k, requests=600)
    by_events = run(small.requests(), servers_of(small)[0], progress=stop, by_events=True)
    for result in (compiled, by_events):
        assert result.interrupted
        assert result.truncated
        assert 500 <= len(result.requests) <= 1200
    assert len(by_events.requests) < 520  # it hears of each step's
