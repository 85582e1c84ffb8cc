"""A served workload loses nothing, keeps its times in order, and faces the same luck as a simulated one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from specsim.assembly import assemble  # noqa: E402
from specsim.errors import InvalidInput, NoAnswer  # noqa: E402
from specsim.reference.timing.run import serve  # noqa: E402
from specsim.results import RunResult  # noqa: E402
from specsim.scenario import Scenario  # noqa: E402
from specsim.serving.simulate import simulate  # noqa: E402

pytestmark = pytest.mark.torch

TARGET = {
    "name": "target", "source": "test", "num_layers": 2, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "intermediate_size": 128, "vocab_size": 101, "weight_bits": 32,
}  # fmt: skip
DRAFT = TARGET | {"name": "draft", "num_layers": 1, "hidden_size": 32}
CPU = {
    "name": "a-cpu",
    "source": "test",
    "kind": "cpu",
    "memory_bytes": 8e9,
    "bandwidth_bytes_per_s": 2e10,
    "flops_per_s": {"float32": 1e11},
    "last_level_cache_bytes": 32_000_000,
}
SPECULATION = {
    "program": "draft-model",
    "draft_model": DRAFT,
    "max_draft_tokens": 4,
    "acceptance": {"kind": "constant", "rate": 0.7},
}
LENGTHS = {"kind": "lognormal", "prompt_mean": 24, "prompt_cv": 0.6, "output_mean": 20, "output_cv": 0.6}


def question(**changes: Any) -> Scenario:
    data: dict[str, Any] = {
        "schema": 1,
        "name": "served",
        "model": TARGET,
        "gpu": CPU,
        "deployment": {"kv_bits": 32},
        "engine": {"max_num_seqs": 8, "max_num_batched_tokens": 64, "num_kv_blocks": 200, "block_size": 8},
        "speculation": SPECULATION,
        "seed": 3,
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "poisson", "rate_per_s": 200.0},
            "lengths": LENGTHS,
            "requests": 24,
        },
    }
    for key, value in changes.items():
        data[key] = (
            data[key] | value if isinstance(value, dict) and key in ("engine", "deployment", "workload") else value
        )
    return Scenario.model_validate(data)


def check(scenario: Scenario, result: RunResult) -> None:
    """Conservation: every request once, every token once, every block back, time forward."""
    asked = {r.request_id: r for r in scenario.requests()}
    assert [r.request_id for r in result.requests] == sorted(asked)
    for record in result.requests:
        request = asked[record.request_id]
        assert (record.prompt_tokens, record.output_tokens) == (request.prompt_tokens, request.output_tokens)
        assert record.arrival_s < record.first_token_s <= record.finish_s <= result.duration_s
        assert record.rounds <= record.output_tokens <= 1 + record.preemptions + record.rounds + record.accepted
        assert record.accepted <= record.drafted
    assert result.acceptance.drafted() == sum(r.drafted for r in result.requests)
    assert result.acceptance.accepted() == sum(r.accepted for r in result.requests)
    ends = [s.start_s + s.duration_s for s in result.steps]
    assert all(end <= later.start_s for end, later in zip(ends, result.steps[1:], strict=False))
    computed = sum(s.prefill_tokens + s.verify_tokens for s in result.steps)
    needed = sum(r.prompt_tokens + r.output_tokens - 1 for r in result.requests)
    assert computed >= needed
    limits = scenario.engine
    assert limits.num_kv_blocks is not None
    for step in result.steps:
        assert step.prefill_tokens + step.verify_tokens <= limits.max_num_batched_tokens
        assert step.sequences <= limits.max_num_seqs
        assert 0 < step.kv_blocks <= limits.num_kv_blocks
    emitting = sum(r.rounds for r in result.requests) + sum(r.preemptions for r in result.requests)
    assert len(result.itl_s) <= emitting
    assert (result.itl_s > 0).all()


@pytest.mark.parametrize("program", ["draft-model", "ngram", None])
def test_serving_conserves_requests_and_tokens(program: str | None) -> None:
    chosen = {"draft-model": SPECULATION, "ngram": SPECULATION | {"program": "ngram", "draft_model": None}, None: None}
    scenario = question(speculation=chosen[program])
    result = serve(assemble(scenario), device="cpu")
    check(scenario, result)
    assert (result.engine, result.price_source) == ("reference", "wall clock")
    assert result.scenario_sha256 == scenario.sha256()
    assert {"torch", "device", "threads"} <= result.versions.keys()
    summary = result.summary()
    assert summary["completed"] == 24
    assert (summary["spec_decode_draft_tokens"] > 0) == (program is not None)


def test_a_served_workload_is_as_lucky_as_a_simulated_one() -> None:
    """Draws depend on seed, request and position alone, so that time, real or simulated, cannot matter."""
    scenario = question(engine={"max_num_batched_tokens": 512})
    served, simulated = serve(assemble(scenario), device="cpu"), simulate(assemble(scenario))
    assert served.acceptance == simulated.acceptance
    for ours, theirs in zip(served.requests, simulated.requests, strict=True):
        assert (ours.rounds, ours.drafted, ours.accepted) == (theirs.rounds, theirs.drafted, theirs.accepted)


CONFIDENT = {
    "acceptance": {
        "kind": "confidence",
        "levels": [{"confidence": 0.9, "weight": 3}, {"confidence": 0.3, "weight": 1}],
    },
    "policy": {"kind": "confidence", "threshold": 0.5},
}
COPYING = {
    "program": "ngram",
    "draft_model": None,
    "acceptance": {"kind": "hurdle", "hit_rate": 0.4, "runs": {"kind": "geometric", "continue_rate": 0.7}},
}


@pytest.mark.parametrize(
    "speculation",
    [{"policy": {"kind": "plus_minus", "initial": 1}}, CONFIDENT, COPYING, {"policy": {"kind": "profiled"}}],
    ids=["plus-minus", "confidence", "copying", "profiled"],
)
def test_one_policy_decides_alike_in_the_engine_and_in_the_simulator(speculation: dict[str, Any]) -> None:
    """Where a request's own rounds decide, or nothing that time changes (one client), the records are equal."""
    workload = {"arrivals": {"kind": "closed_loop", "concurrency": 1}, "requests": 8}
    scenario = question(
        speculation=SPECULATION | speculation, workload=workload, engine={"max_num_batched_tokens": 512}
    )
    served, simulated = serve(assemble(scenario), device="cpu"), simulate(assemble(scenario))
    assert served.acceptance == simulated.acceptance
    assert served.acceptance.drafted() > 0
    for ours, theirs in zip(served.requests, simulated.requests, strict=True):
        assert (ours.rounds, ours.drafted, ours.accepted) == (theirs.rounds, theirs.drafted, theirs.accepted)


