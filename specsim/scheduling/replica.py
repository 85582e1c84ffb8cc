"""The arrays that a replica's records lie in, made by Python."""

from __future__ import annotations

import numpy as np

from specsim.arrays import Records
from specsim.cost.cache import CacheLayout
from specsim.errors import InvalidInput, NoAnswer
from specsim.jit import address_of, compiled, point
from specsim.scheduling.records import BLOCK, BOTH, DECODE, ENGINE, PREFILL, REPLICA, SHARE
from specsim.scheduling.sglang import schedule_sglang
from specsim.scheduling.vllm import schedule_vllm
from specsim.specs.engine import EngineLimits

NO_LIMIT = 2**60
HOLDING = 4  # times max_num_seqs: the most requests that hold blocks of a prefill replica with prefix caching


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
    layout = layout or CacheLayout(limits.block_size, 0.0)
    given = limits.model_dump() | {
        "block_size": layout.block_tokens, "grows": layout.grows, "window_blocks": layout.window_blocks,
        "window_span": layout.window_span, "state_blocks": layout.state_blocks,
        "full_groups": layout.full_groups,
        "prefix_caching": limits.prefix_caching and layout.grows,
        "max_num_batched_tokens": budget, "max_draft_tokens": max_draft_tokens,
        "lookahead_tokens": lookahead_tokens, "draft_slots": draft_slots,
        "recompute_last_hit": recompute_last_hit, "pads_new_decodes": pads_new_decodes,
        "verifies_drafts": verifies_drafts, "num_blocks": num_kv_blocks - 1, "role": role,
        "watermark_blocks": int(limits.watermark * num_kv_blocks),
        "by_priority": limits.scheduling_policy == "priority", "sglang": limits.rules == "sglang",
        "max_model_len": NO_LIMIT if limits.max_model_len is None else limits.max_model_len,
    }  # fmt: skip
    if limits.rules == "sglang":  # these are vLLM's
        given |= {"watermark_blocks": 0, "scheduler_reserve_full_isl": False, "pads_new_decodes": False}
        given["prefix_caching"] &= role != DECODE  # off there by default
    engine = np.zeros(1, ENGINE)
    for name in engine.dtype.names or ():
        engine[name] = given[name]
    return engine


def refuse_endless(engine: Records, request_id: int, prompt_tokens: int, output_tokens: int) -> None:
    """Raises NoAnswer for a request that could never run: longer than the model allows, than all KV blocks, or
    than a whole step's budget when prefill is not chunked. Of two requests the longer one needs more.
    """
    rules = {name: int(engine[name][0]) for name in engine.dtype.names or ()}
    output_tokens = 1 if rules["role"] == PREFILL else output_tokens
    name, total, most = f"request {request_id}", prompt_tokens + output_tokens, rules["max_model_len"]
    if total > most:
        raise NoAnswer(
            f"{name} has {total} prompt and output tokens and the model takes {most}; "
            "raise max_model_len, or drop the request"
        )
    if rules["sglang"] and total + rules["block_size"] >= rules["num_blocks"] * rules["block_size"]:
        raise NoAnswer(
            f"{name} is taken to fill {total + rules['block_size']} KV slots and there must be more than that; "
            "raise num_kv_blocks or gpu_memory_utilization, or drop the request"
        )
    kept = rules["num_reserved_decode_tokens"] if rules["sglang"] and rules["role"] == DECODE else 0
    if kept and prompt_tokens + kept > rules["num_blocks"] * rules["block_size"]:
        raise NoAnswer(
            f"{name} has {prompt_tokens} prompt tokens beside num_reserved_decode_tokens of {kept} and the KV cache "
            "holds less; raise num_kv_blocks or gpu_memory_utilization, or lower num_reserved_decode_tokens"
        )
    # The last output token is never computed. A sequence that finds no room for its drafts runs without them.
    known = total - 1
    found = rules["prefix_caching"] or rules["role"] == DECODE
    pads = rules["pads_new_decodes"] and found and rules["max_draft_tokens"] + 3 <= most
    longest = min(known + rules["lookahead_tokens"] + (rules["max_draft_tokens"] if pads else 0), most)
    layout = CacheLayout(
        rules["block_size"],
        0.0,
        rules["grows"],
        rules["window_blocks"],
        rules["window_span"],
        rules["state_blocks"],
        rules["full_groups"],
    )
    room = layout.tokens_in(rules["num_blocks"])
    if longest > room:
        raise NoAnswer(
            f"{name} needs room for {longest} tokens and the KV cache holds {room}; "
            "raise num_kv_blocks or gpu_memory_utilization, or drop the request"
        )
    # A preempted sequence prefills its output again, so without chunks the whole length must fit one step.
    budget = rules["max_num_batched_tokens"] - rules["draft_slots"]
    if not rules["chunked_prefill"] and known > budget:
        raise NoAnswer(
            f"{name} may prefill {known} tokens at once and a step takes {budget}; "
            "raise max_num_batched_tokens or allow chunked_prefill"
        )


class ReplicaArrays:
    """One idle replica: its record, and the arrays that the record points to, kept alive."""

    def __init__(self, engine: Records, record: Records, shares: Records | None = None) -> None:
        """``record`` [1] is filled in; ``shares``: scratch for one step, its own where none is given."""
        seqs, blocks = int(engine["max_num_seqs"][0]), int(engine["num_blocks"][0])
        self.record = record
        self.engine = engine
        self.running = np.zeros(seqs, np.int64)
        self.preempted, self.reserved = np.zeros(seqs, np.int64), np.zeros(seqs, np.int64)
        self.shares = new_shares(engine) if shares is None else shares
        point(record, {name: getattr(self, name) for name in ("engine", "running", "preempted", "reserved", "shares")})
        record["free_plain"], record["seen_s"] = blocks, np.inf
        record["rules"] = compiled(schedule_sglang if engine["sglang"][0] else schedule_vllm).address
        if engine["prefix_caching"][0]:
            longest = -(-int(engine["max_model_len"][0]) // int(engine["block_size"][0]))
            tables = seqs * (1 if engine["role"][0] == BOTH else HOLDING)
            self._name_blocks(tables, blocks, min(blocks, longest))

    def _name_blocks(self, tables: int, blocks: int, longest: int) -> None:
        """Room for the names of all blocks. The system gives out zeros only where they are written to, so it takes
        as much memory as there are names.
        """
        self.blocks = np.zeros(blocks, BLOCK)
        self.buckets = np.zeros(1 << (blocks - 1).bit_length(), np.int64)
        self.tables = np.zeros((tables, longest), np.int64)
        self.spare_tables = address_of(self.tables) + self.tables.strides[0] * np.arange(tables)[::-1]
        point(self.record, {"fresh_block": self.blocks, "buckets": self.buckets, "spare_tables": self.spare_tables})
        self.record["num_buckets"], self.record["num_spare_tables"] = len(self.buckets), tables


def new_shares(engine: Records) -> Records:
    """Room for one step."""
    return np.zeros(int(engine["max_num_seqs"][0]), SHARE)


def new_replica(engine: Records) -> ReplicaArrays:
    return ReplicaArrays(engine, np.zeros(1, REPLICA))
