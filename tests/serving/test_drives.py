"""The compiled loop and SimPy drive the same step: the same records to the last digit, with everything drawn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.results import RunResult
from specsim.scenario import Scenario, Speculation
from specsim.serving.router import ROUTERS, RouterName
from specsim.serving.simulate import run
from specsim.specs.deployment import Disaggregation, KvLink
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.program import load_program
from specsim.speculation.round import RoundCost
from specsim.step_prices.span import Extent
from specsim.step_prices.table_prices import TablePrices
from specsim.step_prices.tabulate import tabulate
from specsim.workload.request import RequestSpec
from tests.replicas import BASE, replica
from tests.serving.test_differential import CONFIDENT, POLICIES

pytestmark = pytest.mark.slow  # numba compiles for some ten seconds the first time


class Bent:
    """Seconds that bend in every argument, with attention told apart; tokens are out ``lag_s`` later."""

    def __init__(self, lag_s: float = 0.0) -> None:
        self.lag_s = lag_s

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        tokens: Reals = sum((g.tokens for g in groups), 0)
        attention: Reals = sum((1e-4 * (g.sequences * g.kv_tokens) ** 0.5 for g in groups), 0.0)
        seconds = 0.01 + 1e-4 * tokens**1.1 + attention
        if draft_tokens:
            seconds = seconds + 2e-4 * draft_tokens * (1.0 + drafting**0.7) + 1e-6 * drafting * drafting_kv_tokens
        return StepTime(seconds, {"attention": attention}, "roofline", seconds, seconds, lag_s=self.lag_s)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


LONGEST = 4
SHAPE = Extent(8, 96, 2048, tuple(range(LONGEST + 1)))
DRAFTED = assemble(
    Scenario.model_validate(BASE | {
        "model": "llama-3.1-8b", "gpu": "l40s", "cost": {"source": "roofline"},
        "speculation": {"program": "draft-model", "draft_model": "llama-3.2-1b", "max_draft_tokens": LONGEST},
    })
)  # fmt: skip
TABLES = tabulate(cast(RoundCost, DRAFTED.cost), SHAPE)
PRICES, LATE_PRICES = (TablePrices(TABLES._replace(lag_s=lag_s)) for lag_s in (0.0, 0.03))
LAWS: list[dict[str, Any]] = [
    {"kind": "constant", "rate": 0.7},
    {"kind": "conditional", "rates": [0.9, 0.5, 0.8, 0.2, 0.6]},
    {"kind": "power_law", "c": 0.8, "gamma": 0.5},
    {"kind": "latent", "requests": {"kind": "beta", "mean": 0.6, "concentration": 3.0}, "decay": 0.9},
    {
        "kind": "latent", "requests": {"kind": "discrete", "rates": [0.2, 0.9], "weights": [1.0, 2.0]},
        "spans": {"mean_tokens": 5.0, "concentration": 4.0},
    },
    {
        "kind": "hurdle", "hit_rate": 0.4, "false_match_rate": 0.3, "match_factor": 1.5,
        "runs": {"kind": "empirical", "weights": [1, 0, 3, 1]},
    },
    {"kind": "trace", "runs": [[0, 3, 2, 1, 0, 4], [1, 0, 0, 2]], "cap": 4, "order": "listed"},
    {"kind": "recall", "table": {"recall": [[0.5, 0.2], [0.4, 0.3, 0.1], [0.6]]}, "tree": "optimal"},
    CONFIDENT,
]  # fmt: skip
LEARNS_FROM_A_CHAIN = ("throughput", "tiers", "plus_minus")


@st.composite
def speculations(draw: st.DrawFn) -> Speculation | None:
    policy = draw(st.sampled_from([*sorted(POLICIES), "none"]))
    if policy == "none":
        return None
    law = CONFIDENT if policy in ("confidence", "verify_budget") else draw(st.sampled_from(LAWS))
    if law["kind"] == "recall" and policy in LEARNS_FROM_A_CHAIN:
        law = law | {"tree": "chain"}
    program = draw(st.sampled_from(["ngram", "draft-model", "hamburger"]))
    fields: dict[str, Any] = {
        "program": program, "max_draft_tokens": LONGEST, "acceptance": law,
        "policy": {"kind": policy} | POLICIES[policy],
    }  # fmt: skip
    if load_program(program).needs_draft_model:
        fields["draft_model"] = "vicuna-68m"
    return Speculation.model_validate(fields)


@dataclass(frozen=True)
class Case:
    requests: list[RequestSpec]
    replicas: list[Assembly]
    router: RouterName
    clients: int | None
    disaggregation: Disaggregation | None = None

    def run(self, *, by_events: bool) -> RunResult:
        return run(
            self.requests, self.replicas, router=self.router, clients=self.clients,
            disaggregation=self.disaggregation, by_events=by_events,
        )  # fmt: skip


@st.composite
def engines(draw: st.DrawFn) -> EngineLimits:
    chunked, rules = draw(st.integers(0, 4)) > 0, draw(st.sampled_from(["vllm", "vllm", "sglang"]))
    return EngineLimits(
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(16 if rules == "sglang" else 9, 96)) if chunked else 96,
        rules=rules,
        mixed_chunks=draw(st.booleans()),
        num_reserved_decode_tokens=draw(st.sampled_from([0, 16])),
        chunked_prefill=chunked,
        block_size=draw(st.sampled_from([1, 4, 16])),
        prefix_caching=draw(st.booleans()),
        scheduling_policy=draw(st.sampled_from(["fcfs", "priority"])),
        async_scheduling=draw(st.booleans()),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 7])),
        long_prefill_token_threshold_adaptive=draw(st.booleans()),
    )


@st.composite
def requests_to(draw: st.DrawFn, *, closed: bool) -> list[RequestSpec]:
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.013, 0.05, 0.4]), min_size=count, max_size=count))
    arrivals = np.cumsum(gaps).tolist()
    rows = []
    for number in range(count):
        name, lengths = (
            draw(st.sampled_from(["code", "chat"])),
            draw(st.tuples(st.integers(1, 60), st.integers(1, 25))),
        )
        hashes = draw(st.sampled_from([(), (1, 2, 3, 4), (1, 2, 5), (9,)]))
        rows.append(
            RequestSpec(
                number, None if closed else arrivals[number], *lengths, name,
                think_s=draw(st.sampled_from([0.0, 0.0, 0.07, 1.0])) if closed else 0.0,
                priority=draw(st.integers(0, 2)), prefix_hashes=hashes, hash_block_tokens=8 if hashes else 0,
            )
        )  # fmt: skip
    return rows


@st.composite
def pools(draw: st.DrawFn) -> Disaggregation:
    bandwidth, latency = draw(st.sampled_from([1e6, 1e8, 1e12])), draw(st.sampled_from([0.0, 0.02]))
    return Disaggregation(
        prefill_replicas=draw(st.integers(1, 3)), decode_replicas=draw(st.integers(1, 3)),
        kv_link=KvLink(bandwidth_bytes_per_s=bandwidth, latency_s=latency),
    )  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> Case:
    clients = draw(st.sampled_from([None, None, 1, 3, 12]))
    requests = draw(requests_to(closed=clients is not None))
    limits, speculation = draw(engines()), draw(speculations())
    learned_alone = speculation is not None and speculation.policy.kind in ("confidence", "verify_budget")
    longest = max(one.prompt_tokens + one.output_tokens for one in requests) + 3 * LONGEST
    room = 2 * limits.block_size + limits.num_reserved_decode_tokens if limits.rules == "sglang" else 0
    blocks = -(-(longest + room) // limits.block_size) + 1 + draw(st.integers(0, 30))
    cost, seed = draw(st.sampled_from([PRICES, LATE_PRICES, Bent(0.01)])), draw(st.integers(0, 2**32))
    queue = draw(st.sampled_from([None, None, 2]))
    by_class = {} if learned_alone or draw(st.booleans()) else {"code": ConstantAcceptance(rate=0.95)}
    one = replica(limits, blocks, cost, speculation, seed, acceptance_by_class=by_class, max_queue=queue)
    plain = replica(limits, blocks, cost, None, seed, max_queue=queue)
    router, disaggregation = draw(st.sampled_from(ROUTERS)), draw(st.none() | pools())
    if disaggregation is not None:
        replicas = [one] * (disaggregation.prefill_replicas + disaggregation.decode_replicas)
        return Case(requests, replicas, router, clients, disaggregation)
    return Case(requests, [one] * draw(st.integers(1, 3)) + [plain] * draw(st.integers(0, 1)), router, clients)


def same(one: RunResult, other: RunResult) -> None:
    assert one.requests == other.requests
    key = lambda step: (step.start_s, step.replica)  # noqa: E731
    assert sorted(one.steps, key=key) == sorted(other.steps, key=key)
    assert one.acceptance.as_table() == other.acceptance.as_table()
    assert (one.rejected, one.saturated, one.price_source) == (other.rejected, other.saturated, other.price_source)
    assert one.kv_transfers == other.kv_transfers
    gaps = [sorted(zip(r.itl_request.tolist(), r.itl_s.tolist(), strict=True)) for r in (one, other)]  # type: ignore[union-attr]
    assert gaps[0] == gaps[1]


@settings(max_examples=300, phases=[Phase.generate])
@given(case=cases())
def test_event_for_event(case: Case) -> None:
    loop = case.run(by_events=False)
    assert len(loop.requests) + loop.rejected == len(case.requests)
    same(loop, case.run(by_events=True))


PLAIN = """
import hashlib, warnings
from tests.serving.test_drives import POLICIES, Disaggregation, a_run
warnings.simplefilter("ignore")  # 64-bit arithmetic that wraps round
results = [a_run(policy) for policy in sorted(POLICIES)] + [a_run("fixed", Disaggregation())]
print(hashlib.sha256(repr([(one.requests, one.steps) for one in results]).encode()).hexdigest())
"""


def a_run(policy: str, disaggregation: Disaggregation | None = None) -> RunResult:
    """Priorities, prefixes, preemptions, two replicas, and a copying drafter where the policy allows it."""
    law = CONFIDENT if policy in ("confidence", "verify_budget") else LAWS[5]
    speculation = Speculation.model_validate(
        {
            "program": "ngram", "max_draft_tokens": 4, "acceptance": law,
            "policy": {"kind": policy} | POLICIES[policy],
        }
    )  # fmt: skip
    lengths = [(1 + 7 * i % 40, 1 + 5 * i % 30) for i in range(20)]
    requests = [
        RequestSpec(i, 0.002 * i, *lengths[i], priority=i % 3, prefix_hashes=(1, 2), hash_block_tokens=8)
        for i in range(20)
    ]
    limits = EngineLimits(
        max_num_seqs=8, max_num_batched_tokens=40, block_size=4, prefix_caching=True, scheduling_policy="priority"
    )
    one = replica(limits, 22, PRICES, speculation, 7)
    return run(requests, one, replicas=2, router="power_of_two", disaggregation=disaggregation)


def test_the_compiled_step_does_what_its_python_says() -> None:
    digests = set()
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", PLAIN], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
            env=os.environ | {"NUMBA_DISABLE_JIT": disabled},
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    for pools in (None, Disaggregation()):
        assert sum(one.preemptions for one in a_run("fixed", pools).requests) > 0
