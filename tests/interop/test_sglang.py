"""SGLang's flags and adaptive JSON: its look-up recomputed from what was written, shapes of drafts, and refusals."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EagleTree, EngineConfig, speculation_fields, steps_policy
from specsim.interop.sglang import read_sglang, write_sglang
from specsim.interop.sglang_adaptive import FILE, slot_starts
from specsim.scenario import Speculation
from specsim.speculation.policy import FixedPolicy, Tier, TieredPolicy

HEAD = "--speculative-algorithm EAGLE3 --speculative-draft-model-path org/head --max-running-requests 64"
ADAPTIVE = f"{HEAD} --speculative-adaptive --speculative-adaptive-config a.json"


def engine_candidates(slots: dict[str, Any], graphs: list[int], batch: int) -> list[int]:
    """What the engine chooses from: pad to the next captured graph, then the last key not above, else the lowest."""
    padded = min((size for size in graphs if size >= batch), default=batch)
    keys = sorted(int(key) for key in slots)
    key = max((key for key in keys if key <= padded), default=keys[0])
    candidates: list[int] = slots[str(key)]["candidate_steps"]
    return candidates


batches = st.sets(st.integers(1, 150), min_size=1, max_size=6)


@given(batches, st.data(), st.sets(st.integers(1, 160), max_size=8))
def test_slots_mean_what_the_engine_does_with_them_at_every_batch(
    keys: set[int], data: st.DataObject, graphs: set[int]
) -> None:
    slots = {str(key): {"candidate_steps": [data.draw(st.integers(0, 7))]} for key in keys}
    captured = f" --cuda-graph-bs-decode {' '.join(map(str, sorted(graphs)))}" if graphs else ""
    config = read_sglang(ADAPTIVE + captured, adaptive=slots)
    for batch in range(1, 200):
        assert [config.draft_tokens(batch)] == engine_candidates(slots, sorted(graphs), batch)


@given(st.dictionaries(st.integers(2, 150), st.integers(0, 7), max_size=6), st.integers(0, 7), st.booleans())
def test_a_schedule_survives_the_way_out_and_in(changes: dict[int, int], first: int, captured: bool) -> None:
    steps = [(1, first)]
    for batch, k in sorted(changes.items()):
        if k != steps[-1][1]:
            steps.append((batch, k))
    assume(any(k for _, k in steps))
    graphs = sorted({batch - 1 for batch, _ in steps[1:]} | {160}) if captured else None
    config = EngineConfig(method="eagle", draft_model="m", policy=steps_policy(tuple(steps)), graph_batch_sizes=graphs)
    written = write_sglang(config)
    files = {name: json.loads(content) for name, content in written.files.items()}
    again = read_sglang(written.text, adaptive=files.get(FILE))
    for batch in range(1, 200):
        expected = [k for start, k in steps if start <= batch][-1]
        assert again.draft_tokens(batch) == expected
        if files:
            assert engine_candidates(files[FILE], graphs or [], batch) == [expected]
    assert any("captured" in note for note in written.notes) == (len(steps) > 1 and not captured)


def test_the_flags_of_a_schedule_are_those_that_sglang_checks() -> None:
    config = EngineConfig(method="mtp", policy=steps_policy(((1, 3), (33, 1), (65, 0))), limits={"max_num_seqs": 128})
    written = write_sglang(config)
    words = shlex.split(written.text)
    assert words[words.index("--speculative-num-steps") + 1] == "3"  # one of the candidates
    assert words[words.index("--speculative-num-draft-tokens") + 1] == "4"  # steps and the root
    assert words[words.index("--speculative-eagle-topk") + 1] == "1"
    assert {"--speculative-adaptive", "--max-running-requests"} < set(words)
    assert words[words.index("--speculative-adaptive-config") + 1] == FILE
    slots = {"1": {"candidate_steps": [3]}, "33": {"candidate_steps": [1]}, "65": {"candidate_steps": [0]}}
    assert json.loads(written.files[FILE]) == slots
    assert written.notes == ("exact only with CUDA graphs captured for batch size 32, 64 (--cuda-graph-bs-decode)",)


def test_padding_to_a_graph_moves_a_change() -> None:
    assert slot_starts([20, 40, 1, 16], [1, 2, 4, 8, 16, 32]) == [17, 40, 1, 9]
    assert slot_starts([20, 40], []) == [20, 40]
    policy = steps_policy(((1, 3), (20, 1)))
    config = EngineConfig(method="eagle", draft_model="m", policy=policy, graph_batch_sizes=(8, 16, 32))
    with pytest.raises(NoAnswer, match="cannot change k at batch 20; add 19"):
        write_sglang(config)


def test_slots_with_several_candidates_are_a_policy() -> None:
    """A slot's own knob counts before the one of all slots; what is not modelled is kept."""
    content = {
        "ema_alpha": 0.3,
        "down_hysteresis": -0.5,
        "ceiling_coeff": 2,
        "1": {"candidate_steps": [7, 1, 3]},
        "16": {"candidate_steps": [0, 1], "down_hysteresis": 0.0},
    }
    config = read_sglang(f"{ADAPTIVE} --speculative-num-steps 3", adaptive=content)
    assert config.policy == TieredPolicy(
        tiers=(
            Tier(first_batch=1, choices=(1, 3, 7), ema=0.3, fall=-0.5),
            Tier(first_batch=16, choices=(0, 1), ema=0.3, fall=0.0),
        ),
        initial=3,
    )
    assert config.num_speculative_tokens == 7
    with pytest.raises(NoAnswer, match="from batch 1 on acceptance chooses among drafts of 1, 3, 7"):
        config.draft_tokens(4)
    written = write_sglang(config)
    again = read_sglang(written.text, adaptive=json.loads(written.files[FILE]))
    assert again.policy == config.policy
    assert again.kept == {"speculative_adaptive_config": {"ceiling_coeff": 2}}


