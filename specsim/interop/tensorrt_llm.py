"""TensorRT-LLM's YAML (``speculative_config`` and the limits around it), read and written; the draft length by batch
size is in tensorrt_llm_schedule.

Rules restated from NVIDIA/TensorRT-LLM ``llmapi/llm_args.py`` (commit 0004396).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from specsim.errors import InvalidInput, NoAnswer, unknown_name
from specsim.interop.engine_config import (
    EagleTree,
    EngineConfig,
    EngineText,
    kept_notes,
    left_out_notes,
    used_steps,
)
from specsim.interop.tensorrt_llm_schedule import BatchKeys, read_schedule, schedule_fields
from specsim.specs.yaml_file import build, read_mapping

TOKENS_PER_BLOCK = 32  # TensorRT-LLM's own where the YAML has none

_TYPES = {
    "Eagle3": "eagle3",
    "Eagle": "eagle3",
    "MTP": "mtp",
    "NGram": "ngram",
    "Draft_Target": "draft_model",
    "PARD": "pard",
    "DFlash": "dflash",
    "DSpark": "dspark",
    "SA": "suffix_automaton",
    "Medusa": "medusa",
}
_NO_DRAFTER = {"auto", "lookahead", "savestate", "userprovided"}
_FROM_CHECKPOINT = {"mtp", "pard", "dflash", "dspark"}  # max_draft_len may be left to the draft checkpoint
_NEEDS_MODEL = {"eagle3", "draft_model"}
_UNMODELLED = {
    "acceptance_length_threshold", "acceptance_rate_threshold", "acceptance_rate_window_size", "acceptance_window",
    "advanced_sampling_mode", "allow_advanced_sampling", "draft_len_schedule", "max_concurrency", "attention_backend",
    "begin_thinking_phase_token", "block_size", "eagle3_layers_to_capture", "eagle3_model_arch", "eagle3_one_model",
    "enable_global_pool", "enable_penalty", "end_thinking_phase_token", "global_pool_size", "greedy_sampling",
    "is_keep_all", "is_public_pool", "is_use_oldest", "load_format", "markov_head_type", "markov_rank",
    "mask_token_id", "max_matching_ngram_size", "max_non_leaves_per_layer", "max_total_draft_tokens", "moe_backend",
    "mtp_eagle_one_model", "num_eagle_layers", "posterior_threshold", "relaxed_delta", "relaxed_topk", "sa_config",
    "target_layer_ids", "use_mtp_vanilla", "use_rejection_sampling", "use_relaxed_acceptance_for_thinking",
}  # fmt: skip


class _DecodingConfig(BaseModel):
    """The keys that specsim models, with TensorRT-LLM's types; the others pass through."""

    model_config = ConfigDict(frozen=True, extra="allow")

    decoding_type: str
    max_draft_len: NonNegativeInt | None = None
    max_total_draft_tokens: PositiveInt | None = None
    speculative_model: str | None = Field(
        None, validation_alias=AliasChoices("speculative_model", "speculative_model_dir", "pytorch_weights_path")
    )
    max_concurrency: PositiveInt | None = None
    draft_len_schedule: dict[PositiveInt, NonNegativeInt] | None = None
    max_matching_ngram_size: int | None = None
    num_nextn_predict_layers: PositiveInt | None = None
    use_dynamic_tree: bool = False
    dynamic_tree_max_topk: PositiveInt | None = Field(None, alias="dynamic_tree_max_topK")
    eagle_choices: Any = None


class _KvCache(BaseModel):
    tokens_per_block: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    free_gpu_memory_fraction: float | None = None


class _CudaGraphs(BaseModel):
    batch_sizes: tuple[PositiveInt, ...] | None = None


class _Server(BaseModel):
    """The limits outside ``speculative_config``; what else the file says is not read."""

    max_batch_size: PositiveInt | None = None
    max_num_tokens: PositiveInt | None = None
    enable_chunked_prefill: bool | None = None
    kv_cache_config: _KvCache = _KvCache()
    cuda_graph_config: _CudaGraphs | None = _CudaGraphs()


