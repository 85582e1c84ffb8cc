"""Parts of a model: cut into layers they add up to the whole, in parameters, cache and kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import Group, Precision, token_kernels
from specsim.specs.catalog import load_model, model_names
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart, as_part

BF16 = Precision(16, 16, "bfloat16")


@pytest.mark.parametrize("name", model_names())
def test_a_whole_model_is_a_part_of_itself(name: str) -> None:
    model = load_model(name)
    part = as_part(model)
    assert part.parameter_count() == model.parameter_count()
    assert part.active_parameters() == model.active_parameter_count()
    assert part.kv_bytes_per_token() == model.kv_bytes_per_token()
    assert part.linears() == model.linears()


def work(model: ModelSpec | ModelPart) -> tuple[float, float, float]:
    """FLOPs, bytes and launches of a pass over 7 sequences of 3 tokens, logits for all."""
    kernels = [*token_kernels(model, 21, 21, BF16), *attention_kernels(model, Group(7, 3, 100.0, 3), BF16)]
    return (
        sum(float(k.flops * k.count) for k in kernels),
        sum(float(k.bytes * k.count) for k in kernels),
        sum(float(k.count) for k in kernels),
    )


@settings(max_examples=40)
@given(st.sampled_from(["llama-3.1-8b", "deepseek-v3", "mixtral-8x7b", "opt-6.7b", "qwen3-8b"]), st.data())
def test_layers_add_up_to_the_whole(name: str, data: st.DataObject) -> None:
    model = load_model(name)
    cut = data.draw(st.integers(1, model.num_layers - 1))
    halves = [ModelPart.layers(model, 0, cut), ModelPart.layers(model, cut, model.num_layers)]
    embedding = model.vocab_size * model.hidden_size if model.tied_embeddings else 0  # held once by the whole
    assert sum(half.parameter_count() for half in halves) - embedding == model.parameter_count()
    assert sum(half.kv_bytes_per_token() for half in halves) == model.kv_bytes_per_token()
    for whole, *parts in zip(work(model), *(work(half) for half in halves), strict=True):
        assert sum(parts) == pytest.approx(whole, rel=1e-12)


def test_what_is_not_kept_takes_no_cache() -> None:
    model = load_model("llama-3.1-8b")
    assert replace(ModelPart.layers(model, 0, 4), cached=False).kv_bytes_per_token() == 0
    assert ModelPart.layers(model, 0, 4).kv_bytes_per_token() == 4 * 4096


def test_ranks_share_a_part_as_they_share_a_model() -> None:
    model = load_model("llama-3.1-8b")
    assert ModelPart.whole(model).shard(4).linears() == model.shard(4).linears()
