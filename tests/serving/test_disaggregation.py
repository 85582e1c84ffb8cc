"""Pools of prefill and decode replicas: timelines by hand, and what is conserved whatever is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specsim.assembly import assemble
from specsim.errors import NoAnswer
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.serving.events import serve_by_events
from specsim.serving.fleet import Fleet
from specsim.serving.simulate import run, simulate
from specsim.serving.sinks import KeptRecords
from specsim.specs.catalog import load_model
from specsim.specs.deployment import Deployment, Disaggregation, KvLink
from specsim.specs.engine import EngineLimits
from specsim.workload.request import RequestSpec, requests_of
from tests.replicas import replica
from tests.serving.test_drives import Case, cases, pools
from tests.serving.test_replica import Steady, speculation

pytestmark = pytest.mark.slow  # numba compiles for some ten seconds the first time

RULES = ("vllm", "sglang")
BLOCK = 16 * 2 * 12 * 768 * 2  # bytes: tokens, keys and values, layers, width, two bytes a number
LINK = KvLink(bandwidth_bytes_per_s=10.0 * BLOCK, latency_s=0.25)


def served(
    requests: list[tuple[float, int, int]],
    rules: str,
    *,
    decode: int = 1,
    priorities: tuple[int, ...] | None = None,
    **limits: Any,
) -> RunResult:
    """(arrival, prompt, output) each; one prefill replica, steps of a second, ten blocks of 16 tokens a second."""
    engine = EngineLimits.model_validate({"rules": rules} | limits)
    server = replica(engine, limits.get("num_kv_blocks", 1000), Steady())
    asked = Disaggregation(prefill_replicas=1, decode_replicas=decode, kv_link=LINK)
    order = priorities or (0,) * len(requests)
    rows = [RequestSpec(number, *one, priority=order[number]) for number, one in enumerate(requests)]
    return run(rows, [server] * (1 + decode), disaggregation=asked)


@pytest.mark.parametrize("rules", RULES)
def test_one_request_by_hand(rules: str) -> None:
    """A prefill of 1 s, 3 blocks in 0.3 s, a latency of 0.25 s; then vLLM's decode replica makes all 4 tokens."""
    result = served([(0.5, 33, 4)], rules)
    (record,) = result.requests
    there = 0.5 + 1.0 + 0.3 + 0.25
    assert record.first_token_s == pytest.approx(there + (rules == "vllm"))
    assert record.finish_s == pytest.approx(record.first_token_s + 3.0)
    assert record.replica == 1
    assert result.kv_transfers is not None
    assert (result.kv_transfers.count, result.kv_transfers.bytes_per_gpu) == (1, 3 * BLOCK)
    decoding = [(step.start_s, step.prefill_tokens, step.verify_tokens) for step in result.steps if step.replica == 1]
    assert [row[1:] for row in decoding] == [(1, 0)] * (rules == "vllm") + [(0, 1)] * 3
    assert decoding[0][0] == pytest.approx(there)


@pytest.mark.parametrize("rules", RULES)
def test_an_output_of_one_token_moves_all_the_same(rules: str) -> None:
    result = served([(0.0, 16, 1)], rules)
    assert result.requests[0].finish_s == pytest.approx(1.0 + 0.1 + 0.25 + (rules == "vllm"))
    assert result.kv_transfers is not None
    assert result.kv_transfers.count == 1


def test_transfers_of_one_sender_go_one_after_the_other() -> None:
    """Two prompts of one step, of 5 and of 2 blocks, to two decode replicas: 1.5 s and 1.7 s, and the latency."""
    result = served([(0.0, 80, 3), (0.0, 32, 3)], "vllm", decode=2)
    assert [one.replica for one in result.requests] == [1, 2]
    assert [one.first_token_s for one in result.requests] == pytest.approx([1.5 + 1.25, 1.7 + 1.25])


def test_vllm_keeps_a_prompts_blocks_until_they_are_read() -> None:
    """3 blocks hold one prompt of 40 tokens; the next one begins when the KV has arrived, after 1 + 0.3 + 0.25 s."""
    result = served([(0.0, 40, 2), (0.0, 40, 2)], "vllm", num_kv_blocks=4)
    prefills = [step.start_s for step in result.steps if step.replica == 0]
    assert prefills == pytest.approx([0.0, 1.55])


