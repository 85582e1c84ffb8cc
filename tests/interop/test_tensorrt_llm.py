"""TensorRT-LLM's YAML: both meanings of a schedule's keys recomputed from the text, its rules, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EagleTree, EngineConfig, steps_policy
from specsim.interop.tensorrt_llm import read_tensorrt_llm, write_tensorrt_llm
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy

Keys = Literal["last", "first"]
EAGLE3 = {"decoding_type": "Eagle3", "max_draft_len": 4, "speculative_model": "org/head"}


def engine_k(config: dict[str, Any], keys: Keys, batch: int) -> int:
    """What the engine drafts. 1.3: the smallest key not below the batch, else nothing; 1.2: the largest not above."""
    schedule = config.get("draft_len_schedule")
    if schedule is None:
        return config["max_draft_len"] if batch <= config.get("max_concurrency", batch) else 0
    near = [key for key in schedule if (key >= batch if keys == "last" else key <= batch)]
    if not near:
        return 0
    return int(schedule[min(near) if keys == "last" else max(near)])


def read_text(text: str, keys: Keys = "last") -> EngineConfig:
    return read_tensorrt_llm(yaml.safe_load(text), keys)


@given(
    st.dictionaries(st.integers(1, 150), st.integers(0, 4), min_size=1, max_size=6), st.sampled_from(["last", "first"])
)
def test_a_schedule_means_what_the_engine_does_with_it(schedule: dict[int, int], keys: Keys) -> None:
    smallest = 1 if keys == "first" else min(schedule)
    given_config = {**EAGLE3, "draft_len_schedule": {**schedule, smallest: 4}}
    config = read_tensorrt_llm(given_config, keys)
    written = write_tensorrt_llm(config.model_copy(update={"limits": {"max_num_seqs": 200}}), keys)
    text = yaml.safe_load(written.text)
    for batch in range(1, 200):
        expected = engine_k(given_config, keys, batch)
        assert config.draft_tokens(batch) == expected
        assert engine_k(text["speculative_config"], keys, batch) == expected
        assert read_tensorrt_llm(text, keys).draft_tokens(batch) == expected


@given(
    st.dictionaries(st.integers(2, 150), st.integers(0, 6), max_size=6),
    st.integers(1, 6),
    st.sampled_from(["last", "first"]),
)
def test_any_policy_is_written_exactly_or_refused(changes: dict[int, int], first: int, keys: Keys) -> None:
    steps = [(1, first)]
    for batch, k in sorted(changes.items()):
        if k != steps[-1][1]:
            steps.append((batch, k))
    config = EngineConfig(method="mtp", policy=steps_policy(tuple(steps)), limits={"max_num_seqs": 200})
    if max(k for _, k in steps) > first:
        with pytest.raises(NoAnswer, match=f"the schedule drafts {first} at batch 1"):
            write_tensorrt_llm(config, keys)
        return
    text = yaml.safe_load(write_tensorrt_llm(config, keys).text)
    for batch in range(1, 201):
        assert engine_k(text["speculative_config"], keys, batch) == config.draft_tokens(batch)


def test_the_documented_schedule_ends_speculation_above_its_last_key() -> None:
    config = read_tensorrt_llm({**EAGLE3, "draft_len_schedule": {32: 1, 4: 4, 8: 2}})
    assert [config.draft_tokens(b) for b in (1, 4, 5, 8, 9, 32, 33, 999)] == [4, 4, 2, 2, 1, 1, 0, 0]


def test_the_same_text_is_another_schedule_up_to_release_1_2() -> None:
    schedule = {**EAGLE3, "draft_len_schedule": {1: 4, 4: 2, 8: 0}}
    now, before = read_tensorrt_llm(schedule), read_tensorrt_llm(schedule, "first")
    assert [now.draft_tokens(b) for b in (1, 2, 4, 5, 9)] == [4, 2, 2, 0, 0]
    assert [before.draft_tokens(b) for b in (1, 2, 4, 5, 9)] == [4, 4, 2, 2, 0]
    assert any("up to 1.2" in note for note in now.notes)
    assert before.notes == ()


def test_one_range_and_then_nothing_is_max_concurrency() -> None:
    config = EngineConfig(method="ngram", num_speculative_tokens=3, policy=OffAbovePolicy(k=3, max_batch=16))
    text = yaml.safe_load(write_tensorrt_llm(config).text)
    assert text == {"speculative_config": {"decoding_type": "NGram", "max_draft_len": 3, "max_concurrency": 16}}
    assert read_tensorrt_llm(text).policy == config.policy


def test_a_tail_that_drafts_reaches_the_largest_batch() -> None:
    policy = steps_policy(((1, 3), (9, 1)))
    known = EngineConfig(method="mtp", policy=policy, limits={"max_num_seqs": 64})
    text = yaml.safe_load(write_tensorrt_llm(known).text)
    assert text["speculative_config"]["draft_len_schedule"] == {8: 3, 64: 1}
    assert text["max_batch_size"] == 64
    unknown = write_tensorrt_llm(EngineConfig(method="mtp", policy=policy))
    assert yaml.safe_load(unknown.text)["speculative_config"]["draft_len_schedule"] == {8: 3, 2048: 1}
    assert any("TensorRT-LLM 1.3" in note for note in unknown.notes)
    assert unknown.notes[-1] == "nothing is drafted above batch 2048, TensorRT-LLM's own max_batch_size"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"draft_len_schedule": {}}, "draft_len_schedule is empty"),
        ({"draft_len_schedule": {4: 4, 8: 5}}, "8: 5 is above max_draft_len 4"),
        ({"draft_len_schedule": {4: 3, 8: 2}}, "smallest key, 4, must draft max_draft_len 4"),
        ({"draft_len_schedule": {0: 4}}, "draft_len_schedule"),
        ({"draft_len_schedule": {4: -1}}, r"draft_len_schedule.4 is -1|draft_len_schedule\[4\] is -1"),
        ({"draft_len_schedule": [[1, 4]]}, "draft_len_schedule is"),
        ({"draft_len_schedule": {4: 4}, "max_concurrency": 8}, "exclude each other"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"max_draft_len": 0}, "max_draft_len is 0"),
        ({"max_draft_len": None}, "max_draft_len is None"),
        ({"max_draft_len": "four"}, "max_draft_len is 'four'"),
        ({"speculative_model": None}, "needs speculative_model"),
        ({"decoding_type": "Eagel3"}, "did you mean"),
        ({"use_dynamic_tree": True}, "dynamic_tree_max_topK"),
        ({"use_dynamic_tree": True, "dynamic_tree_max_topK": 2, "max_total_draft_tokens": 9}, "from max_draft_len 4"),
    ],
)
def test_malformed_input_is_one_line_that_names_the_rule(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_tensorrt_llm({**EAGLE3, **change})
    assert "\n" not in str(caught.value)
    assert "speculative_config" in str(caught.value)


def test_first_batch_keys_must_hold_batch_one() -> None:
    with pytest.raises(InvalidInput, match=r"starts at batch 4; up to TensorRT-LLM 1\.2 it must have key 1"):
        read_tensorrt_llm({**EAGLE3, "draft_len_schedule": {4: 4}}, "first")


def test_a_file_its_limits_and_its_faults(tmp_path: Path) -> None:
    file = tmp_path / "extra.yaml"
    file.write_text(
        "max_batch_size: 64\nmax_num_tokens: 4096\nenable_chunked_prefill: true\nprint_iter_log: false\n"
        "kv_cache_config: {tokens_per_block: 32, max_tokens: 3200, free_gpu_memory_fraction: 0.8}\n"
        "cuda_graph_config: {batch_sizes: [1, 2, 4], enable_padding: true}\n"
        "speculative_config:\n  decoding_type: DraftTarget\n  max_draft_len: 3\n"
        "  speculative_model_dir: /models/small\n",
        encoding="utf-8",
    )
    config = read_tensorrt_llm(file)
    assert (config.method, config.draft_model, config.draft_tokens(7)) == ("draft_model", "/models/small", 3)
    assert config.limits == {
        "max_num_seqs": 64,
        "max_num_batched_tokens": 4096,
        "block_size": 32,
        "num_kv_blocks": 100,
        "chunked_prefill": True,
    }
    assert config.graph_batch_sizes == (1, 2, 4)
    assert any("free_gpu_memory_fraction" in note for note in config.notes)
    again = read_text(write_tensorrt_llm(config).text)
    assert (again.limits, again.graph_batch_sizes) == (config.limits, config.graph_batch_sizes)
    file.write_text("max_batch_size: 64\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"extra.yaml: speculative_config is not there"):
        read_tensorrt_llm(file)
    file.write_text("max_batch_size: many\nspeculative_config: {decoding_type: NGram, max_draft_len: 2}\n")
    with pytest.raises(InvalidInput, match=r"extra.yaml: the YAML: max_batch_size is 'many'"):
        read_tensorrt_llm(file)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("MTP", "mtp"), ("Eagle3", "eagle3"), ("Eagle", "eagle3"), ("NGram", "ngram"), ("Draft_Target", "draft_model"),
        ("DraftTarget", "draft_model"), ("PARD", "pard"), ("DFlash", "dflash"), ("DSpark", "dspark"),
        ("SA", "suffix_automaton"),
    ],
)  # fmt: skip
def test_decoding_types(name: str, method: str) -> None:
    config = read_tensorrt_llm({"decoding_type": name, "max_draft_len": 3, "speculative_model": "m"})
    assert config.method == method
    assert read_text(write_tensorrt_llm(config).text).method == method


def test_what_the_checkpoint_decides_stays_open_and_old_names_are_said() -> None:
    config = read_tensorrt_llm({"decoding_type": "MTP"})
    assert config.num_speculative_tokens is None
    old = read_tensorrt_llm({"decoding_type": "MTP", "num_nextn_predict_layers": 2})
    assert old.num_speculative_tokens == 2
    assert old.notes == ("num_nextn_predict_layers is now max_draft_len",)


def test_a_dynamic_tree_keeps_its_shape() -> None:
    tree = {**EAGLE3, "use_dynamic_tree": True, "dynamic_tree_max_topK": 3}
    config = read_tensorrt_llm(tree)
    assert config.tree == EagleTree(topk=3, num_steps=4, num_draft_tokens=13)  # 12 drafts by default, and the root
    smaller = read_tensorrt_llm({**tree, "max_total_draft_tokens": 8})
    assert smaller.num_speculative_tokens == 8
    assert read_text(write_tensorrt_llm(smaller).text).tree == smaller.tree


def test_a_tree_keeps_its_switch_off_point_as_a_key() -> None:
    tree = {**EAGLE3, "use_dynamic_tree": True, "dynamic_tree_max_topK": 3, "max_concurrency": 8}
    config = read_tensorrt_llm(tree)
    assert (config.policy, config.kept) == (None, {"max_concurrency": 8})
    assert config.notes == ("kept, and not modelled: max_concurrency",)
    assert yaml.safe_load(write_tensorrt_llm(config).text)["speculative_config"]["max_concurrency"] == 8
    with pytest.raises(NoAnswer, match="choose one or set topk 1"):
        write_tensorrt_llm(config.model_copy(update={"policy": steps_policy(((1, 12), (8, 0)))}))


def test_unknown_keys_are_kept_said_and_written_back() -> None:
    given_config = {**EAGLE3, "eagle3_layers_to_capture": [1, 2], "max_drft_len": 3}
    config = read_tensorrt_llm(given_config)
    assert config.notes[0] == "kept, and not modelled: eagle3_layers_to_capture"
    assert "max_drft_len" in config.notes[1]
    written = yaml.safe_load(write_tensorrt_llm(config).text)["speculative_config"]
    assert written == given_config


def test_prompt_lookup_starts_at_one_token() -> None:
    assert read_tensorrt_llm({"decoding_type": "NGram", "max_draft_len": 3}).prompt_lookup == (1, 2)
    config = EngineConfig(method="ngram", num_speculative_tokens=3, prompt_lookup=(2, 4))
    written = write_tensorrt_llm(config)
    assert yaml.safe_load(written.text)["speculative_config"]["max_matching_ngram_size"] == 4
    assert written.notes == ("TensorRT-LLM looks up from 1 token on; the minimum 2 is left out",)


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (EngineConfig(method="p_eagle", draft_model="h", num_speculative_tokens=3), "no method 'p_eagle'"),
        (EngineConfig(method="eagle3", num_speculative_tokens=3), "name one as draft_model"),
        (EngineConfig(method="mtp", policy=FixedPolicy(k=0)), "drafts nothing"),
    ],
)
def test_what_tensorrt_llm_cannot_say_is_one_line(config: EngineConfig, rule: str) -> None:
    with pytest.raises(NoAnswer, match=rule) as caught:
        write_tensorrt_llm(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["AUTO", "Lookahead", "SaveState", "User_Provided"])
def test_decoding_types_without_a_known_drafter_have_no_answer(name: str) -> None:
    with pytest.raises(NoAnswer, match="no drafter that specsim could know"):
        read_tensorrt_llm({"decoding_type": name, "max_draft_len": 3})