def read_tensorrt_llm(source: Mapping[str, Any] | Path | str, keys: BatchKeys = "last") -> EngineConfig:
    """The config of a YAML file, by path or content: the whole file or its ``speculative_config`` alone.

    ``keys``: what a key of ``draft_len_schedule`` is, the last batch size of its range (1.3) or the first (up to 1.2).
    Raises InvalidInput: a wrong type, a schedule that TensorRT-LLM refuses, a drafter without its model or length.
    """
    where = "speculative_config" if isinstance(source, Mapping) else f"{source}: speculative_config"
    content = dict(source) if isinstance(source, Mapping) else read_mapping(source)
    inner = content if "decoding_type" in content else content.get("speculative_config")
    if not isinstance(inner, Mapping):
        raise InvalidInput(f"{where} is not there; write speculative_config with its decoding_type")
    parsed = build(_DecodingConfig, dict(inner), where)
    server = build(_Server, {} if inner is content else content, where.removesuffix("speculative_config") + "the YAML")
    notes = list[str]()
    method = _method(parsed, where, notes)
    longest = _longest(parsed, method, where, notes)
    kept = {key: value for key, value in (parsed.model_extra or {}).items() if value is not None}
    if method == "suffix_automaton" and parsed.max_matching_ngram_size is not None:
        kept["max_matching_ngram_size"] = parsed.max_matching_ngram_size
    tree = _tree(parsed, longest, where)
    if tree is None and parsed.max_total_draft_tokens not in (None, longest):
        kept["max_total_draft_tokens"] = parsed.max_total_draft_tokens
    policy = read_schedule(parsed.draft_len_schedule, parsed.max_concurrency, longest, keys, where, notes)
    if policy is None or tree is not None:  # a tree has no draft length to change
        switches = {"max_concurrency": parsed.max_concurrency, "draft_len_schedule": parsed.draft_len_schedule}
        kept |= {key: value for key, value in switches.items() if value is not None}
    graphs = server.cuda_graph_config.batch_sizes if server.cuda_graph_config else None
    fields = {
        "engine": "tensorrt-llm",
        "method": method,
        "draft_model": parsed.speculative_model,
        "tree": tree,
        "num_speculative_tokens": tree.num_draft_tokens - 1 if tree else longest,
        "policy": None if tree else policy,
        "prompt_lookup": (1, parsed.max_matching_ngram_size or 2) if method == "ngram" else None,
        "limits": _limits(server, notes),
        "graph_batch_sizes": graphs,
        "kept": kept,
        "notes": (*notes, *kept_notes(kept, _UNMODELLED, "TensorRT-LLM, which refuses to start with it")),
    }
    return build(EngineConfig, fields, where)


def write_tensorrt_llm(config: EngineConfig, keys: BatchKeys = "last") -> EngineText:
    """YAML for ``trtllm-serve --config``. ``keys`` as in ``read_tensorrt_llm``.

    Raises NoAnswer for a method that TensorRT-LLM lacks, and for a schedule whose smallest batches do not draft the
    most.
    """
    names = {method: name for name, method in _TYPES.items() if name != "Eagle"}
    if config.method not in names:
        raise NoAnswer(f"TensorRT-LLM has no method {config.method!r}; it has {', '.join(names)}")
    name = names[config.method]
    speculation: dict[str, Any] = {
        "decoding_type": "DraftTarget" if (name, keys) == ("Draft_Target", "first") else name
    }
    if config.draft_model is not None:
        speculation["speculative_model"] = config.draft_model
    elif config.method in _NEEDS_MODEL:
        raise NoAnswer(f"TensorRT-LLM's {name} loads a checkpoint; name one as draft_model")
    notes = list(left_out_notes(config, "tensorrt-llm", "acceptance_rates"))
    if config.tree is not None:
        tree = config.tree
        if len(used_steps(config, "TensorRT-LLM")) > 1:
            raise NoAnswer("a tree has no draft length that could change with the batch; choose one or set topk 1")
        speculation |= {"max_draft_len": tree.num_steps, "use_dynamic_tree": True, "dynamic_tree_max_topK": tree.topk}
        speculation["max_total_draft_tokens"] = tree.num_draft_tokens - 1
    else:
        speculation |= schedule_fields(config, keys, notes)
    if config.prompt_lookup is not None:
        speculation["max_matching_ngram_size"] = config.prompt_lookup[1]
        if config.prompt_lookup[0] != 1:
            notes.append(f"TensorRT-LLM looks up from 1 token on; the minimum {config.prompt_lookup[0]} is left out")
    if config.engine == "tensorrt-llm":
        speculation |= config.kept
    content = {"speculative_config": speculation, **_server(config)}
    return EngineText(yaml.safe_dump(content, sort_keys=False), notes=tuple(notes))


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _method(parsed: _DecodingConfig, where: str, notes: list[str]) -> str:
    plain = _plain(parsed.decoding_type)
    if plain in _NO_DRAFTER:
        raise NoAnswer(f"{where}: decoding_type {parsed.decoding_type!r} is no drafter that specsim could know")
    found = [name for name in _TYPES if _plain(name) == plain]
    if not found:
        raise unknown_name(f"{where} decoding_type", parsed.decoding_type, _TYPES)
    if found[0] == "Eagle":
        notes.append("decoding_type Eagle runs EAGLE-3")
    method = _TYPES[found[0]]
    if method in _NEEDS_MODEL and parsed.speculative_model is None:
        raise InvalidInput(f"{where}: {found[0]} needs speculative_model, the draft checkpoint; add it")
    if parsed.eagle_choices is not None:
        raise NoAnswer(f"{where}: eagle_choices, a static tree, is not modelled; use a chain")
    return method