def test_vllm_moves_nothing_before_the_decode_replica_has_blocks() -> None:
    """Of 4 blocks the first request fills 3, until 1 + 0.3 + 0.25 + 4 s; then the other's 2 blocks move."""
    result = served([(0.0, 40, 4), (0.0, 20, 1)], "vllm", num_kv_blocks=5, max_num_batched_tokens=64)
    first, other = result.requests
    assert first.finish_s == pytest.approx(5.55)
    assert other.first_token_s == pytest.approx(5.55 + 0.2 + 0.25 + 1.0)


def test_sglang_computes_no_prompt_before_the_decode_replica_has_pages() -> None:
    """The decode replica takes the other request when the first has finished, at 1 + 0.3 + 0.25 + 3 s."""
    limits = {"num_kv_blocks": 6, "num_reserved_decode_tokens": 16}
    result = served([(0.0, 40, 4), (0.0, 20, 1)], "sglang", **limits)
    prefills = [step.start_s for step in result.steps if step.replica == 0]
    assert prefills == pytest.approx([0.0, 4.55])


@pytest.mark.parametrize(("reserved", "second"), [(16, 0.0), (32, 4.55)])
def test_sglang_keeps_pages_free_for_every_request_that_it_holds(reserved: int, second: float) -> None:
    """Of 128 slots 48 are the first one's; the other asks for 20 + ``reserved`` and must leave ``reserved``."""
    limits = {"num_kv_blocks": 9, "num_reserved_decode_tokens": reserved}
    result = served([(0.0, 40, 4), (0.0, 20, 1)], "sglang", **limits)
    prefills = [step.start_s for step in result.steps if step.replica == 0]
    assert prefills == pytest.approx(sorted({0.0, second}))


def test_sglang_lets_a_running_request_finish_before_it_takes_another() -> None:
    """Of 160 slots the first may fill 116 in all, so that 40 more, asked for after 5 s, must wait for it to write."""
    limits = {"num_kv_blocks": 11, "num_reserved_decode_tokens": 0}
    result = served([(0.0, 16, 100), (5.0, 40, 2)], "sglang", **limits)
    prefills = [step.start_s for step in result.steps if step.replica == 0]
    assert 10.0 < prefills[1] < result.requests[0].finish_s
    assert not any(request.preemptions for request in result.requests)


@pytest.mark.parametrize("mixed_chunks", [False, True])
def test_sglang_gives_up_a_cut_prompt_that_lacks_the_pages_of_one_that_cannot_run(mixed_chunks: bool) -> None:
    """The first request is given up for the pages of the second. When that has left, the first computes its 65 tokens
    again in chunks of 32; meanwhile the third reserves pages, one of which the first lacks, and waits for the only
    place to run, which the first holds.
    """
    limits = {
        "max_num_seqs": 1,
        "num_kv_blocks": 8,
        "max_num_batched_tokens": 32,
        "num_reserved_decode_tokens": 0,
        "scheduling_policy": "priority",
        "mixed_chunks": mixed_chunks,
    }
    requests = [(1.5, 28, 43), (4.5, 32, 10), (6.5, 32, 7), (8.5, 9, 2)]
    result = served(requests, "sglang", priorities=(0, 1, 1, 1), **limits)
    assert [one.preemptions for one in result.requests] == [2, 0, 0, 0]
    chunks = [step.start_s for step in result.steps if step.replica == 1 and step.prefill_tokens == 32]
    assert chunks[1] < result.requests[2].first_token_s < result.requests[2].finish_s <= chunks[2]


def test_a_drafters_cache_moves_with_the_targets() -> None:
    """EAGLE-3 has a layer of its own beside the 32 of Llama-3.1-8B, as wide: 33 times 4,096 bytes a token."""
    fields = {
        "name": "pools", "model": "llama-3.1-8b", "gpu": "h100-sxm",
        "deployment": {"disaggregation": {"prefill_replicas": 1, "decode_replicas": 1}},
        "speculation": {
            "program": "eagle3", "max_draft_tokens": 3, "acceptance": {"kind": "constant", "rate": 0.7},
        },
        "workload": {
            "kind": "synthetic", "requests": 5, "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
            "lengths": {"kind": "fixed", "prompt_tokens": 160, "output_tokens": 8},
        },
    }  # fmt: skip
    result = simulate(assemble(Scenario.model_validate(fields)))
    assert result.kv_transfers is not None
    assert result.kv_transfers.bytes_per_gpu == 5 * 160 * 33 * 4096
    assert result.num_gpus == 2
    on_prefill = [step for step in result.steps if step.replica == 0]
    assert {step.draft_tokens for step in on_prefill} == {0}
    assert sum(step.draft_tokens for step in result.steps) > 0


