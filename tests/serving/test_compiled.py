"""The compiled loop against the one that moves event by event: the same records, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.results import RunResult
from specsim.scenario import Speculation
from specsim.serving.obstacles import obstacles
from specsim.serving.price_table import TablePrices
from specsim.serving.router import RouterName
from specsim.serving.simulate import run
from specsim.serving.tabulate import Shape, tabulate
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.program import load_program
from specsim.workload.request import RequestSpec
from tests.replicas import replica

pytestmark = pytest.mark.slow  # numba compiles for some twenty seconds the first time


class Bent:
    """Seconds that bend in every argument, with attention told apart."""

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        tokens: Reals = sum((g.tokens for g in groups), 0)
        attention: Reals = sum((1e-4 * (g.sequences * g.kv_tokens) ** 0.5 for g in groups), 0.0)
        seconds = 0.01 + 1e-4 * tokens**1.1 + attention
        if draft_tokens:
            seconds = seconds + 2e-4 * draft_tokens * (1.0 + drafting**0.7) + 1e-6 * drafting * drafting_kv_tokens
        return StepTime(seconds, {"attention": attention}, "roofline", seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


LONGEST = 5
PRICES = TablePrices(tabulate(Bent(), Shape(8, 96, 2048, tuple(range(LONGEST + 1)))))


def speculating(k: int, policy: dict[str, Any], acceptance: dict[str, Any], program: str) -> Speculation:
    fields: dict[str, Any] = {"program": program, "max_draft_tokens": k, "acceptance": acceptance, "policy": policy}
    if load_program(program).needs_draft_model:
        fields["draft_model"] = "vicuna-68m"
    return Speculation.model_validate(fields)


@dataclass(frozen=True)
class Case:
    requests: list[RequestSpec]
    servers: list[Assembly]
    router: RouterName

    def run(self, *, compiled: bool) -> RunResult:
        return run(self.requests, self.servers, router=self.router, compiled=compiled)


POLICIES = st.sampled_from(
    [
        lambda k: {"kind": "fixed", "k": k},
        lambda k: {"kind": "fixed", "k": k // 2},
        lambda k: {"kind": "off_above", "k": k, "max_batch": 3},
        lambda k: {"kind": "table", "ranges": [[1, 2, k], [3, 4, k // 2], [5, 5, 0], [6, 8, 1]]},
        lambda k: {"kind": "profiled"},
    ]
)
LAWS = st.sampled_from(
    [
        {"kind": "constant", "rate": 0.7},
        {"kind": "conditional", "rates": [0.9, 0.5, 0.8, 0.2, 0.6]},
        {"kind": "power_law", "c": 0.8, "gamma": 0.5},
        {"kind": "latent", "requests": {"kind": "beta", "mean": 0.6, "concentration": 3.0}, "decay": 0.9},
    ]
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.013, 0.05, 0.4]), min_size=count, max_size=count))
    arrivals = np.cumsum(gaps).tolist()
    lengths = [draw(st.tuples(st.integers(1, 60), st.integers(1, 25))) for _ in range(count)]
    classes = draw(st.lists(st.sampled_from(["code", "chat"]), min_size=count, max_size=count))
    limits = EngineLimits(
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(9, 96)),
        block_size=draw(st.sampled_from([1, 4, 16])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 7])),
        long_prefill_token_threshold_adaptive=draw(st.booleans()),
    )
    if draw(st.integers(0, 4)) == 0:
        limits = limits.model_copy(update={"chunked_prefill": False, "max_num_batched_tokens": 96})
    k = draw(st.integers(0, LONGEST))
    program = draw(st.sampled_from(["ngram", "draft-model", "hamburger"]))
    speculation = speculating(k, draw(POLICIES)(k), draw(LAWS), program) if k else None
    longest = max(sum(pair) for pair in lengths) + 3 * LONGEST
    blocks = -(-longest // limits.block_size) + 1 + draw(st.integers(0, 30))
    server = replica(
        limits, blocks, PRICES, speculation, draw(st.integers(0, 2**32)),
        max_queue=draw(st.sampled_from([None, None, 2])),
        acceptance_by_class={"code": ConstantAcceptance(rate=0.95)} if k and draw(st.booleans()) else {},
    )  # fmt: skip
    requests = [RequestSpec(i, arrivals[i], *lengths[i], request_class=classes[i]) for i in range(count)]
    router: RouterName = draw(st.sampled_from(["round_robin", "least_outstanding", "power_of_two"]))
    return Case(requests, [server] * draw(st.integers(1, 3)), router)


def same(one: RunResult, other: RunResult) -> None:
    assert one.requests == other.requests
    key = lambda step: (step.start_s, step.replica)  # noqa: E731
    assert sorted(one.steps, key=key) == sorted(other.steps, key=key)
    assert one.acceptance.as_table() == other.acceptance.as_table()
    assert (one.rejected, one.saturated, one.price_source) == (other.rejected, other.saturated, other.price_source)
    gaps = [sorted(zip(r.itl_request.tolist(), r.itl_s.tolist(), strict=True)) for r in (one, other)]  # type: ignore[union-attr]
    assert gaps[0] == gaps[1]


@settings(deadline=None, max_examples=300)
@given(case=cases())
def test_event_for_event(case: Case) -> None:
    assert obstacles(case.servers[0], ["code", "chat"]) == []
    same(case.run(compiled=True), case.run(compiled=False))
