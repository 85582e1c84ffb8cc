"""Draft heads in the speculators format: the facts of their config.json, and how an engine runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig
from specsim.interop.speculators import engine_config, read_speculator
from specsim.interop.vllm import read_vllm, write_vllm


def head(kind: str = "eagle3", *, proposals: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": kind,
        "speculators_version": "0.3.0",
        "draft_vocab_size": 32000,
        "target_hidden_size": None,
        "eagle_aux_hidden_state_layer_ids": [2, 16, 29],
        "speculators_config": {
            "algorithm": kind,
            "default_proposal_method": "greedy",
            "proposal_methods": proposals or [{"proposal_type": "greedy", "speculative_tokens": 3}],
            "verifier": {"name_or_path": "org/target", "architectures": ["LlamaForCausalLM"]},
        },
        "transformer_layer_config": {
            "model_type": "llama",
            "num_hidden_layers": 1,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 128256,
            "rope_theta": 500000.0,
        },
        **more,
    }


def test_the_facts_of_a_head(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(head()), encoding="utf-8")
    for source in (tmp_path, tmp_path / "config.json", str(tmp_path), head()):
        found = read_speculator(source)
        assert (found.algorithm, found.version, found.speculative_tokens) == ("eagle3", "0.3.0", 3)
        assert (found.draft_vocab_size, found.layers.vocab_size, found.layers.num_hidden_layers) == (32000, 128256, 1)
        assert (found.verifier.name_or_path, found.verifier.architectures) == ("org/target", ("LlamaForCausalLM",))
        assert found.aux_layers == (2, 16, 29)
        assert found.target_hidden_size is None


@pytest.mark.parametrize(
    ("kind", "method"),
    [("eagle3", "eagle3"), ("peagle", "p_eagle"), ("dflash", "dflash"), ("dflash2", "dflash"), ("dspark", "dspark")],
)
def test_heads_as_vllm_runs_them(kind: str, method: str) -> None:
    config = engine_config(read_speculator(head(kind)), "org/head")
    expected = {"method": method, "draft_model": "org/head", "num_speculative_tokens": 3}
    assert config == EngineConfig.model_validate(expected)
    assert read_vllm(write_vllm(config).text).method == method


def test_a_dflash_head_names_its_layers_otherwise() -> None:
    config = {**head("dflash"), "aux_hidden_state_layer_ids": [1, 9], "block_size": 8}
    del config["eagle_aux_hidden_state_layer_ids"]
    found = read_speculator(config)
    assert (found.aux_layers, found.block_size) == ((1, 9), 8)


def test_the_first_proposal_method_counts_and_what_is_not_followed_is_said() -> None:
    proposals = [
        {"proposal_type": "sampled", "speculative_tokens": 5, "verifier_accept_k": 4, "accept_tolerance": 2.0},
        {"proposal_type": "greedy", "speculative_tokens": 3},
    ]
    config = engine_config(read_speculator(head("mtp", proposals=proposals)), "org/head")
    assert config.num_speculative_tokens == 5
    assert len(config.notes) == 3
    assert "default_proposal_method is greedy" in config.notes[0]
    assert "verifier_accept_k 4" in config.notes[1]
    assert "loads no mtp head" in config.notes[2]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"speculators_config": None}, "speculators_config is missing"),
        ({"transformer_layer_config": None}, "transformer_layer_config is missing"),
        ({"draft_vocab_size": "many"}, "draft_vocab_size is 'many'"),
        ({"speculators_config": {"proposal_methods": []}}, "proposal_methods is"),
        ({"speculators_config": {"proposal_methods": [{}]}}, "speculative_tokens is missing"),
        ({"transformer_layer_config": {"num_hidden_layers": 0}}, "num_hidden_layers is 0"),
    ],
)
def test_malformed_heads_are_one_line_that_names_the_field(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        read_speculator({**head(), **change})
    assert "\n" not in str(caught.value)


def test_files_that_are_no_head(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        read_speculator(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"config\.json is not JSON"):
        read_speculator(tmp_path)
    with pytest.raises(InvalidInput, match="has no speculators_model_type"):
        read_speculator({"model_type": "llama"})


def test_an_unknown_algorithm_has_no_answer() -> None:
    with pytest.raises(NoAnswer, match="'hydra' is none of eagle, eagle3"):
        engine_config(read_speculator(head("hydra")), "org/head")
