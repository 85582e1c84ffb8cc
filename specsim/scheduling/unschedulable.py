"""Requests that a replica could never schedule, refused before anything runs."""

from __future__ import annotations

from specsim.arrays import Records
from specsim.cost.cache import CacheLayout
from specsim.errors import NoAnswer
from specsim.scheduling.records import DECODE, PREFILL

MORE_BLOCKS = "raise num_kv_blocks or gpu_memory_utilization"


def refuse_unschedulable(engine: Records, request_id: int, prompt_tokens: int, output_tokens: int) -> None:
    """Raises NoAnswer for a request that could never run: longer than the model allows, than all KV blocks, or
    than a whole step's budget when prefill is not chunked. Of two requests the longer one needs more.
    """
    rules = {name: int(engine[name][0]) for name in engine.dtype.names or ()}
    total = prompt_tokens + (1 if rules["role"] == PREFILL else output_tokens)
    name, most = f"request {request_id}", rules["max_model_len"]
    if total > most:
        raise NoAnswer(
            f"{name} has {total} prompt and output tokens and the model takes {most}; "
            "raise max_model_len, or drop the request"
        )
    if rules["sglang"]:
        _refuse_by_sglang(rules, name, prompt_tokens, total)
    longest, room = _longest(rules, total - 1), _room(rules)
    if longest > room:
        raise NoAnswer(
            f"{name} needs room for {longest} tokens and the KV cache holds {room}; {MORE_BLOCKS}, or drop the request"
        )
    # A preempted sequence prefills its output again, so without chunks the whole length must fit one step.
    budget = rules["max_num_batched_tokens"] - rules["draft_slots"]
    if not rules["chunked_prefill"] and total - 1 > budget:
        raise NoAnswer(
            f"{name} may prefill {total - 1} tokens at once and a step takes {budget}; "
            "raise max_num_batched_tokens or allow chunked_prefill"
        )


def _refuse_by_sglang(rules: dict[str, int], name: str, prompt_tokens: int, total: int) -> None:
    slots = rules["num_blocks"] * rules["block_size"]
    if total + rules["block_size"] >= slots:
        raise NoAnswer(
            f"{name} is taken to fill {total + rules['block_size']} KV slots and there must be more than that; "
            f"{MORE_BLOCKS}, or drop the request"
        )
    kept = rules["num_reserved_decode_tokens"] if rules["role"] == DECODE else 0
    if kept and prompt_tokens + kept > slots:
        raise NoAnswer(
            f"{name} has {prompt_tokens} prompt tokens beside num_reserved_decode_tokens of {kept} and the KV cache "
            f"holds less; {MORE_BLOCKS}, or lower num_reserved_decode_tokens"
        )


def _longest(rules: dict[str, int], known: int) -> int:
    """Positions that a sequence of so many known tokens holds: its last output token is never computed.

    One that finds no room for its drafts runs without them, unless it is padded with them.
    """
    finds = rules["prefix_caching"] or rules["role"] == DECODE
    pads = rules["pads_new_decodes"] and finds and rules["max_draft_tokens"] + 3 <= rules["max_model_len"]
    padding = rules["max_draft_tokens"] if pads else 0
    return min(known + rules["lookahead_tokens"] + padding, rules["max_model_len"])


def _room(rules: dict[str, int]) -> int:
    """Tokens that all KV blocks hold."""
    names = ("grows", "window_blocks", "window_span", "state_blocks", "full_groups")
    return CacheLayout(rules["block_size"], 0.0, *(rules[name] for name in names)).tokens_in(rules["num_blocks"])
