"""Number formats: what a weight takes, what runs it where, and what a file may call it."""

from __future__ import annotations

import pytest

from specsim.cost.memory import resident_weight_bytes
from specsim.errors import InvalidInput
from specsim.scenario import load_scenario
from specsim.specs.catalog import hardware_names, load_hardware, load_model
from specsim.specs.deployment import Deployment
from specsim.specs.formats import Stored, distance, format_name, format_on, formats, widening
from specsim.specs.model import ModelSpec

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16), ("fp8", 8), ("fp8-block", 8 + 32 / 128**2), ("int8", 8), ("awq", 4 + 16 / 128), ("gptq", 4.125),
        ("w4a16", 4.125), ("mxfp4", 4.25), ("nvfp4", 4.5), ("mxfp8", 8.25), ("w4a8", 4.125),
    ],
)  # fmt: skip
def test_scales_of_groups_count(name: str, bits: float) -> None:
    assert Stored.named(name).bits == bits


def test_a_smaller_group_takes_more() -> None:
    assert Stored.named("awq", 32).bits == 4.5
    assert Deployment(weight_format="awq", group_size=64).stored == Stored(format="int4-weight-g128", bits=4.25)
    assert Deployment(weight_bits=4).stored == Stored(bits=4.125)
    assert Deployment().stored is None


@pytest.mark.parametrize(
    ("name", "card", "runs"),
    [
        ("fp8", "h100-sxm", "fp8"), ("fp8", "l40s", "fp8"), ("fp8", "a100-80gb", "fp8-weight"),
        ("fp8-block", "a100-80gb", "fp8-weight"), ("nvfp4", "b200", "nvfp4"), ("nvfp4", "rtx-pro-6000", "nvfp4"),
        ("nvfp4", "h100-sxm", "nvfp4-weight"), ("nvfp4", "a100-80gb", "nvfp4-weight"),
        ("mxfp4", "a100-80gb", "mxfp4"), ("mxfp4", "b200", "mxfp4"), ("mxfp4-mxfp8", "h200", "mxfp4"),
        ("mxfp4-mxfp8", "b200", "mxfp4-mxfp8"), ("int8", "a100-80gb", "int8"), ("int8", "h200", "int8"),
        ("w4a8", "h100-sxm", "int4-fp8"), ("w4a8", "a100-80gb", "int4-weight-g128"), ("fp8", "mi300x", "fp8"),
    ],
)  # fmt: skip
def test_a_card_runs_what_engines_run_on_it(name: str, card: str, runs: str) -> None:
    """vLLM: FP8 and FP4 without their arithmetic are widened by Marlin."""
    assert format_on(format_name(name), load_hardware(card)) == runs


def test_what_no_engine_runs_is_one_line() -> None:
    """docs.vllm.ai, INT8 W8A8: not on compute capability 10.0 and above."""
    with pytest.raises(InvalidInput, match=r"int8 does not run on B200 .*choose another weight_format") as error:
        format_on("int8", load_hardware("b200"))
    assert "\n" not in str(error.value)


def test_unknown_and_contradicting_formats_are_refused() -> None:
    with pytest.raises(InvalidInput, match="unknown number format 'awqq'; did you mean awq"):
        load_scenario("cpu-144m", ["deployment.weight_format=awqq"])
    with pytest.raises(InvalidInput, match=r"weight_format fp8 and weight_bits 8 are given; leave one out"):
        load_scenario("cpu-144m", ["deployment.weight_format=fp8", "deployment.weight_bits=8"])
    fields = load_model("llama-3.1-8b").model_dump()
    with pytest.raises(ValueError, match="weight_bits is 16 and weight_format awq has 4; leave weight_bits out"):
        ModelSpec.model_validate(fields | {"weight_format": "awq"})


def test_a_format_survives_being_written_and_read() -> None:
    for name in ("gpt-oss-20b", "deepseek-v4-flash", "deepseek-v3", "llama-3.1-8b"):
        model = load_model(name)
        assert ModelSpec.model_validate(model.model_dump()) == model
    assert Stored.model_validate("awq").model_dump() == "int4-weight-g128"
    assert Stored(bits=8).model_dump() == 8
    odd = Stored(format="awq", bits=4.15625)
    assert Stored.model_validate(odd.model_dump()) == odd


def test_every_name_is_of_one_format_and_every_way_out_ends() -> None:
    names = [name for one, found in formats().items() for name in (one, *found.also)]
    assert len(names) == len(set(names))
    for name, found in formats().items():
        assert found.otherwise is None or formats()[found.otherwise].bits == found.bits, name
    for card in map(load_hardware, hardware_names()):
        assert 0 < widening().share_on(card) <= 1
        if card.kind == "gpu":
            assert format_on("int4-weight-g128", card) == "int4-weight-g128"


def test_the_nearest_format_multiplies_alike() -> None:
    assert distance("fp8-block", "fp8") == 0 == distance("mxfp4", "int4-weight-g128")
    assert distance("int4-weight-g128", "bfloat16") < distance("int4-weight-g128", "fp8")


@pytest.mark.parametrize(("model", "published_gib"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_experts_alone_in_mxfp4_weigh_what_was_published(model: str, published_gib: float) -> None:
    """gpt-oss model card (arXiv 2508.10925), table 1: checkpoint sizes."""
    assert resident_weight_bytes(load_model(model)) / GIB == pytest.approx(published_gib, rel=0.01)
