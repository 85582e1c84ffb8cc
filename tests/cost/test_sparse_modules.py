"""Sparse attention of DeepSeek-V3.2: its kernels together against whole attention modules that others timed.

SGLang 0.5.14's decode modules of aiconfigurator-core 0.12 (dsa_generation_module; eight ranks, thus 16 heads; weights
and cache in FP8): down, up and output projections, indexer, choice of keys, and attention over them, of one layer.
Norms, rotary and the cache's writes are in the module and not in the sum here. SGLang quantises the input of each FP8
product by a kernel of its own, which vLLM fuses and our prices leave out: it is added by the tables' own figure.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import SOURCES, Group, Kernel, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.profiles.store import find_profile
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.layer_kind import SparseIndex
from specsim.specs.model_part import as_part

INDEX = SparseIndex(num_heads=64, head_dim=128, top_k=2048, cache_bytes=132)  # deepseek-ai/DeepSeek-V3.2's config.json
MODEL = load_model("deepseek-v3").model_copy(update={"index": INDEX})
SHARE = as_part(MODEL).shard(8)
QUANTISE_US = 2.0  # aiconfigurator-core 0.12's quantize tables, a few rows
MODULE_US = {  # (card, sequences, keys): microseconds of one layer. One sequence on B200 is left out: its tables' FP8
    # products take 2.4 times as long at one row as at two.
    ("h200", 1, 1024): 82.6, ("h200", 8, 1024): 98.3, ("h200", 32, 1024): 124.9, ("h200", 1, 8192): 94.2,
    ("h200", 8, 8192): 113.6, ("h200", 1, 32768): 103.3, ("h200", 8, 32768): 127.8, ("b200", 8, 1024): 72.9,
    ("b200", 32, 1024): 85.8, ("b200", 8, 8192): 89.7, ("b200", 8, 32768): 103.0,
}  # fmt: skip


def prices(card: str) -> tuple[MeasuredPrices, Precision]:
    hardware = load_hardware(card)
    profile = find_profile(hardware.name)
    assert profile is not None
    return MeasuredPrices(profile, hardware, "bfloat16"), Precision.on(hardware, 8, 8)


def layer_kernels(group: Group, precision: Precision) -> list[Kernel]:
    """Of the attention sublayer of one layer: every matrix that all 61 layers have, and what mixes tokens."""
    products = [
        kernel
        for kernel in token_kernels(SHARE, group.tokens, 0, precision)
        if kernel.kind == "gemm" and kernel.part == "gemm" and kernel.count == MODEL.num_layers
    ]
    return [*products, *attention_kernels(SHARE, group, precision)]


def layer_s(card: str, sequences: int, keys: int, tokens: int = 1) -> float:
    source, precision = prices(card)
    group = Group(sequences, tokens, float(keys), tokens)
    kernels = layer_kernels(group, precision)
    found = [source.price(kernel, warm=False).seconds for kernel in kernels]
    quantising = 1e-6 * QUANTISE_US * sum(kernel.kind == "gemm" for kernel in kernels)
    return float(sum(np.asarray(seconds) for seconds in found)) + quantising


def test_kernels_add_up_to_the_modules_that_others_timed() -> None:
    errors = [abs(1e6 * layer_s(*cell) / measured - 1.0) for cell, measured in MODULE_US.items()]
    assert np.median(errors) < 0.1
    assert max(errors) < 0.2


@pytest.mark.parametrize("card", ["h100-sxm", "h200", "b200", "b300", "gb200", "gb300"])
def test_the_indexer_is_measured_at_every_width_of_verification(card: str) -> None:
    """1 to 32 query tokens of 8 sequences over 32k keys: no stand-in, and never cheaper with more tokens than half."""
    source, precision = prices(card)
    taken = []
    for tokens in (1, 2, 4, 8, 16, 32):
        kernels = list(attention_kernels(SHARE, Group(8, tokens, 32768.0, tokens), precision))
        found = [(k.operation, source.price(k, warm=False)) for k in kernels if k.operation in ("index", "top_k")]
        assert [name for name, _ in found] == ["index", "top_k"]
        assert all(SOURCES[int(np.asarray(price.rank))] in ("measured", "interpolated") for _, price in found)
        taken.append(sum(float(np.asarray(price.seconds)) for _, price in found))
    assert taken[-1] > 2 * taken[0]
    assert all(after > 0.9 * before for before, after in pairwise(taken))


def test_short_contexts_choose_nothing() -> None:
    precision = prices("h200")[1]
    short, long = (
        [k.operation for k in attention_kernels(SHARE, Group(8, 4, keys, 4), precision)] for keys in (1024.0, 4096.0)
    )
    assert "top_k" not in short
    assert "top_k" in long
    at_once = attention_kernels(SHARE, Group(8, 4, np.array([1024.0, 4096.0]), 4), precision)
    (count,) = [k.count for k in at_once if k.operation == "top_k"]
    assert np.asarray(count).tolist() == [0, MODEL.num_layers]