def _longest(parsed: _DecodingConfig, method: str, where: str, notes: list[str]) -> int | None:
    """max_draft_len; None where the draft checkpoint decides."""
    longest = parsed.max_draft_len
    if parsed.num_nextn_predict_layers is not None:
        notes.append("num_nextn_predict_layers is now max_draft_len")
        longest = parsed.num_nextn_predict_layers if longest is None else longest
    if longest == 0 or (longest is None and method not in _FROM_CHECKPOINT):
        raise InvalidInput(f"{where}: max_draft_len is {longest} and {parsed.decoding_type} needs at least 1; set it")
    return longest


def _tree(parsed: _DecodingConfig, longest: int | None, where: str) -> EagleTree | None:
    if not parsed.use_dynamic_tree:
        return None
    topk = parsed.dynamic_tree_max_topk
    if topk is None or longest is None:
        raise InvalidInput(f"{where}: use_dynamic_tree needs max_draft_len and dynamic_tree_max_topK; add them")
    nodes = parsed.max_total_draft_tokens or topk * longest
    if not longest <= nodes <= topk * longest:
        raise InvalidInput(
            f"{where}: max_total_draft_tokens is {nodes}; it should be from max_draft_len {longest} to "
            f"max_draft_len times dynamic_tree_max_topK, {topk * longest}"
        )
    return EagleTree(topk=topk, num_steps=longest, num_draft_tokens=nodes + 1)


def _limits(server: _Server, notes: list[str]) -> dict[str, Any]:
    cache, block = server.kv_cache_config, server.kv_cache_config.tokens_per_block
    limits = {
        "max_num_seqs": server.max_batch_size,
        "max_num_batched_tokens": server.max_num_tokens,
        "block_size": block,
        "chunked_prefill": server.enable_chunked_prefill,
        "graph_sizes": () if server.cuda_graph_config is None else None,
    }
    if cache.max_tokens is not None:
        limits["num_kv_blocks"] = cache.max_tokens // (block or TOKENS_PER_BLOCK)
    if cache.free_gpu_memory_fraction is not None:
        notes.append(
            "free_gpu_memory_fraction is of what the weights leave free, not gpu_memory_utilization; left out"
        )
    return {key: value for key, value in limits.items() if value is not None}


def _server(config: EngineConfig) -> dict[str, Any]:
    limits = config.limits
    names = {
        "max_num_seqs": "max_batch_size",
        "max_num_batched_tokens": "max_num_tokens",
        "chunked_prefill": "enable_chunked_prefill",
    }
    server: dict[str, Any] = {name: limits[key] for key, name in names.items() if key in limits}
    cache: dict[str, Any] = {}
    if "block_size" in limits:
        cache["tokens_per_block"] = limits["block_size"]
    if "num_kv_blocks" in limits:
        cache["max_tokens"] = limits["num_kv_blocks"] * limits.get("block_size", TOKENS_PER_BLOCK)
    if cache:
        server["kv_cache_config"] = cache
    if limits.get("graph_sizes") == ():
        server["cuda_graph_config"] = None
    elif config.graph_batch_sizes is not None:
        server["cuda_graph_config"] = {"batch_sizes": list(config.graph_batch_sizes)}
    return server