def test_few_blocks_preempt_and_lose_nothing() -> None:
    scenario = question(
        engine={"num_kv_blocks": 22},
        workload={"lengths": {"kind": "fixed", "prompt_tokens": 20, "output_tokens": 40}, "requests": 8},
    )
    result = serve(assemble(scenario), device="cpu")
    check(scenario, result)
    assert sum(r.preemptions for r in result.requests) > 0


def test_a_closed_loop_keeps_its_clients_and_their_pauses() -> None:
    arrivals = {"kind": "closed_loop", "concurrency": 3, "think_s": 0.004}
    scenario = question(workload={"arrivals": arrivals, "requests": 12})
    result = serve(assemble(scenario), device="cpu")
    check(scenario, result)
    events = sorted([(r.arrival_s, 1) for r in result.requests] + [(r.finish_s, -1) for r in result.requests])
    assert max(np.cumsum([change for _, change in events])) == 3
    later = sorted(r.arrival_s for r in result.requests)[3:]
    finishes = sorted(r.finish_s for r in result.requests)[: len(later)]
    assert later == pytest.approx([f + 0.004 for f in finishes])


def test_a_lone_request_is_not_served_before_it_arrives() -> None:
    scenario = question(workload={"arrivals": {"kind": "poisson", "rate_per_s": 20.0}, "requests": 3})
    result = serve(assemble(scenario), device="cpu")
    assert [r.arrival_s for r in result.requests] == [r.arrival_s for r in scenario.requests()]
    assert min(r.ttft_s for r in result.requests) > 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"engine": {"num_kv_blocks": None}}, "num_kv_blocks"),
        ({"deployment": {"replicas": 2}}, "replicas"),
        ({"deployment": {"kv_bits": 8}}, "kv_bits"),
        ({"deployment": {"weight_bits": 8, "kv_bits": 8}}, "8 bits"),
        (
            {
                "speculation": SPECULATION
                | {
                    "draft_model": None,
                    "program": {
                        "name": "heads",
                        "source": "test",
                        "lossless": True,
                        "phases": [],
                        "proposal": "chain",
                    },
                }
            },
            "heads",
        ),
        (
            {"workload": {"classes": [{"name": "code", "acceptance": {"kind": "constant", "rate": 0.5}}]}},
            "imposes one law",
        ),
    ],
)
def test_what_it_cannot_run_is_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        serve(assemble(question(**changes)), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_missing_gpu_and_a_request_too_long_have_no_answer() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(NoAnswer, match="CUDA"):
            serve(assemble(question()), device="cuda")
    with pytest.raises(NoAnswer, match="num_kv_blocks"):
        serve(assemble(question(engine={"num_kv_blocks": 2})), device="cpu")