def test_an_adaptive_config_becomes_a_scenario_s_policy() -> None:
    config = read_sglang(f"{HEAD} --speculative-adaptive")
    fields = speculation_fields(config)
    read = Speculation.model_validate(fields | {"acceptance": {"kind": "constant", "rate": 0.7}})
    assert read.policy == config.policy
    assert read.max_draft_tokens == 7


def test_the_adaptive_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "adaptive.json"
    file.write_text('{"1": {"candidate_steps": [3]}, "8": {"candidate_steps": [0]}}', encoding="utf-8")
    config = read_sglang(f"{HEAD} --speculative-adaptive --speculative-adaptive-config {file}")
    assert config.steps() == ((1, 3), (8, 0))
    with pytest.raises(InvalidInput, match="there is no file"):
        read_sglang(ADAPTIVE)
    file.write_text("[1]", encoding="utf-8")
    with pytest.raises(InvalidInput, match="holds a list"):
        read_sglang(f"{HEAD} --speculative-adaptive --speculative-adaptive-config {file}")


def test_without_a_file_sglangs_own_slots_count() -> None:
    config = read_sglang(f"{HEAD} --speculative-adaptive")
    assert isinstance(config.policy, TieredPolicy)
    assert [tier.first_batch for tier in config.policy.tiers] == [1, 8, 32, 64]
    assert any("015c872" in note for note in config.notes)


@pytest.mark.parametrize(
    ("flags", "method", "k"),
    [
        ("EAGLE --speculative-draft-model-path h --speculative-num-steps 3 --speculative-eagle-topk 1", "eagle", 3),
        ("eagle3 --speculative-draft-model h --speculative-num-steps=5 --speculative-eagle-topk=1", "eagle3", 5),
        ("NEXTN --speculative-num-steps 1 --speculative-eagle-topk 1 --speculative-num-draft-tokens 2", "mtp", 1),
        ("EAGLE --speculative-num-steps 2 --speculative-eagle-topk 1", "mtp", 2),
        ("STANDALONE --speculative-draft-model-path small", "draft_model", 3),
        ("NGRAM --speculative-num-draft-tokens 6 --speculative-ngram-max-bfs-breadth 1", "ngram", 5),
        ("DFLASH --speculative-draft-model-path h --speculative-num-draft-tokens 8", "dflash", 7),
        ("DFLASH --speculative-draft-model-path h --speculative-dflash-block-size 16", "dflash", 15),
        ("DSPARK --speculative-draft-model-path h --speculative-dspark-block-size 7", "dspark", 7),
    ],
)
def test_algorithms_and_what_they_draft(flags: str, method: str, k: int) -> None:
    config = read_sglang(f"--speculative-algorithm {flags}")
    assert (config.method, config.draft_tokens(1), config.tree) == (method, k, None)
    again = read_sglang(write_sglang(config).text)
    assert (again.method, again.draft_tokens(1), again.draft_model) == (method, k, config.draft_model)


