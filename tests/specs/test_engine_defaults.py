"""Bundled defaults of engines against what the engines' own code and logs say, and who wins over whom."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.specs.catalog import hardware_names, load_hardware
from specsim.specs.engine import EngineLimits, graph_batches
from specsim.specs.engine_defaults import Circumstances, load_engine, numbers, with_defaults

ENGINES = ("vllm", "sglang", "tensorrt-llm")


def engine(gpu: str, drafter: str | None = None, *, on: str = "gpu", ranks: int = 1, **stated: Any) -> EngineLimits:
    drafts_on: Any = on if drafter else None
    here = Circumstances(
        load_hardware(gpu),
        ranks,
        stated.pop("kv_bits", 16),
        stated.pop("routed", False),
        drafter,
        drafts_on,
        stated.pop("schedules_by_batch", False),
        stated.pop("model", ""),
    )
    return with_defaults(EngineLimits.model_validate(stated), here)


# -- vLLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "tokens", "requests"),
    [
        ("a100-80gb", 2048, 256),
        ("l40s", 2048, 256),
        ("rtx-4090", 2048, 256),  # below 70 GiB, or an A100
        ("h100-sxm", 8192, 1024),
        ("h200", 8192, 1024),
        ("b200", 8192, 1024),
    ],
)
def test_the_server_s_budget_depends_on_the_card(gpu: str, tokens: int, requests: int) -> None:
    """``EngineArgs.get_batch_defaults``, usage context OPENAI_API_SERVER."""
    found = engine(gpu, kind="vllm", version="0.24")
    assert (found.max_num_batched_tokens, found.max_num_seqs) == (tokens, requests)


def test_a_logged_budget_with_eagle_on_an_a100() -> None:
    """vLLM 0.24 with EAGLE-3 at 5 drafts on an A100-SXM4-80GB logged 2,048 scheduled tokens: it takes no slots."""
    question = scenario("a100-80gb", "eagle3", version="0.24")
    assert question.engine.max_num_batched_tokens == 2048
    assert question.speculation is not None
    assert question.speculation.program.budget_tokens(5) == 0


@pytest.mark.parametrize(
    ("version", "drafter", "on", "expected"),
    [
        ("0.13", None, "gpu", False), ("0.13", "eagle3", "gpu", False),
        ("0.14", None, "gpu", True), ("0.14.0", "eagle", "gpu", True), ("0.23.1rc1", "mtp", "gpu", True),
        ("0.14", "ngram", "cpu", False), ("0.32", "ngram", "cpu", False), ("0.32", "suffix", "cpu", False),
        ("0.25.1", "draft-model", "gpu", False), ("0.26", "draft-model", "gpu", True),
        ("0.31", "dflash", "gpu", False), ("0.32", "dflash", "gpu", True), ("0.32", "medusa", "gpu", False),
    ],
)  # fmt: skip
def test_asynchronous_scheduling_by_version_and_method(
    version: str, drafter: str | None, on: str, expected: bool
) -> None:
    """Release notes of 0.14 ("excludes ... non-MTP/Eagle spec decoding") and pull requests 48341 and 58065."""
    assert engine("h100-sxm", drafter, on=on, version=version).async_scheduling is expected


def test_blackwell_s_larger_graphs_came_later() -> None:
    """Pull request 49390, merged between 0.26 and 0.27; other cards keep 512."""
    assert engine("b200", version="0.26").captured_sizes(0, on_gpu=True)[-1] == 512
    assert engine("b200", version="0.27").captured_sizes(0, on_gpu=True)[-1] == 1024
    assert engine("h200", version="0.27").captured_sizes(0, on_gpu=True)[-1] == 512


def test_a_batch_size_schedule_falls_back_to_pieces_before_the_second_model_runner() -> None:
    assert engine("h100-sxm", "mtp", schedules_by_batch=True, version="0.24").graph_mode == "piecewise"
    assert engine("h100-sxm", "mtp", schedules_by_batch=True, version="0.25").graph_mode == "full_and_piecewise"
    assert engine("h100-sxm", "mtp", version="0.24").graph_mode == "full_and_piecewise"
    experts = [
        engine("h100-sxm", "mtp", schedules_by_batch=True, routed=True, version=v).graph_mode
        for v in ("0.27.1", "0.29")
    ]
    assert experts == ["piecewise", "full_and_piecewise"]


def test_slots_for_drafts_were_reserved_for_every_request_there_could_be() -> None:
    """Pull request 51725: 8,192 tokens and 1,024 requests left 2,048 with DSpark at 7 drafts (6 slots each)."""
    from specsim.scheduling.engine import engine_of

    before, after = (engine("h100-sxm", "pard", version=version) for version in ("0.27", "0.28"))
    assert engine_of(before, 1000, draft_slots=6)["max_num_batched_tokens"] == 2048
    assert engine_of(before, 1000, draft_slots=6)["draft_slots"] == 0
    assert engine_of(after, 1000, draft_slots=6)["max_num_batched_tokens"] == 8192
    with pytest.raises(InvalidInput, match="one request may take 1 beside the 8192 that are kept for drafts; raise"):
        engine_of(before, 1000, draft_slots=8)


def test_the_share_of_memory_rose_with_graphs_that_count() -> None:
    """Pull request 38284."""
    assert [engine("h200", version=v).gpu_memory_utilization for v in ("0.20", "0.21")] == [0.9, 0.92]


@pytest.mark.parametrize(
    ("model", "routed", "drafter", "since"),
    [
        ("Qwen3-8B", False, "eagle3", "0.21"),
        ("Llama-3.1-8B", False, None, "0.23"),
        ("Apertus-8B", False, None, "0.25"),
        ("Qwen3-30B-A3B", True, "eagle3", "0.29"),
        ("Apertus-8B", False, "dspark", "0.11"),
    ],
)
def test_the_second_model_runner_serves_a_model_since(
    model: str, routed: bool, drafter: str | None, since: str
) -> None:
    """It takes 0.64 of the host's time (56 % more tokens/s where the host bounds them, vllm.ai/blog/mrv2)."""
    before = f"0.{int(since[2:]) - 1}"
    new = engine("h100-sxm", drafter, kind="vllm", version=since, routed=routed, model=model)
    old = engine("h100-sxm", "eagle3", kind="vllm", version="0.20", routed=routed, model=model)
    for name in ("step", "sequence", "draft_pass"):
        assert getattr(old.host, name).seconds == pytest.approx(1.56 * getattr(new.host, name).seconds, rel=0.05)
    assert (old.logit_bytes, new.logit_bytes) == (14, 10)
    if since != "0.11":
        assert engine("h100-sxm", "eagle3", kind="vllm", version=before, routed=routed, model=model).host == old.host


