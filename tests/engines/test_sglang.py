"""SGLang's answers and flags as it writes them, from short samples of its formats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from specsim.engines import Checkpoints, SGLang
from specsim.engines.client import _events
from specsim.errors import NoAnswer
from specsim.results import AcceptanceCounts, pooled
from specsim.scenario import Scenario, load_scenario

# A stream of ``/generate``: events hold the whole answer so far, the last one why it ended and what it took.
STREAM = """\
data: {"output_ids": [311], "meta_info": {"id": "a", "finish_reason": null, "prompt_tokens": 20, \
"completion_tokens": 1}}

data: {"output_ids": [311, 7, 9], "meta_info": {"id": "a", "finish_reason": null, "prompt_tokens": 20, \
"completion_tokens": 3}}

data: {"output_ids": [311, 7, 9, 9, 2, 5, 8], "meta_info": {"id": "a", \
"finish_reason": {"type": "length", "length": 7}, "prompt_tokens": 20, "completion_tokens": 7, "cached_tokens": 0, \
"e2e_latency": 0.41, "spec_accept_rate": 0.333, \
"spec_accept_length": 2.0, "spec_accept_token_num": 3, "spec_draft_token_num": 9, "spec_verify_ct": 3, \
"spec_accept_histogram": [1, 1, 1]}}

data: [DONE]

"""


def events(text: str) -> list[dict[str, Any]]:
    async def lines() -> AsyncIterator[bytes]:
        for line in text.splitlines(keepends=True):
            yield line.encode()

    async def read() -> list[Any]:
        return [event async for event in _events(lines())]

    return asyncio.run(read())


def test_tokens_and_rounds_of_a_streamed_answer() -> None:
    engine, tokens = SGLang(), [0]
    found = events(STREAM)
    for event in found:
        tokens.append(engine.tokens(event, tokens[-1]))
    assert tokens == [0, 1, 3, 7]
    counts = engine.answered(found[-1])
    assert counts.rounds == {3: {0: 1, 1: 1, 2: 1}}
    assert counts.acceptance_length() == 2.0  # as SGLang says itself
    assert counts.acceptance_rate() == pytest.approx(0.333, abs=1e-3)
    assert engine.answered(found[0]).rounds == {}


def test_newer_names_of_the_same_counts() -> None:
    told = {"spec_correct_drafts_histogram": [2, 0, 4], "spec_num_proposed_drafts": 12, "spec_verify_ct": 6}
    assert SGLang().answered({"meta_info": told}).rounds == {2: {0: 2, 2: 4}}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"spec_accept_histogram": [3, 1]},  # nobody says how many were drafted
        {"spec_accept_histogram": [3, 1], "spec_draft_token_num": 7},  # not the same in every round
        {"spec_accept_histogram": [1, 0, 0, 1], "spec_draft_token_num": 4},  # more accepted than a mean round drafted
    ],
)
def test_rounds_that_drafted_nobody_knows_how_many_are_not_counted(told: dict[str, Any]) -> None:
    assert SGLang().answered({"meta_info": told}).rounds == {}


def test_answers_add_up() -> None:
    engine, last = SGLang(), events(STREAM)[-1]
    assert pooled([AcceptanceCounts(), engine.answered(last), engine.answered(last)]).drafting_rounds() == 6


def ask(tmp_path: Path, *settings: str) -> tuple[Scenario, Checkpoints]:
    shape = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 128,
        "vocab_size": 256,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
    }
    for name in ("target", "draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(shape))
    (tmp_path / "question.yaml").write_text(
        f"""
schema: 1
name: stand-in
model: {tmp_path}/target
gpu: h100-sxm
engine: {{kind: sglang}}
speculation: {{program: draft-model, draft_model: {tmp_path}/draft, max_draft_tokens: 3,
  acceptance: {{kind: constant, rate: 0.5}}}}
workload: {{kind: synthetic, requests: 4, arrivals: {{kind: closed_loop, concurrency: 2}},
  lengths: {{kind: fixed, prompt_tokens: 20, output_tokens: 10}}}}
"""
    )
    scenario = load_scenario(str(tmp_path / "question.yaml"), settings)
    return scenario, Checkpoints(tmp_path / "target", tmp_path / "draft")


def test_a_batch_size_schedule_is_refused_in_one_line(tmp_path: Path) -> None:
    scenario, folders = ask(tmp_path, "speculation.policy={kind: table, ranges: [[1, 4, 3], [5, 8, 1]]}")
    with pytest.raises(NoAnswer, match=r"only for chains of EAGLE.*; choose one length"):
        SGLang().launch(scenario, folders, 1)


def test_a_request_asks_for_exactly_so_many_tokens(tmp_path: Path) -> None:
    body = SGLang().body([5, 6, 7], 9)
    assert body["input_ids"] == [5, 6, 7]
    assert body["sampling_params"] == {"max_new_tokens": 9, "ignore_eos": True, "temperature": 0}
    assert body["stream"] is True
    scenario, folders = ask(tmp_path)
    words = SGLang().launch(scenario.without_speculation(), folders, 30_000).arguments
    assert words[words.index("--context-length") + 1] == "31"
    assert "--speculative-algorithm" not in words