def test_a_tree_keeps_its_shape() -> None:
    shape = "--speculative-num-steps 5 --speculative-eagle-topk 4 --speculative-num-draft-tokens 8"
    config = read_sglang(f"{HEAD} {shape}")
    assert config.tree == EagleTree(topk=4, num_steps=5, num_draft_tokens=8)
    assert config.num_speculative_tokens == 7  # the root is no draft
    assert read_sglang(write_sglang(config).text).tree == config.tree
    ngram = read_sglang("--speculative-algorithm NGRAM")
    assert ngram.tree == EagleTree(topk=10, num_steps=1, num_draft_tokens=12)
    assert read_sglang(write_sglang(ngram).text).tree == ngram.tree


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ("--model-path m", "no --speculative-algorithm"),
        ("--speculative-algorithm EAGEL", "unknown --speculative-algorithm 'EAGEL'; known: DFLASH"),
        (f"{HEAD} --speculative-num-steps three", "--speculative-num-steps is 'three'"),
        (f"{HEAD} --speculative-num-steps 3 4", "has 2 values"),
        (f"{HEAD} --speculative-num-steps 3", "needs --speculative-eagle-topk"),
        (f"{HEAD} --speculative-eagle-topk 1", "without --speculative-num-steps"),
        (f"{HEAD} --speculative-num-steps 3 --speculative-eagle-topk 4", "needs --speculative-num-draft-tokens"),
        (f"{HEAD} --speculative-num-steps 0 --speculative-eagle-topk 1", "num_speculative_tokens is 0"),
        (f"{HEAD} --cuda-graph-bs 1 two --speculative-adaptive", "should be whole numbers"),
        (
            "--speculative-algorithm DSPARK --speculative-dspark-block-size 7 --speculative-num-draft-tokens 7",
            "block needs 8",
        ),
        ("--speculative-algorithm DFLASH --speculative-num-draft-tokens 1", "at least 2"),
    ],
)
def test_malformed_flags_are_one_line_that_names_the_rule(flags: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_sglang(flags)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({}, "has no batch size"),
        ({"strategy": "ema"}, "has no batch size"),
        ({"1": {"candidate_steps": []}}, "batch size 1: candidate_steps is"),
        ({"1": {}}, "candidate_steps is None"),
        ({"1": {"candidate_steps": [1, -1]}}, r"is \[1, -1\]"),
        ({"1": {"candidate_steps": 3}}, "is 3"),
        ({"1": {"candidate_steps": [3], "ema_alpha": 2}}, "batch size 1: ema"),
    ],
)
def test_malformed_adaptive_files(content: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_sglang(ADAPTIVE, adaptive=content)
    assert "\n" not in str(caught.value)


def test_steps_must_be_a_candidate() -> None:
    with pytest.raises(InvalidInput, match=r"--speculative-num-steps is 2 and the candidates of a.json are \[1, 3\]"):
        read_sglang(f"{ADAPTIVE} --speculative-num-steps 2", adaptive={"1": {"candidate_steps": [1, 3]}})


def test_adaptive_falls_back_to_static_as_sglang_does() -> None:
    shape = "--speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 8"
    config = read_sglang(f"{ADAPTIVE} {shape}", adaptive={"1": {"candidate_steps": [1]}})
    assert config.policy is None
    assert config.tree is not None
    assert any("static settings count" in note for note in config.notes)


def test_notes_say_what_sglang_does_on_its_own() -> None:
    chain = "--speculative-algorithm EAGLE3 --speculative-draft-model-path h --speculative-num-steps 3"
    config = read_sglang(f"{chain} --speculative-eagle-topk 1 --speculative-num-draft-tokens 6")
    assert config.num_speculative_tokens == 3
    assert any("sets --speculative-num-draft-tokens to 4" in note for note in config.notes)
    assert config.limits["max_num_seqs"] == 48
    assert any("caps speculation at 48" in note for note in config.notes)


def test_limits_and_unknown_flags_round_trip() -> None:
    line = (
        f"python3 -u -m sglang.launch_server --model-path m {HEAD} --speculative-num-steps 3 "
        "--speculative-eagle-topk 1 --page-size 64 --max-total-tokens 6400 --chunked-prefill-size -1 "
        "--speculative-token-map map.pt "
        "--speculative-use-rejection-sampling --speculative-frobnicate 1 2 --disable-cuda-graph"
    )
    config = read_sglang(line)
    limits = {"max_num_seqs": 64, "block_size": 64, "num_kv_blocks": 100, "chunked_prefill": False, "graph_sizes": ()}
    assert config.limits == limits
    assert config.kept == {
        "speculative_token_map": "map.pt",
        "speculative_use_rejection_sampling": True,
        "speculative_frobnicate": ["1", "2"],
    }
    assert any(note.startswith("kept, and unknown to SGLang: speculative_frobnicate") for note in config.notes)
    again = read_sglang(write_sglang(config).text)
    assert (again.limits, again.kept) == (config.limits, config.kept)


def test_imposed_acceptance_is_an_environment_variable() -> None:
    line = f"SGLANG_SIMULATE_ACC_LEN=2.5 python -m sglang.launch_server {HEAD} --speculative-num-steps 3 "
    config = read_sglang(line + "--speculative-eagle-topk 1")
    assert config.acceptance_rates == (1.0, 0.5, 0.0)
    written = write_sglang(config)
    assert written.text.startswith("SGLANG_SIMULATE_ACC_LEN=2.5 ")
    assert read_sglang(written.text).acceptance_rates == config.acceptance_rates
    uneven = EngineConfig(
        method="eagle",
        draft_model="h",
        num_speculative_tokens=2,
        acceptance_rates=(0.7, 0.4),
        limits={"max_num_seqs": 8},
    )
    assert write_sglang(uneven).notes == (
        "SGLang imposes the mean acceptance length only; the spread over positions is lost",
    )


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (EngineConfig(method="medusa", draft_model="h", num_speculative_tokens=3), "no method 'medusa'"),
        (EngineConfig(method="ngram", policy=steps_policy(((1, 3), (8, 0)))), "choose one length for ngram"),
        (EngineConfig(method="eagle", draft_model="h", policy=FixedPolicy(k=0)), "drafts nothing"),
    ],
)
def test_what_sglang_cannot_say_is_one_line(config: EngineConfig, rule: str) -> None:
    with pytest.raises(NoAnswer, match=rule) as caught:
        write_sglang(config)
    assert "\n" not in str(caught.value)


NUMBERED = ("num-steps", "eagle-topk", "num-draft-tokens", "dspark-block-size", "ngram-max-bfs-breadth")


@given(
    st.sampled_from(["EAGLE", "EAGLE3", "NEXTN", "STANDALONE", "NGRAM", "DFLASH", "DSPARK"]),
    st.dictionaries(st.sampled_from(NUMBERED), st.integers(-1, 9)),
)
def test_any_numbers_are_read_or_refused_in_one_line(algorithm: str, numbers: dict[str, int]) -> None:
    words = ["--speculative-algorithm", algorithm]
    words += [f"--speculative-{name}={value}" for name, value in numbers.items()]
    config, message = None, ""
    try:
        config = read_sglang(words)
    except InvalidInput as error:
        message = str(error)
    assert "\n" not in message
    assert config is None or config.num_speculative_tokens is None or config.num_speculative_tokens >= 1