def test_the_cache_of_a_long_prompt() -> None:
    """40 GB for 128k tokens of Llama-3-70B (Mooncake's documentation of its transfer engine): 40 GiB."""
    tokens = 128 * 1024
    assert load_model("llama-3.3-70b").kv_bytes_per_token() * tokens == 40 * 2**30


def a_fleet(case: Case) -> tuple[Fleet, KeptRecords]:
    closed = case.clients is not None
    rows = requests_of(case.requests if closed else sorted(case.requests, key=lambda one: one.arrival_s or 0.0))
    fleet = Fleet(
        case.replicas, rows.classes, router=case.router, clients=case.clients, disaggregation=case.disaggregation
    )
    sink = KeptRecords(rows.classes)
    fleet.serve([rows], sink)
    return fleet, sink


@settings(max_examples=200)
@given(case=cases().filter(lambda case: case.disaggregation is not None))
def test_what_is_conserved(case: Case) -> None:
    """Blocks, requests and transfers; and no replica does the other pool's work."""
    assert case.disaggregation is not None
    fleet, sink = a_fleet(case)
    requests, steps, rejected = sink.requests(), sink.steps(), int(fleet.log.record["rejected"][0])
    assert len(requests) + rejected == len(case.requests)
    states, num_blocks = fleet.replicas, [int(arrays.engine["num_blocks"][0]) for arrays in fleet.arrays]
    assert (states["free_plain"] + states["free_named"]).tolist() == num_blocks
    for name in ("num_running", "num_waiting", "num_pending", "num_reserved", "first_moving"):
        assert not states[name].any()
    moved = fleet.kv_transfers()
    assert moved is not None
    assert moved.count == len(requests)
    one, size = case.replicas[0], case.replicas[0].limits.block_size
    most = sum(-(-request.prompt_tokens // size) for request in requests) * one.kv_block_bytes
    shares = one.limits.prefix_caching and one.limits.rules == "vllm"
    assert moved.bytes_per_gpu <= most if shares else moved.bytes_per_gpu == most
    prefill = case.disaggregation.prefill_replicas
    assert all(step.verify_tokens == step.draft_tokens == 0 for step in steps if step.replica < prefill)
    assert all(request.replica >= prefill for request in requests)
    if not one.limits.prefix_caching and not any(request.preemptions for request in requests):
        computed = sum(step.prefill_tokens for step in steps if step.replica < prefill)
        assert computed == sum(request.prompt_tokens for request in requests)
        again = sum(step.prefill_tokens for step in steps if step.replica >= prefill)
        vllm = one.limits.rules == "vllm"
        assert again >= len(requests) if vllm else again == 0
        if vllm and not one.pads_new_decodes:
            assert again == len(requests)
    least = 0.01 + one.kv_block_bytes / case.disaggregation.kv_link.bandwidth_bytes_per_s * (not shares)
    for request in requests:
        assert request.first_token_s >= request.arrival_s + least + case.disaggregation.kv_link.latency_s
        assert request.finish_s >= request.first_token_s
        assert (request.tpot_s is None) == (request.output_tokens == 1)


@settings(max_examples=50)
@given(asked=pools(), rules=st.sampled_from(RULES), prompts=st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_alone_a_request_takes_prefill_transfer_and_decode(
    asked: Disaggregation, rules: str, prompts: list[int]
) -> None:
    """Requests that never meet, whose prompts take one step each: 1 s, blocks over the link, and a step a token."""
    server = replica(EngineLimits.model_validate({"rules": rules}), 2000, Steady())
    rows = [RequestSpec(number, 1e4 * number, prompt, 5) for number, prompt in enumerate(prompts)]
    count = asked.prefill_replicas + asked.decode_replicas
    result = run(rows, [server] * count, disaggregation=asked, router="least_outstanding")
    assert server.kv_block_bytes == BLOCK
    for record in result.requests:
        moving = -(-record.prompt_tokens // 16) * BLOCK / asked.kv_link.bandwidth_bytes_per_s
        assert record.ttft_s == pytest.approx(1.0 + moving + asked.kv_link.latency_s + (rules == "vllm"), rel=1e-6)
        assert record.e2e_s - record.ttft_s == pytest.approx(4.0)


def test_one_drafts_on_the_decode_pool_alone() -> None:
    """1 + 3 tokens a round where all drafts are right: 1 token, then two rounds, as on one replica, but elsewhere."""
    server = replica(EngineLimits(), 1000, Steady(), speculation(3, 1.0))
    asked = Disaggregation(prefill_replicas=1, decode_replicas=1, kv_link=LINK)
    result = run([RequestSpec(0, 0.0, 16, 9)], [server] * 2, disaggregation=asked)
    assert result.requests[0].finish_s == pytest.approx(1.0 + 0.1 + 0.25 + 3.0)
    assert [(step.replica, step.draft_tokens) for step in result.steps] == [(0, 0), (1, 0), (1, 3), (1, 3)]


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
@pytest.mark.parametrize("rules", RULES)
def test_each_pool_has_a_router(router: Any, rules: str) -> None:
    """Every replica of both pools works; the prompts that each computes add up."""
    server = replica(EngineLimits.model_validate({"rules": rules}), 1000, Steady())
    asked = Disaggregation(prefill_replicas=3, decode_replicas=4, kv_link=LINK)
    rows = [RequestSpec(number, 0.3 * number, 20, 6) for number in range(60)]
    result = run(rows, [server] * 7, disaggregation=asked, router=router)
    computed = np.bincount([step.replica for step in result.steps], [step.prefill_tokens for step in result.steps], 7)
    assert computed[:3].sum() == 60 * 20
    assert (computed[:3] > 0).all()
    ended = np.bincount([one.replica for one in result.requests], minlength=7)
    assert (ended[:3] == 0).all()
    assert (ended[3:] > 0).all()
    if router == "round_robin":
        assert computed[:3].tolist() == [400.0] * 3
        assert ended[3:].tolist() == [15] * 4


def test_simpy_tells_of_finished_requests_at_once() -> None:
    server = replica(EngineLimits(rules="sglang"), 1000, Steady())
    asked = Disaggregation(prefill_replicas=1, decode_replicas=1, kv_link=LINK)
    rows = requests_of([RequestSpec(number, 0.0, 16, 1) for number in range(3)])
    fleet = Fleet([server] * 2, rows.classes, router="round_robin", disaggregation=asked)
    sink = KeptRecords(rows.classes)
    heard: list[int] = []
    take = sink.take
    sink.take = lambda *columns: (take(*columns), heard.append(sink.finished))[0]  # type: ignore[method-assign,func-returns-value]
    serve_by_events(fleet, [rows], sink, at_once=True)
    assert heard[:3] == [1, 2, 3]


def test_what_could_never_be_moved_is_refused() -> None:
    with pytest.raises(NoAnswer, match="has 100 prompt tokens beside num_reserved_decode_tokens of 512"):
        served([(0.0, 100, 4)], "sglang", num_kv_blocks=20)


def test_the_pools_are_the_replicas() -> None:
    asked = {"prefill_replicas": 2, "decode_replicas": 3}
    assert Deployment.model_validate({"disaggregation": asked}).replicas == 5
    with pytest.raises(ValidationError, match="replicas is 4 and the pools of disaggregation have 5; leave replicas"):
        Deployment.model_validate({"disaggregation": asked, "replicas": 4})
    with pytest.raises(ValidationError, match=r"disaggregation\.decode_replicas\s+Input should be greater than 0"):
        Deployment.model_validate({"disaggregation": asked | {"decode_replicas": 0}})
    with pytest.raises(ValidationError, match="replicas_without_speculation is given and disaggregation moves"):
        Deployment.model_validate({"disaggregation": asked, "replicas_without_speculation": 1})
