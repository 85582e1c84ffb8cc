"""Presets by name, YAML files by path, and the one line that a wrong file gets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from specsim.errors import InvalidInput
from specsim.specs.catalog import hardware_names, load_hardware, load_model, model_names
from specsim.specs.engine import EngineLimits
from specsim.specs.faults import explain
from specsim.specs.hardware import Hardware
from specsim.specs.model import ModelSpec
from specsim.specs.yaml_file import build, read_mapping, read_yaml

MODEL = """\
name: tiny
source: a test
num_layers: 2
hidden_size: 64
num_heads: 4
num_kv_heads: 2
head_dim: 16
intermediate_size: 128
vocab_size: 100
"""

HARDWARE = """\
name: card
source: a test
memory_bytes: 24e9
bandwidth_bytes_per_s: 1e12
flops_per_s: {bfloat16: 1.5E14, float32: 1e13}
last_level_cache_bytes: 5e7
"""


def fault(path: Path, text: str, model: type[BaseModel] = ModelSpec) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput) as raised:
        read_yaml(path, model)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


# -- presets --


def test_presets_are_those_promised() -> None:
    assert {
        "apertus-8b", "deepseek-v3", "deepseek-v3.2", "gemma-3-27b", "glm-4.5", "gpt-oss-120b", "gpt-oss-20b",
        "kimi-k2", "llama-3.1-8b", "llama-3.2-1b", "llama-3.3-70b", "llama-4-maverick", "llama-4-scout",
        "llama-7b", "minicpm-2b", "minimax-m2", "mistral-small-24b", "mixtral-8x7b", "opt-1.3b", "opt-125m",
        "opt-6.7b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-235b-a22b", "qwen3-30b-a3b", "qwen3-32b", "qwen3-8b",
        "vicuna-13b", "vicuna-33b", "vicuna-68m", "vicuna-7b",
    } <= set(model_names())  # fmt: skip
    assert hardware_names() == (
        "a10", "a100-40gb", "a100-80gb", "b200", "b300", "cpu-generic", "gb200", "gb300", "gh200-144gb", "gh200-96gb",
        "h100-nvl", "h100-pcie", "h100-sxm", "h20", "h200", "l4", "l40", "l40s", "mi300x", "mi325x", "mi355x",
        "rtx-3090", "rtx-4090", "rtx-5090", "rtx-pro-6000",
    )  # fmt: skip


def test_a_preset_is_found_again_by_the_name_it_prints() -> None:
    for name in model_names():
        assert load_model(load_model(name).name) == load_model(name)
    for name in hardware_names():
        assert load_hardware(load_hardware(name).name) == load_hardware(name)


def test_every_preset_cites_its_source() -> None:
    for name in model_names():
        assert "huggingface.co/" in load_model(name).source
    for name in hardware_names():
        source = load_hardware(name).source
        assert source.startswith(("NVIDIA ", "AMD ", "Assumption, no product")), name
        assert source.startswith("Assumption") or re.search("data ?sheet|whitepaper|technical brief", source), name


def test_hardware_agrees_with_the_datasheets_other_numbers() -> None:
    # Tensor rate = SMs x FLOP a cycle and SM x boost clock, from the architecture whitepapers.
    for name, sms, flop_a_cycle, boost_hz in [
        ("a100-80gb", 108, 2048, 1.410e9),
        ("h100-sxm", 132, 4096, 1.830e9),
        ("rtx-4090", 128, 512, 2.520e9),
        ("rtx-3090", 82, 512, 1.695e9),
        ("l40s", 142, 1024, 2.520e9),
        ("l40", 142, 512, 2.490e9),
        ("l4", 58, 1024, 2.040e9),
        ("a10", 72, 1024, 1.695e9),
        ("a100-40gb", 108, 2048, 1.410e9),
        ("h100-pcie", 114, 4096, 1.620e9),
        ("gh200-96gb", 132, 4096, 1.830e9),
        ("rtx-5090", 170, 512, 2.407e9),
        ("rtx-pro-6000", 188, 1024, 2.617e9),
        ("mi300x", 304, 2048, 2.100e9),
        ("mi355x", 256, 4096, 2.400e9),
    ]:
        rate = load_hardware(name).peak_flops_per_s("bfloat16")
        assert rate == pytest.approx(sms * flop_a_cycle * boost_hz, rel=0.02), name


def test_rates_are_dense_and_a_narrower_format_is_no_slower() -> None:
    """FP8 multiplies twice as fast as BF16 on every card that has it; with sparsity it would be four times."""
    for name in hardware_names():
        card = load_hardware(name)
        rates = card.flops_per_s
        if "fp8" in rates:
            assert rates["fp8"] == pytest.approx(2 * rates["bfloat16"], rel=0.02), name
        assert card.kind == "cpu" or rates["bfloat16"] > rates["float32"]
        assert card.kind == "cpu" or card.link_bytes_per_s is not None


def test_h200_is_an_h100_with_more_memory() -> None:
    h100, h200 = load_hardware("h100-sxm"), load_hardware("h200")
    assert h200.flops_per_s == h100.flops_per_s
    assert h200.bandwidth_bytes_per_s / h100.bandwidth_bytes_per_s == pytest.approx(4.8 / 3.35)
    assert h200.memory_bytes / 2**30 == pytest.approx(141, rel=0.02)
    assert h100.memory_bytes / 2**30 == pytest.approx(80, rel=0.02)


def test_a_rate_that_no_datasheet_lists_is_refused() -> None:
    with pytest.raises(InvalidInput, match="A100-80GB has no fp8 rate"):
        load_hardware("a100-80gb").peak_flops_per_s("fp8")


@pytest.mark.parametrize(("wrong", "near"), [("llama-3.1-8", "llama-3.1-8b"), ("Llama-3.1-8", "llama-3.1-8b")])
def test_an_unknown_model_gets_the_nearest_names(wrong: str, near: str) -> None:
    with pytest.raises(InvalidInput, match=f"unknown model '{wrong}'; did you mean .*{near}"):
        load_model(wrong)


def test_an_unknown_card_gets_the_nearest_names() -> None:
    with pytest.raises(InvalidInput, match=r"unknown hardware 'H100-S'; did you mean .*h100-sxm"):
        load_hardware("H100-S")


# -- files --


def test_a_file_of_the_users_own_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(MODEL)
    assert load_model(file) == load_model(str(file))
    assert load_model(file).kv_bytes_per_token() == 2 * 2 * 2 * 16 * 2


def test_numbers_are_numbers_without_a_point_or_a_sign(tmp_path: Path) -> None:
    file = tmp_path / "card.yml"
    file.write_text(HARDWARE)
    card = load_hardware(file)
    assert card.bandwidth_bytes_per_s == 1e12
    assert card.flops_per_s == {"bfloat16": 1.5e14, "float32": 1e13}
    assert card.last_level_cache_bytes == 50_000_000


def test_words_stay_words(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text(
        "policy: off\nanswer: yes\ndate: 2026-01-02\ntime: 1:30\nflag: true\nleading: 010\nnone: ~\nexp: 2E3\n"
    )
    assert read_mapping(file) == {
        "policy": "off",
        "answer": "yes",
        "date": "2026-01-02",
        "time": "1:30",
        "flag": True,
        "leading": 10,
        "none": None,
        "exp": 2000.0,
    }


def test_anchors_may_be_merged_and_overridden(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    file.write_text("base: &base {a: 1, b: 2}\nderived:\n  <<: *base\n  b: 3\n")
    assert read_mapping(file)["derived"] == {"a": 1, "b": 3}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file .*absent\.yaml"):
        load_model(tmp_path / "absent.yaml")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    with pytest.raises(InvalidInput, match=r"cannot read .*folder\.yaml: Is a directory"):
        load_model(folder)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="it is not UTF-8 text"):
        load_model(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE holds nothing; write one 'field: value' a line"),
        ("- 1\n- 2\n", "FILE holds a list; write one 'field: value' a line"),
        ("a: 1\nb: [1, 2\n", "FILE, line 3: expected ',' or ']', but got '<stream end>'; correct the YAML"),
        ("a: 1\nb: 2\na: 3\n", "FILE, line 3: field 'a' is given twice; correct the YAML"),
        ("? [a]\n: 1\n", "FILE, line 1: found unhashable key; correct the YAML"),
        ("a: \x07\n", "FILE: unacceptable character #x0007: special characters are not allowed; correct the YAML"),
        (MODEL.replace("num_layers: 2", "num_layers: -2"), "FILE: num_layers is -2; it should be greater than 0"),
        (MODEL.replace("vocab_size: 100\n", ""), "FILE: field vocab_size is missing; add it"),
        (MODEL + "tide_embeddings: true\n", "FILE: unknown field tide_embeddings; did you mean tied_embeddings?"),
        (
            MODEL.replace("num_layers", "num_layer"),
            "FILE: unknown field num_layer; did you mean num_layers or mtp_layers or norms_per_layer?",
        ),
        (
            MODEL + "moe: {num_experts: 2, experts_per_token: 1, intermediate_size: 8, shared_expert: 1}\n",
            "FILE: unknown field moe.shared_expert; did you mean shared_experts?",
        ),
        (
            MODEL + "moe: {num_experts: 2, experts_per_token: 3, intermediate_size: 8}\n",
            "FILE: moe: experts_per_token 3 exceeds num_experts 2; lower it",
        ),
        (MODEL + "mla: {kv_lora_rank: 0.5}\n", "FILE: 4 faults: (1) mla.kv_lora_rank is 0.5; it should be"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert fault(tmp_path / "file.yaml", text).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("num_layers: many", "num_layers is 'many'; it should be a whole number"),
        ("num_layers: 1.5", "num_layers is 1.5; it should be a whole number"),
        ("rope_theta: [1]", "unknown field rope_theta"),
        ("weight_bits: fp8", "weight_bits: 'fp8' is no number of bits; write 16, 8 (fp8, int8) or 4 (int4, fp4)"),
        ("weight_bits: [8]", "weight_bits is [8]; it should be a number"),
        ("tied_embeddings: 3.5", "tied_embeddings is 3.5; it should be true or false"),
        ("source: 0.1", "source is 0.1; it should be text; write it in quotes"),
        ("layer_kinds: 3", "layer_kinds is 3; write its fields as {name: value}"),
    ],
)
def test_a_value_of_another_kind_is_told_in_plain_words(tmp_path: Path, line: str, message: str) -> None:
    kept = [text for text in MODEL.splitlines() if not text.startswith(line.partition(":")[0])]
    assert fault(tmp_path / "file.yaml", "\n".join([*kept, line])).startswith(f"FILE: {message}")


def test_an_engine_has_no_kinds_to_choose_among() -> None:
    with pytest.raises(
        InvalidInput, match=r"^X: engine is None; write its fields as \{name: value\}; known: async_sch"
    ):
        build(_Served, {"engine": None}, "X")
    assert build(EngineLimits, {"kind": "vLLM"}, "X").kind == "vllm"


class _Served(BaseModel):
    engine: EngineLimits


def test_a_wrong_dtype_gets_the_known_ones(tmp_path: Path) -> None:
    message = fault(tmp_path / "card.yaml", HARDWARE.replace("float32", "fp33"), Hardware)
    assert message.startswith("FILE: flops_per_s.fp33 is 'fp33'; it should be 'float64', 'float32', 'bfloat16'")


class _Fixed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["fixed"] = "fixed"
    draft_tokens: PositiveInt


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["table"] = "table"
    rows: list[_Fixed]


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")
    policy: Annotated[_Fixed | _Table, Field(discriminator="kind")]
    model: str | _Fixed = "preset"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"policy": {"kind": "fixed", "draft_token": 3}},
            "unknown field policy.draft_token; did you mean draft_tokens?",
        ),
        ({"policy": {"kind": "fixed", "draft_tokens": 0}}, "policy.draft_tokens is 0; it should be greater than 0"),
        (
            {"policy": {"kind": "table", "rows": [{"draft_tokens": 1}, {"draft_tokens": 1, "zzz": 1}]}},
            "unknown field policy.rows[1].zzz; known: draft_tokens, kind",
        ),
        (
            {"policy": {"kind": "fixed", "draft_tokens": 1}, "model": {"draft_tokens": 1, "kinds": "fixed"}},
            "unknown field model.kinds; did you mean kind?",
        ),
    ],
)
def test_the_path_is_spelled_as_in_the_file(fields: dict[str, object], line: str) -> None:
    """Pydantic's location names the union branch it tried; a file has no such step."""
    with pytest.raises(ValidationError) as raised:
        _Question.model_validate(fields)
    assert explain(raised.value, _Question) == line


