"""Draft heads are known by what they are, and drive a scenario with their own size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specsim.assembly import assemble
from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.draft_program import head_program
from specsim.interop.huggingface import model_from_config
from specsim.interop.huggingface.draft_head import read_draft_head, technique_of
from specsim.scenario import load_scenario
from specsim.specs.catalog import load_model
from specsim.speculation.program import load_program

WIDTHS: dict[str, Any] = {
    "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256, "max_position_embeddings": 2048,
}  # fmt: skip
EAGLE3 = WIDTHS | {
    "architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "num_hidden_layers": 1,
    "draft_vocab_size": 32000,
}  # fmt: skip
DFLASH = WIDTHS | {
    "architectures": ["DFlashDraftModel"], "model_type": "qwen3", "num_hidden_layers": 5, "block_size": 16,
    "dflash_config": {"target_layer_ids": [1, 9, 17, 25, 33]},
}  # fmt: skip
SPECULATORS = {
    "architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3", "draft_vocab_size": 32000,
    "eagle_aux_hidden_state_layer_ids": [2, 16, 29],
    "transformer_layer_config": WIDTHS | {"model_type": "llama", "num_hidden_layers": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "technique"),
    [
        (EAGLE3, "eagle3"),
        (EAGLE3 | {"architectures": ["LlamaForCausalLMEagle"], "draft_vocab_size": None}, "eagle"),
        (EAGLE3 | {"parallel_drafting": True}, "p-eagle"),
        (DFLASH, "dflash"),
        (SPECULATORS, "eagle3"),
        (SPECULATORS | {"speculators_model_type": "dspark", "architectures": ["DSparkSpeculator"]}, "dspark"),
        ({"architectures": ["DeepseekV3ForCausalLMNextN"], "model_type": "deepseek_v3"}, "mtp"),
        ({"model_type": "qwen3_next_mtp"}, "mtp"),
        ({"medusa_num_heads": 5, "medusa_num_layers": 1}, "medusa"),
        ({"architectures": ["MLPSpeculatorPreTrainedModel"], "model_type": "mlp_speculator"}, "mlp-speculator"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, None),
        ({"architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next"}, None),
    ],
)
def test_a_head_is_known_by_its_class_or_keys(content: dict[str, Any], technique: str | None) -> None:
    found = technique_of(content)
    assert (found and found[0]) == technique
    if technique is not None:
        with pytest.raises(InvalidInput, match=r"describes a draft head .* not a whole model; give it as speculation"):
            model_from_config(content)


def folder(path: Path, content: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def test_an_eagle3_head_has_the_size_of_its_own_matrices(tmp_path: Path) -> None:
    """One Llama-3.1-8B layer that reads two hidden sizes, a fusion of three, 32,000 logits; norms beside."""
    target = load_model("llama-3.1-8b")
    program = head_program(folder(tmp_path / "head", EAGLE3))
    layer = (32 + 16) * 128 * 2 * 4096 + 4096 * 4096 + 3 * 4096 * 14336
    matrices = 3 * 4096 * 4096 + layer + 32000 * 4096
    parts = program.own_parts(target, None)
    assert sum(part.active_parameters() for part in parts) == matrices
    assert sum(part.kv_bytes_per_token() for part in parts) == 2 * 8 * 128 * 2
    preset = load_program("eagle3").own_parts(target, None)
    assert sum(part.active_parameters() for part in preset) == matrices  # the preset's head for this target
    assert (program.name, program.max_position, program.lookahead) == (
        "eagle3",
        2048,
        load_program("eagle3").lookahead,
    )


def test_a_head_keeps_its_size_whatever_the_target(tmp_path: Path) -> None:
    """A head of 2,048 values for DeepSeek-V3, whose states are 7,168 wide, is no DeepSeek layer."""
    narrow = EAGLE3 | {"hidden_size": 2048, "num_attention_heads": 16, "target_hidden_size": 7168}
    parts = head_program(folder(tmp_path / "head", narrow)).own_parts(load_model("deepseek-v3"), None)
    layer = (16 + 16) * 128 * 2 * 2048 + 2048 * 2048 + 3 * 2048 * 14336
    assert sum(part.active_parameters() for part in parts) == 3 * 7168 * 2048 + layer + 32000 * 2048


def test_a_block_is_filled_in_one_pass(tmp_path: Path) -> None:
    head = read_draft_head(DFLASH)
    assert (head.layers, head.states, head.block, head.vocabulary) == (5, 5, 16, None)
    program = head_program(folder(tmp_path / "head", DFLASH))
    assert program.draft_tokens == 15
    assert [phase.pass_widths(program.proposal, 7) for phase in program.phases] == [(1,), (7,)]
    parts = program.own_parts(load_model("llama-3.1-8b"), None)
    attention = (32 + 16) * 128 * 4096 + 4096 * 4096
    assert sum(part.active_parameters() for part in parts) == 5 * 4096 * 4096 + 5 * (attention + 3 * 4096 * 14336)


def test_medusa_heads_are_counted(tmp_path: Path) -> None:
    program = head_program(folder(tmp_path / "head", {"medusa_num_heads": 3, "medusa_num_layers": 1}))
    target = load_model("vicuna-7b")
    parts = program.own_parts(target, None)
    assert sum(part.active_parameters() for part in parts) == 3 * (4096 * 4096 + 32000 * 4096)
    assert program.draft_tokens == 3


def test_the_speculators_format_tells_the_same_head(tmp_path: Path) -> None:
    target = load_model("llama-3.1-8b")
    sizes = [
        [part.parameter_count() for part in head_program(folder(tmp_path / name, content)).own_parts(target, None)]
        for name, content in (("own", EAGLE3), ("speculators", SPECULATORS))
    ]
    assert sizes[0] == sizes[1]


def test_a_head_is_the_drafter_of_a_scenario(tmp_path: Path) -> None:
    head = folder(tmp_path / "head", EAGLE3)
    settings = [
        "model=llama-3.1-8b", "gpu=h200", f"speculation={{program: {head}, max_draft_tokens: 3}}", "weights=null",
        "deployment={}", "cost={source: roofline}",
    ]  # fmt: skip
    scenario = load_scenario("quickstart", settings)
    assert scenario.speculation is not None
    assert scenario.speculation.program == head_program(head)


def test_whole_models_and_unknown_heads_are_refused(tmp_path: Path) -> None:
    whole = WIDTHS | {"model_type": "llama", "num_hidden_layers": 32, "architectures": ["LlamaForCausalLM"]}
    with pytest.raises(InvalidInput, match="describes no draft head; give it as model or draft_model"):
        head_program(folder(tmp_path / "whole", whole))
    speculator = WIDTHS | {"model_type": "mlp_speculator", "num_hidden_layers": 1}
    with pytest.raises(NoAnswer, match="there is no program for mlp-speculator heads"):
        head_program(folder(tmp_path / "head", speculator))


def test_sequences_beyond_a_heads_positions_are_warned_of(tmp_path: Path) -> None:
    head = folder(tmp_path / "head", EAGLE3)

    def asked(prompt: int) -> None:
        assemble(
            load_scenario(
                "quickstart",
                [
                    "model=llama-3.1-8b", "gpu=h200", f"speculation={{program: {head}, max_draft_tokens: 3}}",
                    "weights=null", "deployment={}", "cost={source: roofline}",
                    f"workload.lengths={{kind: fixed, prompt_tokens: {prompt}, output_tokens: 100}}",
                ],
            )
        )  # fmt: skip

    asked(1000)
    with pytest.warns(UserWarning, match="the drafter eagle3 was made for 2048 positions .* grow to 4100 tokens"):
        asked(4000)