def test_an_eight_bit_cache_before_hopper_is_planned_on_the_host() -> None:
    """FlashAttention 2 reads no FP8 cache, so that FlashInfer runs, which divides its work on the host each pass."""
    wide, narrow = (engine("a100-80gb", "eagle3", kv_bits=bits) for bits in (16, 8))
    assert (wide.attention_backend, narrow.attention_backend) == ("fa2", "flashinfer")
    assert wide.host.plan.seconds == 0 < engine("a100-80gb", kv_bits=8).host.plan.seconds < narrow.host.plan.seconds
    assert narrow.host.model_copy(update={"plan": wide.host.plan}) == wide.host
    assert engine("h100-sxm", "eagle3", kv_bits=8).host == engine("h100-sxm", "eagle3").host


# -- SGLang and TensorRT-LLM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "chunk", "graph"), [("rtx-4090", 2048, 24), ("h100-sxm", 8192, 256), ("b200", 16384, 512)]
)
def test_sglang_s_chunks_and_graphs_depend_on_memory(gpu: str, chunk: int, graph: int) -> None:
    """``ServerArgs._handle_gpu_memory_settings``."""
    found = engine(gpu, kind="sglang")
    assert (found.max_num_batched_tokens, found.max_graph_size, found.rules) == (chunk, graph, "sglang")
    assert found.captured_sizes(0, on_gpu=True)[-1] <= graph


def test_sglang_s_share_of_memory_follows_its_rule() -> None:
    """(memory - 512 - 1.5 x chunk - 2 x largest graph - 128) / memory in MiB, 81,559 on an H100 (nvidia-smi)."""
    reserved = 512 + 1.5 * 8192 + 2 * 256 + 128
    assert engine("h100-sxm", kind="sglang").gpu_memory_utilization == round((81559 - reserved) / 81559, 3)


def test_sglang_captures_more_finely_where_it_drafts() -> None:
    assert graph_batches("sglang", 32, drafting=False) == (1, 2, 4, 8, 12, 16, 24, 32)
    assert graph_batches("sglang", 16, drafting=True) == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
    assert engine("h100-sxm", "eagle3", kind="sglang").captured_sizes(3, on_gpu=True)[:3] == (4, 8, 12)


