"""Record what vLLM's own scheduler does in seeded scenarios, as data for test_recordings.py.

Run it with a Python that has vLLM 0.32 installed (its CPU edition will do; no model and no weights are needed):

    python tests/scheduling/record_vllm.py tests/scheduling/recordings/vllm-0.32.jsonl.gz

It stands beside the recordings and their replay because the three share one format; no test imports it. vLLM's
``Scheduler`` and ``AsyncScheduler`` are driven as its engine core drives them: schedule, run, update, then hand over
the drafts; with asynchronous scheduling a step is scheduled while the one before it runs. The model's answers are
drawn from the scenario's seed.

One JSON line a scenario. ``requests``: [step at which it arrives, prompt tokens, output tokens, priority, number of
each full prompt block's hash]. ``events``, in order:

    ["s", arrived, [[request, tokens, drafts, first position], ...], preempted, free blocks, waiting, k to propose]
    ["u", accepted of each share, emitted of each share, free blocks, [[request, proposed drafts], ...]]
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import tempfile
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
import vllm
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, SpeculativeConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
from vllm.v1.request import Request

TINY_MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1, "vocab_size": 512,
    "max_position_embeddings": 8192, "torch_dtype": "float32",
}  # fmt: skip

METHODS = {  # method, parallel drafting
    "ngram": ("ngram", False), "draft_model": ("draft_model", False), "eagle": ("eagle3", False),
    "p_eagle": ("eagle3", True), "pard": ("draft_model", True), "dflash": ("dflash", False),
}  # fmt: skip
STEP_LIMIT = 3000


def scenarios() -> list[dict[str, Any]]:
    """Every family a few times, then everything mixed."""
    plain: dict[str, Any] = {"method": None, "k": 0}
    short: dict[str, Any] = {"async": True, "policy": "priority", "blocks": "few", "short": True}
    families: list[tuple[str, int, dict[str, Any]]] = [
        ("plain", 3, plain),
        ("unchunked", 3, {"chunked": False}),
        ("tiny-budget", 5, {"budget": "tiny"}),
        ("few-blocks", 6, {"blocks": "few"}),
        ("few-blocks-plain", 3, plain | {"blocks": "few"}),
        ("first-chunk-admission", 5, {"blocks": "few", "reserve": False, "budget": "tiny"}),
        ("watermark", 5, {"blocks": "few", "watermark": 0.08}),
        ("prefix", 5, {"prefix": True}),
        ("prefix-few-blocks", 6, {"prefix": True, "blocks": "few"}),
        ("priority", 3, {"policy": "priority"}),
        ("priority-few-blocks", 5, {"policy": "priority", "blocks": "few"}),
        ("priority-prefix", 5, {"policy": "priority", "blocks": "few", "prefix": True}),
        ("long-prefill", 4, {"threshold": True}),
        ("k-table", 5, {"table": True}),
        ("k-table-few-blocks", 3, {"table": True, "blocks": "few", "budget": "tiny"}),
        ("model-limit", 4, {"tight_model": True}),
        ("one-token-prompts", 4, {"prompts": "one", "fixed_k": True}),
        ("one-token-tiny-budget", 6, {"prompts": "one", "fixed_k": True, "budget": "tiny"}),
        ("prefix-model-limit", 4, {"prefix": "and one token", "tight_model": True, "short": True, "fixed_k": True}),
        ("priority-tiny-budget", 5, {"policy": "priority", "blocks": "few", "budget": "tiny"}),
        ("wide-watermark", 3, {"blocks": "few", "watermark": 0.4}),
        ("async", 5, {"async": True}),
        ("async-plain", 2, plain | {"async": True}),
        ("async-few-blocks", 5, {"async": True, "blocks": "few"}),
        ("async-prefix", 5, {"async": True, "blocks": "few", "prefix": True}),
        ("async-priority", 12, {"async": True, "policy": "priority", "blocks": "few"}),
        ("async-priority-short", 4, short),
        ("async-k-table", 3, {"async": True, "table": True}),
        ("async-model-limit", 2, {"async": True, "tight_model": True}),
        ("mixed", 40, {"mixed": True}),
    ]  # fmt: skip
    few: dict[str, Any] = {"blocks": "few"}
    rare: list[tuple[str, int, dict[str, Any]]] = [  # found by trying some hundred seeds
        ("victim-of-the-step-left-out", 50044, short),  # since the step in flight ends it
        ("victim-gives-its-budget-back", 60091, few | {"policy": "priority", "budget": "tiny"}),
        ("no-watermark-alone", 61002, few | {"watermark": 0.45, "prefix": True}),
        (
            "no-padding-beyond-the-model",
            60162,
            {"prefix": "and one token", "tight_model": True, "short": True, "fixed_k": True},
        ),
    ]
    return [
        *(
            scenario(f"{name}-{number}", seed * 100 + number, wish)
            for seed, (name, count, wish) in enumerate(families)
            for number in range(count)
        ),
        *(scenario(*row) for row in rare),
    ]


def scenario(name: str, seed: int, wish: dict[str, Any]) -> dict[str, Any]:
    """Limits and requests; what ``wish`` leaves open is drawn."""
    draw = random.Random(seed)
    if wish.get("mixed"):
        wish = {
            "async": draw.random() < 0.5, "policy": draw.choice(["fcfs", "priority"]),
            "prefix": draw.random() < 0.6, "blocks": draw.choice(["few", "few", "many"]),
            "budget": draw.choice(["tiny", "wide"]), "table": draw.random() < 0.25,
            "chunked": draw.random() < 0.8, "threshold": draw.random() < 0.25, "reserve": draw.random() < 0.7,
            "watermark": draw.choice([0.0, 0.0, 0.05]), "tight_model": draw.random() < 0.2,
        }  # fmt: skip
    method = wish.get("method", draw.choice(["ngram", *METHODS]))
    k = 0 if method is None else draw.randint(1, 6)
    size = draw.choice([4, 8, 16])
    requests = arrivals(draw, wish, size)
    longest = max(prompt + output for _, prompt, output, _, _ in requests)
    model = longest if wish.get("tight_model") else longest + 2 * k + 8
    few = wish.get("blocks") == "few"
    seqs = draw.choice([6, 12, 24] if few else [2, 4, 6, 12, 24])
    slots = {"draft_model": 1, "p_eagle": k - 1, "pard": k, "dflash": k}.get(method or "", 0)
    least = max(seqs, slots + 1 + k)
    budget = least + draw.randint(1, 12) if wish.get("budget") == "tiny" else draw.choice([48, 96, 256, 512])
    budget = max(budget, least)
    if not wish.get("chunked", True):
        budget = max(budget, model + slots)
    lookahead = {"draft_model": k, "eagle": k, "p_eagle": k, "pard": k, "dflash": k + 1}.get(method or "", 0)
    fitting = -(-(model + lookahead) // size) + 1
    blocks = fitting + draw.randint(1, fitting) if few else 20 * fitting
    if few and wish.get("short"):
        blocks = fitting + 1
    table = None
    if wish.get("table") and k:
        first, second = sorted(draw.sample(range(1, seqs + 4), 2))
        table = [[1, first, k], [second, second + 2, draw.randint(0, k)], [second + 5, 1000, draw.choice([0, 1])]]
    limits = {
        "max_num_seqs": seqs, "max_num_batched_tokens": budget, "block_size": size, "num_kv_blocks": blocks,
        "chunked_prefill": wish.get("chunked", True), "prefix_caching": bool(wish.get("prefix")),
        "scheduling_policy": wish.get("policy", "fcfs"), "scheduler_reserve_full_isl": wish.get("reserve", True),
        "long_prefill_token_threshold": draw.randint(8, 24) if wish.get("threshold") else 0,
        "long_prefill_token_threshold_adaptive": bool(wish.get("threshold")) and draw.random() < 0.4,
        "watermark": wish.get("watermark", 0.0), "max_model_len": model,
        "async_scheduling": bool(wish.get("async")),
    }  # fmt: skip
    return {
        "name": name, "seed": seed, "limits": limits, "method": method, "k": k, "table": table,
        "fixed_k": wish.get("fixed_k", False), "requests": requests,
    }  # fmt: skip


def arrivals(draw: random.Random, wish: dict[str, Any], size: int) -> list[tuple[int, int, int, int, list[int]]]:
    """(step, prompt tokens, output tokens, priority, prompt token ids)."""
    shared = [[draw.randrange(1 << 30) for _ in range(draw.randint(size, 9 * size))] for _ in range(3)]
    rows, step = [], 0
    for _ in range(draw.randint(8, 22)):
        step += draw.choice([0, 0, 1] if wish.get("blocks") == "few" else [0, 0, 1, 2, 4])
        prompt = 1 if wish.get("prompts") == "one" and draw.random() < 0.6 else draw.randint(1, 90)
        tokens = [draw.randrange(1 << 30) for _ in range(prompt)]
        if wish.get("prefix") and draw.random() < 0.8:
            start = draw.choice(shared)
            whole = len(start) // size * size
            cut = draw.choice([len(start), draw.randint(1, len(start)), whole])
            tokens = start[:cut] + tokens[: draw.choice([0, 1, 1, 5, prompt])]
            if wish["prefix"] == "and one token":
                tokens = [*start[:whole], draw.randrange(1 << 30)]
        output = (
            draw.randint(2, 9)
            if wish.get("short")
            else draw.choice([1, 2, 3, draw.randint(1, 40), draw.randint(20, 70), draw.randint(20, 70)])
        )
        rows.append((step, len(tokens), output, draw.randint(0, 2), tokens))
    return rows


def speculative_config(case: dict[str, Any]) -> SpeculativeConfig | None:
    """vLLM's configuration without its validation, which would load a draft model's files."""
    if case["method"] is None:
        return None
    config = object.__new__(SpeculativeConfig)
    method, parallel = METHODS[case["method"]]
    for key, value in {
        "method": method, "parallel_drafting": parallel, "num_speculative_tokens": case["k"],
        "num_speculative_tokens_per_batch_size": case["table"] and [tuple(row) for row in case["table"]],
        "disable_eagle_block_drop": False, "draft_model_config": None, "disable_padded_drafter_batch": False,
    }.items():  # fmt: skip
        object.__setattr__(config, key, value)
    return config


class Recorder:
    """One scenario on vLLM's scheduler."""

    def __init__(self, case: dict[str, Any], model: str) -> None:
        self.case, self.draw = case, random.Random(case["seed"] + 1_000_000)
        limits = case["limits"]
        config = VllmConfig(
            model_config=ModelConfig(
                model=model, dtype="float32", seed=0, skip_tokenizer_init=True, max_model_len=limits["max_model_len"]
            ),
            cache_config=CacheConfig(
                block_size=limits["block_size"], enable_prefix_caching=limits["prefix_caching"],
                gpu_memory_utilization=0.9,
            ),
            scheduler_config=SchedulerConfig(
                max_num_seqs=limits["max_num_seqs"], max_num_batched_tokens=limits["max_num_batched_tokens"],
                max_model_len=limits["max_model_len"], enable_chunked_prefill=limits["chunked_prefill"],
                long_prefill_token_threshold=limits["long_prefill_token_threshold"],
                long_prefill_token_threshold_adaptive=limits["long_prefill_token_threshold_adaptive"],
                policy=limits["scheduling_policy"], watermark=limits["watermark"],
                scheduler_reserve_full_isl=limits["scheduler_reserve_full_isl"],
                async_scheduling=limits["async_scheduling"], is_encoder_decoder=False,
            ),
        )  # fmt: skip
        config.cache_config.num_gpu_blocks = limits["num_kv_blocks"]
        config.speculative_config = speculative_config(case)
        spec = FullAttentionSpec(block_size=limits["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32)
        kv_cache = KVCacheConfig(
            num_blocks=limits["num_kv_blocks"], kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(layer_names=["layer"], kv_cache_spec=spec)],
        )  # fmt: skip
        kind = AsyncScheduler if limits["async_scheduling"] else Scheduler
        grammar = SimpleNamespace(accept_tokens=lambda *_: True, validate_tokens=lambda _, tokens: tokens)
        self.scheduler = kind(config, kv_cache, grammar, block_size=limits["block_size"])
        self.config = config
        self.hash_numbers: dict[Any, int] = {}
        self.requests = [self.request(number, *row) for number, row in enumerate(case["requests"])]
        self.rate = self.draw.choice([0.0, 0.4, 0.7, 0.9, 1.0])
        self.events: list[list[Any]] = []
        self.steps = 0

    def request(self, number: int, step: int, prompt: int, output: int, priority: int, tokens: list[int]) -> Request:
        del step, prompt
        hasher = get_request_block_hasher(self.case["limits"]["block_size"], sha256)
        return Request(
            f"{number:04d}", tokens, SamplingParams(max_tokens=output, ignore_eos=True), None,
            arrival_time=float(number), priority=priority, block_hasher=hasher,
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        numbers = [
            [self.hash_numbers.setdefault(value, len(self.hash_numbers)) for value in request.block_hashes]
            if self.case["limits"]["prefix_caching"] else []
            for request in self.requests
        ]  # fmt: skip
        depth = 2 if self.case["limits"]["async_scheduling"] else 1
        flying: deque[tuple[Any, dict[str, bool]]] = deque()
        next_request = 0
        while next_request < len(self.requests) or self.scheduler.get_num_unfinished_requests() or flying:
            arrived = []
            while next_request < len(self.requests) and self.case["requests"][next_request][0] <= self.steps:
                self.scheduler.add_request(self.requests[next_request])
                arrived.append(next_request)
                next_request += 1
            if self.scheduler.get_num_unfinished_requests() or arrived:
                flying.appendleft(self.schedule(arrived))
                if len(flying) < depth and flying[0][0].total_num_scheduled_tokens:
                    continue
            elif not flying:
                self.steps = self.case["requests"][next_request][0]
                continue
            self.update(*flying.pop(), sync=depth == 1)
            if self.steps > STEP_LIMIT:
                raise RuntimeError(f"{self.case['name']} does not end")
        lookahead = self.config.num_lookahead_tokens
        spec = self.config.speculative_config
        scheduler = {
            "max_draft_tokens": self.case["k"], "lookahead_tokens": lookahead,
            "draft_slots": spec.max_num_new_slots_for_drafting if spec else 0,
            "recompute_last_hit": self.scheduler.use_eagle_block_drop,
            "pads_new_decodes": bool(spec) and self.scheduler.dynamic_sd_lookup is None,
        }  # fmt: skip
        rows = [[*row[:4], names] for row, names in zip(self.case["requests"], numbers, strict=True)]
        return {
            "name": self.case["name"], "seed": self.case["seed"], "vllm": vllm.__version__,
            "method": self.case["method"], "table": self.case["table"], "limits": self.case["limits"],
            "scheduler": scheduler, "requests": rows, "events": self.events,
        }  # fmt: skip

    def free_blocks(self) -> int:
        return self.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()

    def schedule(self, arrived: list[int]) -> tuple[Any, dict[str, bool]]:
        known = {name: request.num_preemptions for name, request in self.scheduler.requests.items()}
        output = self.scheduler.schedule()
        self.steps += 1
        drafts = output.scheduled_spec_decode_tokens
        shares = [
            [int(name), tokens, len(drafts.get(name, ())),
             self.scheduler.requests[name].num_computed_tokens - tokens]
            for name, tokens in output.num_scheduled_tokens.items()
        ]  # fmt: skip
        preempted = sorted(
            int(name) for name, request in self.scheduler.requests.items() if request.num_preemptions > known[name]
        )
        waiting = [int(request.request_id) for request in self.scheduler.waiting]
        k = output.num_spec_tokens_to_schedule
        self.events.append(["s", arrived, shares, preempted, self.free_blocks(), waiting, k])
        return output, {
            name: not self.scheduler.requests[name].is_prefill_chunk for name in output.num_scheduled_tokens
        }

    def update(self, output: Any, emits: dict[str, bool], *, sync: bool) -> None:
        names = list(output.num_scheduled_tokens)
        accepted, sampled = [], []
        # Nobody has drafted for a sequence that was just admitted: its drafts are padding, and never right.
        admitted = {new.req_id for new in output.scheduled_new_reqs} | output.scheduled_cached_reqs.resumed_req_ids
        for name in names:
            drafts = 0 if name in admitted else len(output.scheduled_spec_decode_tokens.get(name, ()))
            right = 0
            while right < drafts and self.draw.random() < self.rate:
                right += 1
            accepted.append(right)
            sampled.append([self.draw.randrange(1 << 30) for _ in range(1 + right)] if emits[name] else [])
        before = {name: len(self.requests[int(name)].output_token_ids) for name in names}
        self.scheduler.update_from_output(
            output, ModelRunnerOutput(names, {name: i for i, name in enumerate(names)}, sampled)
        )
        emitted = [len(self.requests[int(name)].output_token_ids) - before[name] for name in names]
        proposals = self.propose(output, names, emits) if sync else []
        self.events.append(["u", accepted, emitted, self.free_blocks(), proposals])

    def propose(self, output: Any, names: list[str], emits: dict[str, bool]) -> list[list[int]]:
        most = output.num_spec_tokens_to_schedule
        if self.config.speculative_config is None:
            return []
        short = self.case["method"] == "ngram" and not self.case["fixed_k"]
        proposals = [self.draw.randint(0, most) if short and emits[name] else most for name in names]
        self.scheduler.update_draft_token_ids(
            DraftTokenIds(names, [[self.draw.randrange(1 << 30) for _ in range(count)] for count in proposals])
        )
        alive = self.scheduler.requests
        return [
            [int(name), count] for name, count in zip(names, proposals, strict=True) if emits[name] and name in alive
        ]


def main() -> None:
    target = Path(sys.argv[1])
    init_none_hash(sha256)
    with tempfile.TemporaryDirectory() as model:
        Path(model, "config.json").write_text(json.dumps(TINY_MODEL))
        lines = []
        for case in scenarios():
            record = Recorder(case, model).record()
            steps = sum(event[0] == "s" for event in record["events"])
            preempted = sum(len(event[3]) for event in record["events"] if event[0] == "s")
            print(f"{record['name']:26s} {steps:5d} steps {preempted:4d} preemptions", flush=True)
            lines.append(json.dumps(record, separators=(",", ":")))
    target.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))


if __name__ == "__main__":
    main()
