"""A record of an AIConfigurator table as a profile's row; None where specsim has no such class, format or mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from specsim.interop.aiconfigurator.narrow import in_whole_loads
from specsim.profiles.schema import Row

FORMATS = {
    "bfloat16": "bfloat16", "float16": "float16", "half": "float16", "fp8": "fp8", "sq": "int8",
    "int8_wo": "int8-weight", "int4_wo": "int4-weight-g128", "fp8_block": "fp8-block", "nvfp4": "nvfp4",
    "w4a16_mxfp4": "mxfp4", "w4a8_mxfp4_mxfp8": "mxfp4-mxfp8", "w4afp8": "int4-fp8",
}  # fmt: skip
BALANCED = "power_law_1.01"  # how tokens spread over experts: the mildest skew that every table has
# DeepSeek's MLA: absorbed, one shared KV head of kv_lora_rank + qk_rope_head_dim; in a prompt qk_nope + qk_rope.
MLA_CACHED_DIM, MLA_PROMPT_DIM, MLA_HEADS = 576, 192, 128
WIDEST_INDEX, FEWEST_INDEX_KEYS = 64, 256  # query tokens of a sequence; tokens in its cache

Record = dict[str, Any]


def _row(record: Record, shape: Sequence[float], dtype: str, *, operation: str = "", mode: str = "graph") -> Row:
    seconds = float(record["latency"]) * 1e-3
    kernel = str(record.get("kernel_source", ""))
    return Row(tuple(float(x) for x in shape), operation, dtype, kernel, "cold", mode, seconds, None, None, None)


def _gemm(record: Record) -> Row | None:
    dtype = FORMATS.get(record["gemm_dtype"])
    return None if dtype is None else _row(record, (record["m"], record["n"], record["k"]), dtype)


def _attention(record: Record) -> Row | None:
    dtype = FORMATS.get(record["kv_cache_dtype"])
    plain = record["attn_dtype"] in ("bfloat16", "float16") and not record.get("window_size")
    if dtype is None or not plain or record["beam_width"] != 1:
        return None
    heads = record["num_heads"]
    kv_heads = record["num_key_value_heads"] or heads
    queries = record["isl"]
    shape = (record["batch_size"], queries, queries + record["step"], heads, kv_heads, record["head_dim"])
    return _row(record, shape, dtype)


def _mla(record: Record, *, cached: bool) -> Row | None:
    dtype = FORMATS.get(record["kv_cache_dtype"])
    if dtype is None or record["mla_dtype"] not in ("bfloat16", "float16"):
        return None
    heads = record["num_heads"]
    if heads * record["tp_size"] > MLA_HEADS:  # the whole model's heads: those of one rank are fewer
        heads //= record["tp_size"]
    kv_heads, head_dim = (1, MLA_CACHED_DIM) if cached else (heads, MLA_PROMPT_DIM)
    queries = record["isl"]
    shape = (record["batch_size"], queries, queries + record["step"], heads, kv_heads, head_dim)
    return _row(record, shape, dtype)


def _moe(record: Record) -> Row | None:
    dtype = FORMATS.get(record["moe_dtype"])
    if dtype is None or record["moe_ep_size"] != 1 or record["distribution"] != BALANCED:
        return None
    if "w4a4mxfp4moe_marlin" in record["kernel_source"] or "situ" in record["kernel_source"]:
        return None  # one model's layouts by a kernel of its own
    inner = record["inter_size"] // record["moe_tp_size"]
    shape = (record["num_tokens"], record["hidden_size"], inner, record["num_experts"], record["topk"])
    return _row(record, shape, dtype) if in_whole_loads(inner, dtype) else None


def _all_reduce(record: Record) -> Row | None:
    """Eager launches are left out where the table has graph replays too."""
    kernel = str(record["kernel_source"])
    if kernel.endswith("_eager"):
        return None
    mode = "graph" if kernel.endswith("_graph") else "eager"
    shape = (2 * record["message_size"], record["num_gpus"])
    return _row(record, shape, "bfloat16", operation="all_reduce", mode=mode)


def _nccl(record: Record) -> Row | None:
    if record["op_name"] != "all_gather" or record["nccl_dtype"] != "half":
        return None
    return _row(record, (2 * record["message_size"], record["num_gpus"]), "bfloat16", operation="all_gather")


def _index(record: Record) -> Row | None:
    """Scores of cached keys, and the choice of the best: both follow tokens and keys, however sequences share them."""
    if not 1 <= record["isl"] <= WIDEST_INDEX or record["step"] < FEWEST_INDEX_KEYS:
        return None
    if record.get("score_mode", "flat") != "flat":
        return None
    operation = "index" if "logits" in record["op_name"] else "top_k"
    shape = (record["batch_size"] * record["isl"], record["step"] / record["compress_ratio"])
    return _row(record, shape, "bfloat16", operation=operation)


# (operation, file, class, reader) of every table that is read
READERS: tuple[tuple[str, str, str, Callable[[Record], Row | None]], ...] = (
    ("gemm", "gemm_perf.parquet", "gemm", _gemm),
    ("attention", "generation_attention_perf.parquet", "attention", _attention),
    ("attention", "context_attention_perf.parquet", "attention", _attention),
    ("mla", "generation_mla_perf.parquet", "attention", lambda record: _mla(record, cached=True)),
    ("mla", "context_mla_perf.parquet", "attention", lambda record: _mla(record, cached=False)),
    ("moe", "moe_perf.parquet", "moe", _moe),
    ("sparse_attention", "dsv4_paged_mqa_logits_module_perf.parquet", "elementwise", _index),
    ("sparse_attention", "glm5_topk_module_perf.parquet", "elementwise", _index),
    ("comm", "custom_allreduce_perf.parquet", "collective", _all_reduce),
    ("nccl", "nccl_perf.parquet", "collective", _nccl),
)