def test_a_fault_is_explained_without_the_model_too() -> None:
    with pytest.raises(ValidationError) as raised:
        _Fixed.model_validate({"draft_tokens": 1, "size": 2})
    assert explain(raised.value) == "unknown field size; remove it"


@pytest.mark.parametrize(
    ("hub", "preset"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("Qwen/Qwen3-32B", "qwen3-32b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("google/gemma-3-27b-it", "gemma-3-27b"),
        ("unsloth/Llama-4-Scout-17B-16E-Instruct", "llama-4-scout"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b"),
    ],
)
def test_a_hub_name_is_the_preset_that_cites_it(hub: str, preset: str) -> None:
    assert load_model(hub) == load_model(preset)


@pytest.mark.parametrize("hub", ["nvidia/Llama-3.1-8B-Instruct-FP8", "nobody/Nothing-7B"])
def test_another_hub_name_says_how_to_get_the_file(hub: str) -> None:
    with pytest.raises(InvalidInput, match=rf"hf download {hub} config.json --local-dir DIR\) and give the folder"):
        load_model(hub)


@pytest.mark.parametrize(
    ("called", "preset"),
    [("h100", "h100-sxm"), ("H100 SXM5", "h100-sxm"), ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("RTX4090", "rtx-4090")],
)
def test_hardware_is_known_by_what_it_is_called(called: str, preset: str) -> None:
    assert load_hardware(called) == load_hardware(preset)
