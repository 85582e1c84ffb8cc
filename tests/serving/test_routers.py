"""Where requests go, who is turned away, and replicas that differ."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.jit import address_of
from specsim.scenario import Scenario
from specsim.serving.records import FLEET, fleet_at
from specsim.serving.router import ROUTERS, route, router_seed
from specsim.serving.simulate import run, simulate
from specsim.specs.engine import EngineLimits
from specsim.workload.request import RequestSpec
from tests.replicas import replica


class Steady:
    """Every step takes a second."""

    def step(self, groups: list[Group], **_: Any) -> StepTime:
        return StepTime(1.0, {}, "roofline", 1.0, 1.0)


def served(requests: list[tuple[float, int]], server: Assembly, replicas: int, router: Any) -> list[int]:
    """The replica of each (arrival, output tokens); -1: turned away."""
    rows = [RequestSpec(number, arrival, 4, output) for number, (arrival, output) in enumerate(requests)]
    result = run(rows, server, replicas=replicas, router=router)
    assert result.rejected + len(result.requests) == len(rows)
    found = {record.request_id: record.replica for record in result.requests}
    return [found.get(number, -1) for number in range(len(rows))]


def test_round_robin_takes_turns_whatever_happens() -> None:
    requests = [(0.0, 50), (0.1, 1), (0.2, 1), (9.0, 1), (9.1, 1)]
    assert served(requests, replica(EngineLimits(), 100, Steady()), 2, "round_robin") == [0, 1, 0, 1, 0]


def test_least_outstanding_goes_where_the_fewest_are_unfinished() -> None:
    """The long one keeps replica 0 busy; what ends exactly as a request arrives has ended."""
    requests = [(0.0, 50), (0.1, 1), (0.5, 1), (3.0, 2), (5.0, 1)]
    assert served(requests, replica(EngineLimits(), 100, Steady()), 2, "least_outstanding") == [0, 1, 0, 1, 1]


@numba.njit
def routed(fleet: int, sent: int) -> int:
    return route(fleet_at(fleet), 0, fleet_at(fleet).num_replicas, sent)


def pairs_asked(replicas: int, seed: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The two replicas that each request may go to, [requests, 2]: where it goes, and where if that one were full."""
    unfinished, fleet = np.zeros(replicas, np.int64), np.zeros(1, FLEET)
    fleet["unfinished"], fleet["num_replicas"] = address_of(unfinished), replicas
    fleet["router"], fleet["router_seed"] = ROUTERS.index("power_of_two"), router_seed(seed)
    found = []
    for number in numbers.tolist():
        first = routed(address_of(fleet), number)
        unfinished[first] = 1
        found.append((first, routed(address_of(fleet), number)))
        unfinished[first] = 0
    return np.array(found)


@pytest.mark.parametrize("replicas", [3, 32])
def test_two_choices_are_two_distinct_replicas_all_alike(replicas: int) -> None:
    asked = pairs_asked(replicas, 7, np.arange(30_000))
    assert (asked[:, 0] != asked[:, 1]).all()
    pairs = Counter(map(tuple, asked.tolist()))
    expected = 30_000 / (replicas * (replicas - 1))
    assert len(pairs) == replicas * (replicas - 1)
    chi_square = sum((count - expected) ** 2 / expected for count in pairs.values())
    freedom = len(pairs) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5
    assert np.array_equal(pairs_asked(replicas, 7, np.arange(100, 200)), asked[100:200])


def test_looking_at_the_queue_beats_taking_turns() -> None:
    """Long and short requests on four replicas: the mean wait falls from turns to two choices to all."""
    generator = np.random.default_rng(3)
    arrivals = np.cumsum(generator.exponential(1 / 0.7, 4000))
    outputs = np.where(generator.random(4000) < 0.2, 20, 1)
    rows = [RequestSpec(i, a, 4, int(n)) for i, (a, n) in enumerate(zip(arrivals.tolist(), outputs, strict=True))]
    waits = []
    for router in ("round_robin", "power_of_two", "least_outstanding"):
        result = run(rows, replica(EngineLimits(max_num_seqs=1), 100, Steady()), replicas=4, router=router)  # type: ignore[arg-type]
        waits.append(np.mean([record.ttft_s for record in result.requests]))
    assert waits[0] > 1.2 * waits[1] > 1.2 * waits[2]


def test_a_full_queue_turns_requests_away() -> None:
    """One runs for 10 s, one may wait; the third and fourth find the queue full, the fifth comes when it is not."""
    server = replica(EngineLimits(max_num_seqs=1), 100, Steady(), max_queue=1)
    assert served([(0.0, 10), (1.0, 1), (2.0, 1), (3.0, 1), (10.5, 1)], server, 1, "round_robin") == [0, 0, -1, -1, 0]


def test_a_client_that_is_turned_away_sends_its_next_request() -> None:
    """The first request waits for the first step when the others come, so all of them are turned away at once."""
    rows = [RequestSpec(number, None, 4, 3) for number in range(6)]
    result = run(rows, replica(EngineLimits(max_num_seqs=1), 100, Steady(), max_queue=1), clients=3)
    assert (len(result.requests), result.rejected) == (1, 5)


SCENARIO: dict[str, Any] = {
    "name": "mixed fleet", "model": "vicuna-7b", "gpu": "a100-80gb", "cost": {"source": "roofline"},
    "deployment": {"replicas": 3, "replicas_without_speculation": 1, "router": "least_outstanding", "max_queue": 50},
    "workload": {
        "kind": "synthetic", "requests": 60, "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
        "lengths": {"kind": "fixed", "prompt_tokens": 50, "output_tokens": 20},
    },
    "speculation": {
        "program": "draft-model", "draft_model": "vicuna-68m", "max_draft_tokens": 4,
        "acceptance": {"kind": "constant", "rate": 0.7},
    },
}  # fmt: skip


def test_some_replicas_speculate_and_some_do_not() -> None:
    scenario = Scenario.model_validate(SCENARIO)
    servers = assemble(scenario).replicas
    assert [server.speculation is None for server in servers] == [False, False, True]
    assert servers[0] is servers[1]
    assert servers[2].num_kv_blocks > servers[0].num_kv_blocks  # no drafter's weights and cache beside it
    result = simulate(assemble(scenario))
    assert {r.replica for r in result.requests if r.drafted} == {0, 1}
    assert {r.replica for r in result.requests if not r.drafted} == {2}
    assert result.num_gpus == 3


def test_more_plain_replicas_than_replicas_are_refused() -> None:
    with pytest.raises(ValueError, match="replicas_without_speculation is 4 and there are 3 replicas"):
        Scenario.model_validate(SCENARIO | {"deployment": {"replicas": 3, "replicas_without_speculation": 4}})
