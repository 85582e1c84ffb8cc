"""The simulator against a plain one, event for event, with every kind of policy and acceptance law."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.assembly import Assembly
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.scenario import Speculation
from specsim.serving.simulate import run
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import ConstantAcceptance
from specsim.speculation.policy import Policy
from specsim.speculation.program import load_program
from specsim.workload.request import RequestSpec
from tests.replicas import replica
from tests.serving.plain import Plain


class Bent:
    """Seconds that bend in every argument."""

    def step(self, groups: list[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals) -> StepTime:
        tokens: Reals = sum((g.tokens for g in groups), 0)
        seconds = 0.01 + 1e-4 * tokens**1.1
        seconds = seconds + sum((1e-4 * (g.sequences * g.kv_tokens) ** 0.5 for g in groups), 0.0)
        seconds = seconds + 2e-4 * draft_tokens * (1.0 + drafting**0.7) + 1e-6 * drafting * drafting_kv_tokens
        return StepTime(seconds, {}, "roofline", seconds, seconds, lag_s=0.015)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        group = Group(batch, draft_tokens + 1, context_tokens + draft_tokens, draft_tokens + 1)
        return self.step([group], drafting=batch, draft_tokens=draft_tokens, drafting_kv_tokens=context_tokens)


CONFIDENT: dict[str, Any] = {
    "kind": "confidence", "persistence": 0.5,
    "levels": [{"confidence": c, "weight": w} for c, w in ((0.2, 1.0), (0.6, 2.0), (0.95, 3.0))],
}  # fmt: skip
POLICIES: dict[str, Any] = {
    "fixed": {"k": 3},
    "off_above": {"k": 4, "max_batch": 3},
    "table": {"ranges": [[1, 2, 4], [3, 4, 2], [5, 5, 0], [6, 8, 1]]},
    "profiled": {},
    "throughput": {"ema": 0.2, "explore": 0.1},
    "tiers": {"tiers": [{"first_batch": 1, "choices": [0, 1, 3]}, {"first_batch": 4, "choices": [0, 2]}]},
    "plus_minus": {"initial": 2},
    "confidence": {"threshold": 0.4},
    "verify_budget": {"k": 4, "tokens": 9},
}
LAWS: dict[str, dict[str, Any]] = {
    "constant": {"kind": "constant", "rate": 0.7},
    "latent": {
        "kind": "latent", "requests": {"kind": "beta", "mean": 0.6, "concentration": 3.0},
        "spans": {"mean_tokens": 5.0, "concentration": 4.0},
    },
    "hurdle": {
        "kind": "hurdle", "hit_rate": 0.4, "false_match_rate": 0.3,
        "runs": {"kind": "geometric", "continue_rate": 0.8},
    },
    "trace": {"kind": "trace", "runs": [[0, 3, 2, 1, 0, 4], [1, 0, 0, 2]], "cap": 4},
    "confidence": CONFIDENT,
}  # fmt: skip


def test_every_kind_of_policy_is_here() -> None:
    kinds = {law.model_fields["kind"].default for law in get_args(get_args(Policy)[0])}
    assert kinds == set(POLICIES)


def speculating(policy: str, law: str, program: str) -> Speculation:
    if policy in ("confidence", "verify_budget"):
        law = "confidence"
    fields: dict[str, Any] = {
        "program": program, "max_draft_tokens": 4, "acceptance": LAWS[law],
        "policy": {"kind": policy} | POLICIES[policy],
    }  # fmt: skip
    if load_program(program).needs_draft_model:
        fields["draft_model"] = "vicuna-68m"
    return Speculation.model_validate(fields)


@st.composite
def questions(draw: st.DrawFn, policy: str) -> tuple[Assembly, list[RequestSpec]]:
    count = draw(st.integers(1, 16))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.013, 0.05, 0.4]), min_size=count, max_size=count))
    arrivals = np.cumsum(gaps).tolist()
    lengths = [draw(st.tuples(st.integers(1, 50), st.integers(1, 20))) for _ in range(count)]
    classes = draw(st.lists(st.sampled_from(["code", "chat"]), min_size=count, max_size=count))
    limits = EngineLimits(
        max_num_seqs=draw(st.integers(1, 8)),
        max_num_batched_tokens=draw(st.integers(9, 96)),
        block_size=draw(st.sampled_from([1, 4, 16])),
        scheduler_reserve_full_isl=draw(st.booleans()),
        watermark=draw(st.sampled_from([0.0, 0.1])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 7])),
    )
    speculation = speculating(
        policy, draw(st.sampled_from(sorted(LAWS))), draw(st.sampled_from(["ngram", "draft-model", "hamburger"]))
    )
    by_class = {} if policy in ("confidence", "verify_budget") else {"code": ConstantAcceptance(rate=0.95)}
    longest = max(sum(pair) for pair in lengths) + 12
    blocks = -(-longest // limits.block_size) + 1 + draw(st.integers(0, 30))
    server = replica(
        limits, blocks, Bent(), speculation, draw(st.integers(0, 2**32)), acceptance_by_class=by_class,
        max_queue=draw(st.sampled_from([None, None, 2])),
    )  # fmt: skip
    requests = [RequestSpec(i, arrivals[i], *lengths[i], request_class=classes[i]) for i in range(count)]
    return server, requests


@pytest.mark.parametrize("policy", sorted(POLICIES))
@settings(max_examples=40)
@given(data=st.data())
def test_event_for_event(policy: str, data: st.DataObject) -> None:
    server, requests = data.draw(questions(policy))
    expected = Plain(server).run(requests)
    found = run(requests, server)
    assert found.steps == expected.steps
    assert found.requests == expected.requests
    assert found.rejected == expected.rejected
    assert found.itl_request is not None
    assert sorted(zip(found.itl_request.tolist(), found.itl_s.tolist(), strict=True)) == sorted(expected.gaps)


@settings(max_examples=200)
@given(data=st.data())
def test_admissions_of_one_token_beside_last_chunks(data: st.DataObject) -> None:
    """Whether they are padded depends on what the others did in the step before."""
    count = data.draw(st.integers(2, 12))
    gaps = data.draw(st.lists(st.sampled_from([0.0, 0.013, 0.02, 0.03]), min_size=count, max_size=count))
    prompts = [data.draw(st.sampled_from([1, 1, 1, 14, 25, 33])) for _ in range(count)]
    limits = EngineLimits(max_num_seqs=8, max_num_batched_tokens=data.draw(st.integers(9, 24)), block_size=4)
    fixed = speculating("fixed", "constant", "ngram").model_dump() | {"policy": {"kind": "fixed", "k": 4}}
    machine = replica(limits, data.draw(st.integers(20, 60)), Bent(), Speculation.model_validate(fixed), 3)
    requests = [
        RequestSpec(i, at, prompts[i], data.draw(st.integers(1, 12))) for i, at in enumerate(np.cumsum(gaps).tolist())
    ]
    expected, found = Plain(machine).run(requests), run(requests, machine)
    assert found.steps == expected.steps
    assert found.requests == expected.requests