def test_tensorrt_llm_captures_every_small_batch() -> None:
    assert graph_batches("tensorrt-llm", 128, drafting=True) == (*range(1, 33), 64, 128)
    assert engine("h100-sxm", kind="tensorrt-llm").graph_mode == "full_decode_only"


# -- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("gpu", hardware_names())
def test_every_card_gets_every_default_that_any_card_gets(kind: Any, gpu: str) -> None:
    """Two cards differ in values, never in whether a field is filled in."""
    file = load_engine(kind)
    known = {name for rule in file.rules for name in rule.set}
    for version in (file.oldest, file.newest):
        for drafter in (None, "eagle3"):
            here = Circumstances(load_hardware(gpu), drafter=drafter, drafts_on="gpu" if drafter else None)
            lacking = known - set(file.fields(version, here)) - {"draft_slots_for"}
            assert not lacking


@pytest.mark.parametrize("kind", ENGINES)
def test_every_rule_names_its_source(kind: Any) -> None:
    for rule in load_engine(kind).rules:
        assert any(
            word in rule.source for word in (".py", "pull request", "docs.", "release notes", "calibration rows")
        ), rule.source


def test_what_is_stated_wins() -> None:
    stated = engine("h100-sxm", max_num_seqs=7, async_scheduling=False, version="0.24")
    assert (stated.max_num_seqs, stated.async_scheduling) == (7, False)
    assert stated.max_num_batched_tokens == 8192


def test_a_cpu_runs_the_reference_engine_and_a_gpu_the_newest_vllm() -> None:
    assert engine("cpu-generic") == EngineLimits(kind="reference")
    assert engine("h200").name == f"vllm {load_engine('vllm').newest}"
    assert engine("h200", kind="reference") == EngineLimits(kind="reference")


def test_versions_that_nobody_can_answer_for() -> None:
    assert numbers("v0.23.1rc1") == (0, 23, 1)
    with pytest.raises(InvalidInput, match=r"engine.version 'new' is no version; write for instance 0.24"):
        engine("h200", version="new")
    with pytest.raises(InvalidInput, match=r"engine.version is 0.6.3 and defaults of vllm are known from 0.11 on"):
        engine("h200", version="0.6.3")
    assert engine("h200", version="0.40").name == "vllm 0.40"


# -- in a scenario ---------------------------------------------------------------------------------------------------


def scenario(gpu: str = "h200", program: str = "ngram", **stated: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "asked",
            "model": "llama-3.1-8b",
            "gpu": gpu,
            "engine": stated,
            "speculation": {
                "program": program,
                "max_draft_tokens": 5,
                "acceptance": {"kind": "constant", "rate": 0.5},
            },
            "workload": {
                "kind": "synthetic",
                "requests": 4,
                "arrivals": {"kind": "closed_loop", "concurrency": 1},
                "lengths": {"kind": "fixed", "prompt_tokens": 40, "output_tokens": 20},
            },
        }
    )


def test_without_its_drafter_a_scenario_gets_the_engine_s_defaults_without_one() -> None:
    """n-gram look-up keeps vLLM synchronous; the plain engine that it is compared with is not."""
    question = scenario()
    assert not question.engine.async_scheduling
    assert question.without_speculation().engine.async_scheduling


def test_a_scenario_survives_being_written_down() -> None:
    question = scenario(max_num_seqs=9)
    again = Scenario.model_validate(question.model_dump(mode="json", by_alias=True))
    assert again.engine == question.engine
    assert again.sha256() == question.sha256()
    assert again.model_copy(update={"gpu": load_hardware("a100-80gb")}).engine.max_num_batched_tokens == 2048


def test_an_answer_says_what_it_assumed() -> None:
    found = scenario(max_num_seqs=9).assumed_engine()
    assert (found["kind"], found["version"]) == ("vllm", load_engine("vllm").newest)
    assert found["assumed"]["prefix_caching"] is True
    assert "max_num_seqs" not in found["assumed"]


def test_a_schedule_for_an_engine_assumes_that_engine_unless_told_otherwise() -> None:
    assert scenario().run_by("sglang").engine.kind == "sglang"
    assert scenario(kind="vllm").run_by("sglang").engine.kind == "vllm"
