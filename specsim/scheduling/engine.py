"""An engine's limits and its drafter's needs as the ENGINE record that its rules read."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.arrays import Records
from specsim.cost.cache import CacheLayout
from specsim.errors import InvalidInput
from specsim.jit import point
from specsim.scheduling.records import BOTH, DECODE, ENGINE
from specsim.specs.engine import EngineLimits

NO_LIMIT = 2**60


def engine_of(
    limits: EngineLimits,
    num_kv_blocks: int,
    *,
    max_draft_tokens: int = 0,
    lookahead_tokens: int = 0,
    draft_slots: int = 0,
    recompute_last_hit: bool = False,
    pads_new_decodes: bool = False,
    verifies_drafts: bool = True,
    role: int = BOTH,
    layout: CacheLayout | None = None,
) -> Records:
    """The ENGINE record, [1]; ``num_kv_blocks`` as the engine counts them, null block included.

    ``layout``: how a sequence takes them, None: one for each ``block_size`` tokens. What does not grow with a sequence
    has no blocks that others could share. ``max_draft_tokens`` is the most that a sequence will ever draft. Raises
    InvalidInput for limits that leave no block or no token to schedule.
    """
    if num_kv_blocks < 2:
        raise InvalidInput(f"num_kv_blocks is {num_kv_blocks} and one block never holds tokens; give at least 2")
    # A found prefix, or KV that was moved, may leave one token, which is padded even where nobody runs: it must fit.
    padding = max_draft_tokens if pads_new_decodes and (limits.prefix_caching or role == DECODE) else 0
    fields = {
        "max_draft_tokens": max_draft_tokens,
        "lookahead_tokens": lookahead_tokens,
        "recompute_last_hit": recompute_last_hit,
        "pads_new_decodes": pads_new_decodes,
        "verifies_drafts": verifies_drafts,
        "role": role,
        **_budget(limits, draft_slots, padding),
        **_blocks(limits, num_kv_blocks, layout or CacheLayout(limits.block_size, 0.0)),
        "by_priority": limits.scheduling_policy == "priority",
        "sglang": limits.rules == "sglang",
        "max_model_len": NO_LIMIT if limits.max_model_len is None else limits.max_model_len,
    }
    if limits.rules == "sglang":  # these are vLLM's
        fields |= {"watermark_blocks": 0, "scheduler_reserve_full_isl": False, "pads_new_decodes": False}
        fields["prefix_caching"] &= role != DECODE  # off there by default
    stated = limits.model_dump() | fields
    engine = np.zeros(1, ENGINE)
    point(engine, {name: stated[name] for name in ENGINE.names or ()})
    return engine


def _budget(limits: EngineLimits, draft_slots: int, padding: int) -> dict[str, int]:
    """Tokens of a step, and what each sequence takes of them for its drafter; InvalidInput where none is left."""
    budget = limits.max_num_batched_tokens
    if limits.draft_slots_for == "max_num_seqs":
        budget, draft_slots = budget - draft_slots * limits.max_num_seqs, 0
    least = draft_slots + 1 + padding
    if limits.rules == "sglang":
        least = limits.block_size  # prompts are cut to whole pages
    if budget < least:
        kept = limits.max_num_batched_tokens - budget
        drafting = f" beside the {kept} that are kept for drafts" if kept else ""
        raise InvalidInput(
            f"max_num_batched_tokens is {limits.max_num_batched_tokens} and one request may take {least}{drafting}; "
            "raise it"
        )
    return {"max_num_batched_tokens": budget, "draft_slots": draft_slots}


def _blocks(limits: EngineLimits, num_kv_blocks: int, layout: CacheLayout) -> dict[str, Any]:
    return {
        "num_blocks": num_kv_blocks - 1,
        "watermark_blocks": int(limits.watermark * num_kv_blocks),
        "block_size": layout.block_tokens,
        "grows": layout.grows,
        "window_blocks": layout.window_blocks,
        "window_span": layout.window_span,
        "state_blocks": layout.state_blocks,
        "full_groups": layout.full_groups,
        "prefix_caching": limits.prefix_caching and layout.grows,
    }
