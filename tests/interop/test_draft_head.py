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
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 2048,
}
EAGLE3 = WIDTHS | {
    "architectures": ["LlamaForCausalLMEagle3"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "draft_vocab_size": 32000,
}
DFLASH = WIDTHS | {
    "architectures": ["DFlashDraftModel"],
    "model_type": "qwen3",
    "num_hidden_layers": 5,
    "block_size": 16,
    "dflash_config": {"target_layer_ids": [1, 9, 17, 25, 33]},
}
SPECULATORS = {
    "architectures": ["Eagle3Speculator"],
    "speculators_model_type": "eagle3",
    "draft_vocab_size": 32000,
    "eagle_aux_hidden_state_layer_ids": [2, 16, 29],
    "transformer_layer_config": WIDTHS | {"model_type": "llama", "num_hidden_layers": 1},
}


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


def test_a_block_of_dspark_is_drafts_alone(tmp_path: Path) -> None:
    """Seven positions draft seven tokens, and its Markov head has the rank that a framework writes inside."""
    program = head_program(folder(tmp_path / "head", PUBLISHED["glm-5.2-dspark"][0]))
    assert program.draft_tokens == 7
    sizes = [weight.hidden_size for weight in program.phases[2].weights if weight.kind == "sized_head"]
    assert sizes == [256]


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
        "model=llama-3.1-8b",
        "gpu=h200",
        f"speculation={{program: {head}, max_draft_tokens: 3}}",
        "weights=null",
        "deployment={}",
        "cost={source: roofline}",
    ]
    scenario = load_scenario("cpu-144m", settings)
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
                "cpu-144m",
                [
                    "model=llama-3.1-8b",
                    "gpu=h200",
                    f"speculation={{program: {head}, max_draft_tokens: 3}}",
                    "weights=null",
                    "deployment={}",
                    "cost={source: roofline}",
                    f"workload.lengths={{kind: fixed, prompt_tokens: {prompt}, output_tokens: 100}}",
                ],
            )
        )

    asked(1000)
    with pytest.warns(UserWarning, match="the drafter eagle3 was made for 2048 positions .* grow to 4100 tokens"):
        asked(4000)


# Facts of head configurations published with SpecForge (github.com/sgl-project/SpecForge, configs/, Apache-2.0):
# technique, layers, states read, rows of the own output matrix, block, rank, target's vocabulary, words of what is
# priced as something simpler.
PUBLISHED = {
    "deepseek-v3-671b-eagle3": (
        {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama", "num_hidden_layers": 1,
         "hidden_size": 7168, "intermediate_size": 40960, "num_attention_heads": 56, "num_key_value_heads": 8,
         "vocab_size": 129280, "draft_vocab_size": 32000, "max_position_embeddings": 163840,
         "eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 29, 57], "use_aux_hidden_state": True}},
        ("eagle3", 1, 3, 32000, None, 0, 129280), (),
    ),
    "gpt-oss-20b-eagle3-moe": (
        {"architectures": ["GptOssForCausalLMEagle3"], "model_type": "gpt_oss", "num_hidden_layers": 1, "head_dim": 64,
         "hidden_size": 2880, "intermediate_size": 17280, "num_local_experts": 16, "experts_per_token": 4,
         "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201088, "draft_vocab_size": 32000},
        ("eagle3", 1, 3, 32000, None, 0, 201088), ("16 experts",),
    ),
    "deepseek-v2-lite-dflash": (
        {"architectures": ["DeepseekDFlashDraftModel"], "model_type": "deepseek_v3", "num_hidden_layers": 3,
         "hidden_size": 2048, "intermediate_size": 10944, "num_attention_heads": 16, "kv_lora_rank": 512,
         "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "block_size": 8, "dflash_config": {},
         "vocab_size": 102400, "draft_vocab_size": 102400},
        ("dflash", 3, 5, None, 8, 0, 102400), ("latent attention",),
    ),
    "qwen3-4b-dspark-kda": (
        {"architectures": ["DSparkDraftModel"], "model_type": "qwen3", "num_hidden_layers": 5, "head_dim": 128,
         "hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32, "num_key_value_heads": 8,
         "block_size": 7, "vocab_size": 151936, "sliding_window": None, "use_sliding_window": False,
         "dflash_config": {"attention_modes": ["kda", "kda", "gqa", "kda", "kda"], "markov_rank": 256,
                           "target_layer_ids": [1, 9, 17, 25, 33]}},
        ("dspark", 5, 5, None, 7, 256, 151936), ("kda layers",),
    ),
    "glm-5.2-dspark": (
        {"architectures": ["DSparkDraftModel"], "model_type": "qwen3", "num_hidden_layers": 5, "head_dim": 64,
         "hidden_size": 6144, "intermediate_size": 12288, "num_attention_heads": 64, "num_key_value_heads": 16,
         "block_size": 7, "vocab_size": 154880, "dspark_config": {"markov_rank": 256},
         "dflash_config": {"target_layer_ids": [1, 19, 38, 57, 76]}},
        ("dspark", 5, 5, None, 7, 256, 154880), (),
    ),
    "qwen3-8b-peagle": (
        {"architectures": ["PEagleDraftModel"], "model_type": "llama", "num_hidden_layers": 4, "head_dim": 128,
         "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32, "num_key_value_heads": 8,
         "vocab_size": 151936, "draft_vocab_size": 151936, "max_position_embeddings": 40960},
        ("p-eagle", 4, 3, 151936, None, 0, 151936), (),
    ),
    "qwen3.5-122b-a10b-mtp": (
        {"architectures": ["Qwen3MoeForCausalLMMTP"], "model_type": "qwen3_moe", "num_hidden_layers": 1,
         "head_dim": 256, "hidden_size": 3072, "intermediate_size": 8192, "moe_intermediate_size": 1024,
         "num_experts": 256, "num_experts_per_tok": 8, "num_attention_heads": 32, "num_key_value_heads": 2,
         "vocab_size": 248320, "draft_vocab_size": 64000},
        ("mtp", 1, 1, 64000, None, 0, 248320), (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_heads_are_read(name: str) -> None:
    content, facts, simpler = PUBLISHED[name]
    head = read_draft_head(content)
    assert (
        head.technique,
        head.layers,
        head.states,
        head.vocabulary,
        head.block,
        head.rank,
        head.target_vocabulary,
    ) == facts
    assert len(head.simplified) == len(simpler)
    assert all(word in said for word, said in zip(simpler, head.simplified, strict=True))


def test_a_head_of_another_target_and_what_its_price_leaves_out_are_warned_of(tmp_path: Path) -> None:
    head = folder(tmp_path / "head", PUBLISHED["gpt-oss-20b-eagle3-moe"][0])
    speculation = load_scenario(
        "cpu-144m",
        [
            "model=llama-3.1-8b",
            "gpu=h200",
            f"speculation={{program: {head}}}",
            "weights=null",
            "deployment={}",
            "cost={source: roofline}",
        ],
    ).speculation
    assert speculation is not None
    with pytest.warns(UserWarning, match="the drafter eagle3") as said:
        speculation.warn_of_limits(load_model("llama-3.1-8b"), 1000)
    assert [str(one.message) for one in said] == [
        "the drafter eagle3 was made for a target of 201088 tokens in its vocabulary and Llama-3.1-8B has 128256: it "
        "drafts for another model",
        "of the drafter eagle3, 16 experts are priced as one dense MLP of intermediate_size",
    ]
