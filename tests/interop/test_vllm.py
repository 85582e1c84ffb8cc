"""vLLM's --speculative-config: its schedule rule recomputed from the emitted text, old spellings, and refusals."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EagleTree, EngineConfig
from specsim.interop.server_flags import flag_table
from specsim.interop.vllm import limit_flags, read_vllm, write_vllm
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy, TablePolicy, Tier, TieredPolicy

EAGLE = {"method": "eagle3", "model": "org/head", "num_speculative_tokens": 5}
SCHEDULE = "num_speculative_tokens_per_batch_size"


def content(text: str) -> dict[str, Any]:
    words = shlex.split(text)
    value: dict[str, Any] = json.loads(words[words.index("--speculative-config") + 1])
    return value


def engine_k(config: dict[str, Any], batch: int) -> int:
    """What the engine drafts: the range that started last counts, cut at num_speculative_tokens."""
    most = config["num_speculative_tokens"]
    ranges = config.get(SCHEDULE, [[1, 1, most]])
    return min(most, max((first, k) for first, _, k in ranges if first <= batch)[1])


@st.composite
def ranges(draw: st.DrawFn) -> list[list[int]]:
    """Disjoint ranges from batch 1, with gaps, k up to 5, not all 0."""
    bounds = sorted(draw(st.sets(st.integers(2, 200), min_size=1, max_size=9)))
    edges = [1, *bounds]
    if len(edges) % 2:
        edges.append(edges[-1] + draw(st.integers(0, 30)))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    found = [[first, last, draw(st.integers(0, 5))] for first, last in pairs]
    found[0][2] = max(found[0][2], int(all(k == 0 for _, _, k in found)))
    return found


@given(ranges(), st.randoms())
def test_a_schedule_survives_the_way_in_and_out_at_every_batch(schedule: list[list[int]], random: Any) -> None:
    shuffled = random.sample(schedule, len(schedule))  # vLLM sorts them itself
    given_text = {**EAGLE, SCHEDULE: shuffled}
    config = read_vllm(json.dumps(given_text))
    written = write_vllm(config).text
    again = read_vllm(written)
    for batch in range(1, 260):
        expected = engine_k(given_text, batch)
        assert config.draft_tokens(batch) == expected
        assert engine_k(content(written), batch) == expected
        assert again.draft_tokens(batch) == expected


def test_the_documented_schedule() -> None:
    config = read_vllm({**EAGLE, "num_speculative_tokens": 3, SCHEDULE: [[1, 64, 3], [65, 128, 1], [129, 512, 0]]})
    assert [config.draft_tokens(b) for b in (1, 64, 65, 128, 129, 5000)] == [3, 3, 1, 1, 0, 0]
    assert config.steps() == ((1, 3), (65, 1), (129, 0))


def test_written_ranges_start_at_one_do_not_overlap_and_end_at_the_largest_batch() -> None:
    policy = OffAbovePolicy(k=4, max_batch=16)
    config = EngineConfig(method="ngram", num_speculative_tokens=4, policy=policy, limits={"max_num_seqs": 64})
    text = write_vllm(config).text
    assert content(text)[SCHEDULE] == [[1, 16, 4], [17, 64, 0]]
    assert shlex.split(text)[-2:] == ["--max-num-seqs", "64"]


def test_a_constant_length_needs_no_schedule_and_reserves_no_more() -> None:
    config = EngineConfig(method="ngram", num_speculative_tokens=8, policy=FixedPolicy(k=3))
    assert content(write_vllm(config).text) == {"method": "ngram", "num_speculative_tokens": 3}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({SCHEDULE: []}, "num_speculative_tokens_per_batch_size is empty"),
        ({SCHEDULE: [[1, 8, 3], [8, 9, 1]]}, "a range starts at batch 8, inside the one ending at 8"),
        ({SCHEDULE: [[2, 8, 3]]}, "must start at batch 1"),
        ({SCHEDULE: [[1, 8, 6]]}, r"\[1, 8, 6\] is above num_speculative_tokens 5"),
        ({SCHEDULE: [[4, 2, 1], [1, 1, 1]]}, "ends before it starts"),
        ({SCHEDULE: [[0, 2, 1]]}, r"num_speculative_tokens_per_batch_size\[0\]\[0\] is 0"),
        ({SCHEDULE: [[1, 2]]}, r"num_speculative_tokens_per_batch_size\[0\]"),
        ({SCHEDULE: "1-64:3"}, "num_speculative_tokens_per_batch_size is '1-64:3'"),
        ({"num_speculative_tokens": "three"}, "num_speculative_tokens is 'three'"),
        ({"num_speculative_tokens": 0}, "num_speculative_tokens is 0"),
        ({"method": "eagle4"}, "did you mean eagle"),
        ({"model": None}, "'eagle3' needs model"),
        ({"tensor_parallel_size": 2}, "draft_tensor_parallel_size"),
        ({"method": "mtp", "parallel_drafting": True}, "parallel_drafting goes with draft_model or eagle3"),
        ({"synthetic_acceptance_length": 2}, "needs rejection_sample_method 'synthetic'"),
        ({"rejection_sample_method": "synthetic"}, "one of synthetic_acceptance_rates"),
        ({"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.5]}, "has 1 entries; give 5"),
        ({"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 7}, "from 1 to 6"),
        (
            {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.5, 0.6, 0.1, 0.1, 0.1]},
            "rates .* rise",
        ),
        ({"method": "ngram", "prompt_lookup_min": 4, "prompt_lookup_max": 2}, "min 4 is above prompt_lookup_max 2"),
    ],
)
def test_malformed_input_is_one_line_that_names_the_rule(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_vllm({**EAGLE, **change})
    assert "\n" not in str(caught.value)
    assert "--speculative-config" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"method": "ngram"', "is not JSON"),
        ("vllm serve m --max-num-seqs 8", "has no --speculative-config"),
        ("vllm serve m --speculative-config '{", "balance its quotes"),
        ("vllm serve m --speculative-config '[1]'", "holds a list, no JSON object; quote it"),
        ('--spec-method ngram --speculative-config \'{"method": "ngram"}\'', "are both given"),
        ("--spec-method ngram --spec-tokens 3 --max-num-seqs many", "--max-num-seqs is 'many'"),
        ("--spec-method ngram --spec-tokens 3 --max-num-seqs 0", "limits: max_num_seqs is 0"),
        ('{"method": "ngram"}', "needs num_speculative_tokens"),
    ],
)
def test_malformed_text(text: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_vllm(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given_text", "method"),
    [
        ({"method": "deepseek_mtp", "num_speculative_tokens": 1}, "mtp"),
        ({"method": "qwen3_next_mtp", "num_speculative_tokens": 1}, "mtp"),
        ({"model": "[ngram]", "num_speculative_tokens": 3}, "ngram"),
        ({"model": "org/Llama-EAGLE3-head", "num_speculative_tokens": 3}, "eagle3"),
        ({"model": "org/EAGLE-Llama", "num_speculative_tokens": 3}, "eagle"),
        ({"model": "org/small", "num_speculative_tokens": 3}, "draft_model"),
        ({"model": "amd/PARD-Qwen3-0.6B", "num_speculative_tokens": 12, "parallel_drafting": True}, "pard"),
        ({**EAGLE, "parallel_drafting": True}, "p_eagle"),
        ({"method": "suffix"}, "suffix"),
        ({"method": "medusa", "model": "org/heads", "num_speculative_tokens": 3}, "medusa"),
    ],
)
def test_methods_and_their_aliases(given_text: dict[str, Any], method: str) -> None:
    config = read_vllm(given_text)
    assert config.method == method
    assert read_vllm(write_vllm(config).text).method == method


def test_old_spellings_are_replaced_and_said() -> None:
    line = (
        "python -m vllm.entrypoints.openai.api_server --model big --speculative_model '[ngram]' \\\n"
        " --num_speculative_tokens 4 --ngram_prompt_lookup_max 3 --ngram-prompt-lookup-min=2"
        " --speculative-disable-by-batch-size 32"
    )
    config = read_vllm(line)
    assert (config.method, config.num_speculative_tokens, config.prompt_lookup) == ("ngram", 4, (2, 3))
    assert config.draft_model is None
    assert config.policy is None
    assert any("does nothing since vLLM 0.10" in note for note in config.notes)
    assert any("speculative_model is now model" in note for note in config.notes)
    strict = read_vllm({**EAGLE, "rejection_sample_method": "strict"})
    assert strict.kept == {"draft_sample_method": "greedy"}


def test_unknown_keys_are_kept_said_and_written_back() -> None:
    given_text = {**EAGLE, "draft_tensor_parallel_size": 1, "num_spec_tokens_per_batch": 3, "quantisation": "fp8"}
    config = read_vllm(given_text)
    assert config.kept == {"draft_tensor_parallel_size": 1, "num_spec_tokens_per_batch": 3, "quantisation": "fp8"}
    assert config.notes[0] == "kept, and not modelled: draft_tensor_parallel_size"
    assert any("quantisation; did you mean quantization?" in note for note in config.notes)
    assert content(write_vllm(config).text) == given_text


def test_a_whole_command_line() -> None:
    line = (
        "vllm serve org/model --max-num-seqs 64 --max-num-batched-tokens=4096 --block-size 32 "
        "--gpu-memory-utilization 0.8 --num-gpu-blocks-override 500 --no-enable-chunked-prefill --async-scheduling "
        "-tp 2 --speculative-config.method ngram --speculative-config.num_speculative_tokens 3"
    )
    config = read_vllm(line)
    assert config.limits == {
        "max_num_seqs": 64,
        "max_num_batched_tokens": 4096,
        "block_size": 32,
        "gpu_memory_utilization": 0.8,
        "num_kv_blocks": 500,
        "chunked_prefill": False,
        "async_scheduling": True,
    }
    assert config.num_speculative_tokens == 3
    assert read_vllm(write_vllm(config).text).limits == config.limits
    graphs = read_vllm(f"{line} --cudagraph-capture-sizes 1 2 4")
    assert graphs.limits["graph_sizes"] == (1, 2, 4)
    assert read_vllm(f"{line} --enforce-eager").limits["graph_sizes"] == ()


def test_how_the_scheduler_admits() -> None:
    config = read_vllm(
        "vllm serve org/model --enable-prefix-caching --scheduling-policy priority --watermark 0.05 "
        "--long-prefill-token-threshold 512 --long-prefill-token-threshold-adaptive --no-scheduler-reserve-full-isl "
        "--speculative-config.method ngram --speculative-config.num_speculative_tokens 3"
    )
    assert config.limits == {
        "prefix_caching": True,
        "scheduling_policy": "priority",
        "watermark": 0.05,
        "long_prefill_token_threshold": 512,
        "long_prefill_token_threshold_adaptive": True,
        "scheduler_reserve_full_isl": False,
    }
    assert read_vllm(write_vllm(config).text).limits == config.limits


def test_every_limit_that_a_flag_sets_is_written_by_that_flag() -> None:
    limits = {
        "max_num_seqs": 64,
        "max_num_batched_tokens": 4096,
        "block_size": 32,
        "gpu_memory_utilization": 0.8,
        "num_kv_blocks": 500,
        "long_prefill_token_threshold": 512,
        "watermark": 0.05,
        "max_model_len": 8192,
        "scheduling_policy": "priority",
        "max_graph_size": 256,
        "graph_sizes": (1, 2, 256),
        "chunked_prefill": False,
        "prefix_caching": True,
        "async_scheduling": False,
        "scheduler_reserve_full_isl": True,
        "long_prefill_token_threshold_adaptive": False,
    }
    assert set(limits) == {flag.field for flag in flag_table("vllm").engine.values()}
    config = EngineConfig(method="ngram", num_speculative_tokens=3, limits=limits)
    assert read_vllm(write_vllm(config).text).limits == limits


def test_an_engine_without_graphs_runs_eagerly() -> None:
    for limits in ({"graph_mode": "none", "graph_sizes": (1, 2)}, {"graph_sizes": ()}):
        words = limit_flags(limits)
        assert words == ["--enforce-eager"]


def test_data_parallelism_drops_the_schedule_as_vllm_does() -> None:
    text = json.dumps({**EAGLE, SCHEDULE: [[1, 8, 5], [9, 9, 0]]})
    config = read_vllm(f"--data-parallel-size 2 --speculative-config {shlex.quote(text)}")
    assert config.draft_tokens(100) == 5
    assert any("data parallelism" in note for note in config.notes)


@pytest.mark.parametrize(("low", "high", "expected"), [(None, None, (5, 5)), (2, None, (2, 2)), (None, 4, (4, 4))])
def test_prompt_lookup_defaults(low: int | None, high: int | None, expected: tuple[int, int]) -> None:
    given_text = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": low, "prompt_lookup_max": high}
    assert read_vllm(given_text).prompt_lookup == expected


@given(st.integers(1, 12), st.floats(0, 1))
def test_a_synthetic_length_has_that_mean_and_round_trips(k: int, part: float) -> None:
    length = 1 + part * k
    given_text = {
        "method": "ngram",
        "num_speculative_tokens": k,
        "rejection_sample_method": "synthetic",
        "synthetic_acceptance_length": length,
    }
    config = read_vllm(given_text)
    assert config.acceptance_rates is not None
    assert 1 + sum(config.acceptance_rates) == pytest.approx(length)
    assert sum(0 < rate < 1 for rate in config.acceptance_rates) <= 1  # the least variance: one position varies
    assert read_vllm(write_vllm(config).text).acceptance_rates == config.acceptance_rates


def test_what_vllm_cannot_say_is_one_line() -> None:
    tree = EngineConfig(method="eagle", draft_model="m", tree=EagleTree(topk=4, num_steps=3, num_draft_tokens=8))
    never = EngineConfig(method="ngram", policy=FixedPolicy(k=0))
    automaton = EngineConfig(method="suffix_automaton", num_speculative_tokens=3)
    headless = EngineConfig(method="eagle3", num_speculative_tokens=3)
    left_open = EngineConfig(method="mtp")
    adaptive = EngineConfig(
        method="eagle", draft_model="m", policy=TieredPolicy(tiers=(Tier(first_batch=1, choices=(1, 3)),))
    )
    cases = (
        (tree, "topk 4"),
        (never, "drafts nothing"),
        (automaton, "no method 'suffix_automaton'"),
        (headless, "name one"),
        (left_open, "leaves the draft length"),
        (adaptive, "drafts of 1, 3"),
    )
    for config, rule in cases:
        with pytest.raises(NoAnswer, match=rule) as caught:
            write_vllm(config)
        assert "\n" not in str(caught.value)


def test_methods_without_a_known_drafter_have_no_answer() -> None:
    with pytest.raises(NoAnswer, match="custom_class"):
        read_vllm({"method": "custom_class", "model": "pkg.Mine", "num_speculative_tokens": 2})


def test_what_another_engine_kept_is_left_out_and_said() -> None:
    config = EngineConfig(
        engine="sglang", method="ngram", num_speculative_tokens=3, kept={"speculative_token_map": "f"}
    )
    written = write_vllm(config)
    assert "token_map" not in written.text
    assert written.notes == ("left out, sglang's own: speculative_token_map",)


def test_table_and_ranges_mean_the_same() -> None:
    policy = TablePolicy(ranges=((1, 4, 2), (9, 12, 2), (20, 20, 1)))
    config = EngineConfig(method="ngram", num_speculative_tokens=2, policy=policy)
    assert config.steps() == ((1, 2), (20, 1))


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 9),
    st.floats(),
    st.sampled_from(["", "ngram", "3"]),
    st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=3),
    st.dictionaries(st.just("a"), st.integers()),
)


@given(
    st.sampled_from(["ngram", "eagle3", "mtp", "suffix"]),
    st.dictionaries(
        st.sampled_from(
            ["num_speculative_tokens", SCHEDULE, "prompt_lookup_min", "prompt_lookup_max", "parallel_drafting",
             "model", "rejection_sample_method", "synthetic_acceptance_length", "synthetic_acceptance_rates", "other"]
        ),
        values,
    ),
)  # fmt: skip
def test_any_values_are_read_or_refused_in_one_line(method: str, fields: dict[str, Any]) -> None:
    config, message = None, ""
    try:
        config = read_vllm({"method": method, **fields})
    except InvalidInput as error:
        message = str(error)
    assert "\n" not in message
    assert config is None or config.num_speculative_tokens is None or config.num_speculative_tokens >= 1
