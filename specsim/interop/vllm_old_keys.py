"""Keys and values of vLLM's ``--speculative-config`` that were spelt otherwise, as vLLM spells them today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specsim.errors import InvalidInput

FLAG = "--speculative-config"
SCHEDULE = "num_speculative_tokens_per_batch_size"
OLD_KEYS = {  # up to vLLM 0.8 each had a flag of its own
    "speculative_model": "model",
    "ngram_prompt_lookup_max": "prompt_lookup_max",
    "ngram_prompt_lookup_min": "prompt_lookup_min",
    "speculative_draft_tensor_parallel_size": "draft_tensor_parallel_size",
    "speculative_max_model_len": "max_model_len",
    "speculative_model_quantization": "quantization",
    "speculative_disable_by_batch_size": "disable_by_batch_size",
}


def in_current_keys(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The keys and values as vLLM spells them today, and what was replaced."""
    fields, notes = dict[str, Any](), list[str]()
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name in OLD_KEYS:
            notes.append(f"{name} is now {OLD_KEYS[name]}")
            name = OLD_KEYS[name]
        if name in fields:
            raise InvalidInput(f"{FLAG} gives {name} twice; keep one")
        fields[name] = value
    if "tensor_parallel_size" in fields:
        raise InvalidInput(f"{FLAG}: vLLM refuses tensor_parallel_size; write draft_tensor_parallel_size")
    if fields.pop("disable_by_batch_size", None) is not None:
        notes.append(f"disable_by_batch_size does nothing since vLLM 0.10 and is left out; write {SCHEDULE}")
    if (sampler := fields.get("rejection_sample_method")) in ("strict", "probabilistic"):
        draft = "greedy" if sampler == "strict" else "probabilistic"
        fields |= {"rejection_sample_method": "standard", "draft_sample_method": draft}
        notes.append(f"rejection_sample_method {sampler} is now standard with draft_sample_method {draft}")
    rate, k = fields.pop("synthetic_acceptance_rate", None), fields.get("num_speculative_tokens")
    if isinstance(rate, int | float) and isinstance(k, int):
        fields["synthetic_acceptance_length"] = 1 + rate * k
        notes.append("synthetic_acceptance_rate is read as synthetic_acceptance_length: same mean, another spread")
    return fields, notes
