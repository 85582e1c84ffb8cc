"""Fields of a scenario by the names that engines and people give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specsim.errors import InvalidInput, shown

# By section: what else a field is called, and its name here. Those of vLLM's flags first.
OTHER_NAMES: dict[tuple[str, ...], dict[str, str]] = {
    (): {"target": "model", "hardware": "gpu", "drafter": "speculation.program"},
    ("deployment",): {
        "tensor_parallel_size": "tensor_parallel", "tp_size": "tensor_parallel", "tp": "tensor_parallel",
        "data_parallel_size": "data_parallel", "dp_size": "data_parallel", "enable_expert_parallel": "expert_parallel",
    },
    ("engine",): {
        "name": "kind", "enable_chunked_prefill": "chunked_prefill", "enable_prefix_caching": "prefix_caching",
        "num_gpu_blocks_override": "num_kv_blocks", "cudagraph_capture_sizes": "graph_sizes",
        "cudagraph_mode": "graph_mode", "max_batch_size": "max_num_seqs",
    },
    ("speculation",): {
        "num_speculative_tokens": "max_draft_tokens", "method": "program", "drafter": "program",
        "model": "draft_model",
    },
    ("workload",): {
        "request_rate": "rate_per_s", "rate": "rate_per_s", "num_prompts": "requests", "num_requests": "requests",
    },
    ("workload", "arrivals"): {
        "rate": "rate_per_s", "request_rate": "rate_per_s", "max_concurrency": "concurrency", "clients": "concurrency",
    },
    ("workload", "lengths"): {
        "prompt": "prompt_tokens", "input_len": "prompt_tokens", "input_tokens": "prompt_tokens",
        "output": "output_tokens", "output_len": "output_tokens",
    },
}  # fmt: skip


def field_path(keys: Sequence[str]) -> list[str]:
    """``deployment.tensor_parallel_size``, split at its dots, as the field's own path."""
    found: list[str] = []
    for key in keys:
        found += OTHER_NAMES.get(tuple(found), {}).get(key, key).split(".")
    return found


def with_field_names(data: dict[str, Any]) -> dict[str, Any]:
    """A scenario's mapping with every field under its own name. Raises InvalidInput for one given twice."""
    found: dict[str, Any] = {}
    _take(data, (), found)
    return found


def _take(section: dict[str, Any], where: tuple[str, ...], into: dict[str, Any]) -> None:
    for key, value in section.items():
        *outer, name = OTHER_NAMES.get(where, {}).get(key, key).split(".") if isinstance(key, str) else (key,)
        owner = into
        for step in outer:
            owner = owner.setdefault(step, {})
            if not isinstance(owner, dict):
                raise InvalidInput(f"{key} is given and {step} is {shown(owner)}; keep one of them")
        inner = (*where, *outer, name)
        nested = isinstance(value, dict) and any(path[: len(inner)] == inner for path in OTHER_NAMES)
        if name in owner and not (nested and isinstance(owner[name], dict)):
            path = ".".join(map(str, inner))
            raise InvalidInput(f"{'.'.join((*where, str(key)))} and {path} are the same field; keep {path}")
        if nested:
            _take(value, inner, owner.setdefault(name, {}))
        else:
            owner[name] = value
