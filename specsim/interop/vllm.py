"""vLLM's ``--speculative-config``, read and written.

Rules restated from vllm 0.32.0 (``vllm/config/speculative.py``, ``vllm/v1/spec_decode/dynamic/utils.py``,
``v1/core/sched/scheduler.py``); what 0.33.0 adds or drops is said where it matters. A batch-size schedule is a list
of inclusive ranges [first, last, k] in any order; the lowest must start at 1, none may overlap, a gap and everything
beyond the last range keep the k before it. vLLM looks k up by the number of requests just scheduled, cuts a k above
``num_speculative_tokens`` silently (here it is refused), and drops the schedule under data parallelism.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from specsim.errors import InvalidInput, NoAnswer, unknown_name
from specsim.interop.command_line import Command, read_command
from specsim.interop.engine_config import (
    EngineConfig,
    EngineText,
    kept_notes,
    left_out_notes,
    mean_length_rates,
    steps_ranges,
    used_steps,
)
from specsim.interop.server_flags import flag_table, spelled_out, stated_fields, written_flags
from specsim.interop.vllm_old_keys import FLAG, OLD_KEYS, SCHEDULE, in_current_keys
from specsim.json_file import parse_json, parse_json_object
from specsim.specs.yaml_file import build
from specsim.speculation.policy import TablePolicy

QUOTED = "quote it as '{\"method\": ...}'"
_METHODS = (
    "draft_model", "ngram", "ngram_gpu", "eagle", "eagle3", "mtp", "medusa", "mlp_speculator", "suffix", "dflash",
    "dspark",
)  # fmt: skip
_WITHOUT_MODEL = {"ngram", "ngram_gpu", "suffix", "mtp", "dspark"}
_PARALLEL = {"draft_model": "pard", "eagle3": "p_eagle"}
_GONE = {"medusa", "mlp_speculator"}
_UNMODELLED = {
    "code_revision", "disable_eagle_block_drop", "disable_padded_drafter_batch", "draft_lm_head_quantization",
    "draft_load_config", "draft_sample_method", "draft_tensor_parallel_size", "dspark_draft_topk",
    "enable_adaptive_verification", "enforce_eager", "fly_entropy_threshold", "fly_entropy_top_k", "fly_window_size",
    "index_share_for_mtp_iteration", "kv_cache_dtype", "max_model_len", "moe_backend", "attention_backend",
    "quantization", "rejection_sample_method", "revision", "suffix_decoding_max_cached_requests",
    "suffix_decoding_max_spec_factor", "suffix_decoding_max_tree_depth", "suffix_decoding_min_token_prob",
    "use_heterogeneous_vocab", "use_local_argmax_reduction", "xpress_topc",
}  # fmt: skip


class _SpeculativeConfig(BaseModel):
    """The keys that specsim models, with vLLM's types; the others pass through."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str | None = None
    model: str | None = None
    num_speculative_tokens: PositiveInt | None = None
    num_speculative_tokens_per_batch_size: list[tuple[PositiveInt, PositiveInt, NonNegativeInt]] | None = None
    prompt_lookup_max: PositiveInt | None = None
    prompt_lookup_min: PositiveInt | None = None
    parallel_drafting: bool = False
    rejection_sample_method: str = "standard"
    synthetic_acceptance_rates: list[float] | None = None
    synthetic_acceptance_length: float | None = None
    suffix_decoding_max_tree_depth: PositiveInt = Field(24, exclude=True)


def read_vllm(source: Mapping[str, Any] | str | Sequence[str]) -> EngineConfig:
    """The config of a ``--speculative-config`` (its JSON text or content) or of a whole ``vllm serve`` command line.

    Old spellings are read as what replaced them, keys that specsim does not model are kept; ``notes`` says so. Flags
    about neither speculation nor the scheduler's limits are not read. Raises InvalidInput: malformed JSON, a wrong
    type, an empty or overlapping schedule, a k above ``num_speculative_tokens``, a method that vLLM does not know.
    """
    command, told = Command({}, {}), list[str]()
    if isinstance(source, Mapping):
        content = dict(source)
    elif isinstance(source, str) and source.lstrip().startswith("{"):
        content = parse_json_object(source, FLAG, QUOTED)
    else:
        command = spelled_out(read_command(source), flag_table("vllm"))
        content = _from_flags(command, told := command.notes())
    fields, notes = in_current_keys(content)
    notes = [*told, *notes]
    parsed = build(_SpeculativeConfig, fields, where=FLAG)
    return _config(parsed, set(fields), command, notes)


def write_vllm(config: EngineConfig) -> EngineText:
    """Flags for ``vllm serve``. Raises NoAnswer for a method that vLLM lacks, a tree, or a policy it cannot follow."""
    if config.tree is not None:
        raise NoAnswer(f"vLLM drafts chains and the config asks for a tree of topk {config.tree.topk}; set topk 1")
    steps = used_steps(config, "vLLM")
    parallel = config.method in _PARALLEL.values()
    method = next((name for name, other in _PARALLEL.items() if other == config.method), config.method)
    if method not in _METHODS:
        raise NoAnswer(f"vLLM has no method {config.method!r}; it has {', '.join((*_METHODS, *_PARALLEL.values()))}")
    if config.draft_model is None and method not in _WITHOUT_MODEL:
        raise NoAnswer(f"vLLM's method {method!r} loads a checkpoint; name one as draft_model")
    longest = max(k for _, k in steps)
    content: dict[str, Any] = {"method": method, "num_speculative_tokens": longest}
    if config.draft_model is not None:
        content["model"] = config.draft_model
    if parallel:
        content["parallel_drafting"] = True
    if config.prompt_lookup is not None:
        content["prompt_lookup_min"], content["prompt_lookup_max"] = config.prompt_lookup
    if len(steps) > 1:
        content[SCHEDULE] = [list(entry) for entry in steps_ranges(steps, config.limits.get("max_num_seqs"))]
    if config.acceptance_rates is not None:
        content["rejection_sample_method"] = "synthetic"
        content["synthetic_acceptance_rates"] = list(config.acceptance_rates[:longest])
    if config.engine == "vllm":
        content |= config.kept
    words = [FLAG, json.dumps(content), *limit_flags(config.limits)]
    notes = left_out_notes(config, "vllm", "graph_batch_sizes")
    if method in _GONE:
        notes += (f"method {method} is gone in vLLM 0.33; use 0.32 or older",)
    return EngineText(shlex.join(words), notes=notes)


def _from_flags(command: Command, notes: list[str]) -> dict[str, Any]:
    """The JSON, or its keys given one by one (``--speculative-config.method``), the short forms and the flags of old.

    vLLM makes a JSON of its own of the keys given one by one, and of two JSONs it takes the last.
    """
    text = command.value(FLAG)
    nested = {f"{FLAG}.{key}": key for flag in command.flags if (key := flag.partition(f"{FLAG}.")[2])}
    if nested and text is not None:
        notes.append(f"vLLM takes {', '.join(nested)} and drops the JSON of {FLAG}")
        text = None
    content = {} if text is None else parse_json_object(text, FLAG, QUOTED)
    single = {"--spec-method": "method", "--spec-model": "model", "--spec-tokens": "num_speculative_tokens"} | nested
    old = ("num_speculative_tokens", *OLD_KEYS)
    single |= {f"--{key.replace('_', '-')}": key for key in old}
    for flag, key in single.items():
        value = command.value(flag)
        if value is None:
            continue
        if key.replace("-", "_") in content:
            raise InvalidInput(f"{flag} and {FLAG}'s {key} are both given; keep one")
        content[key] = _literal(value)
    if not content:
        raise InvalidInput(f"the command line has no {FLAG}; add one or give its JSON")
    return content


def _literal(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _config(parsed: _SpeculativeConfig, given: set[str], command: Command, notes: list[str]) -> EngineConfig:
    method, k = _method(parsed, notes), parsed.num_speculative_tokens
    if k is None and method == "suffix":
        k = parsed.suffix_decoding_max_tree_depth
        notes.append(f"num_speculative_tokens is the tree depth, {k}")
    elif k is None and method in ("ngram", "ngram_gpu", "draft_model", "pard"):
        raise InvalidInput(f"{FLAG}: method {method!r} needs num_speculative_tokens; add it")
    kept = {key: value for key, value in (parsed.model_extra or {}).items() if value is not None}
    if "suffix_decoding_max_tree_depth" in given:
        kept["suffix_decoding_max_tree_depth"] = parsed.suffix_decoding_max_tree_depth
    if parsed.rejection_sample_method not in ("standard", "synthetic"):
        kept["rejection_sample_method"] = parsed.rejection_sample_method
    fields = {
        "engine": "vllm",
        "method": method,
        "num_speculative_tokens": k,
        "draft_model": None if parsed.model in ("ngram", "[ngram]", "ngram_gpu", "suffix") else parsed.model,
        "policy": _schedule(parsed, k, command, notes),
        "prompt_lookup": _prompt_lookup(parsed, method),
        "acceptance_rates": _acceptance(parsed, k),
        "limits": _limits(command),
        "kept": kept,
        "notes": (*notes, *kept_notes(kept, _UNMODELLED, "vLLM 0.33")),
    }
    return build(EngineConfig, fields, where=FLAG)


def _method(parsed: _SpeculativeConfig, notes: list[str]) -> str:
    """The neutral method; like vLLM, a missing or generic one is told from the checkpoint's name."""
    model = parsed.model or ""
    named = parsed.method or ("ngram" if model in ("ngram", "[ngram]") else "draft_model")
    method = named.strip("[]")
    if method != "mtp" and re.fullmatch(r"[a-z0-9_]+_mtp", method):
        notes.append(f"method {method} is now mtp")
        method = "mtp"
    if method in ("custom_class", "extract_hidden_states"):
        raise NoAnswer(f"{FLAG}: method {method!r} is no drafter that specsim could know; choose another")
    if method not in _METHODS:
        raise unknown_name(f"{FLAG} method", method, _METHODS)
    if not model and method not in _WITHOUT_MODEL:
        raise InvalidInput(f"{FLAG}: method {method!r} needs model, the draft checkpoint; add it")
    if method in ("draft_model", "medusa", "mlp_speculator") or (method == "mtp" and model):
        marks = (("eagle-", "eagle"), ("eagle3", "eagle3"), ("dflash", "dflash"), ("dspark", "dspark"))
        seen = next((other for mark, other in marks if mark in model.lower()), method)
        if seen != method:
            notes.append(f"vLLM runs {model} as {seen}, by its name")
        method = seen
    if not parsed.parallel_drafting:
        return method
    if method not in _PARALLEL:
        raise InvalidInput(f"{FLAG}: parallel_drafting goes with {' or '.join(_PARALLEL)}, not {method!r}; remove it")
    return _PARALLEL[method]


def _schedule(parsed: _SpeculativeConfig, k: int | None, command: Command, notes: list[str]) -> TablePolicy | None:
    ranges = parsed.num_speculative_tokens_per_batch_size
    if ranges is None:
        return None
    where = f"{FLAG}: {SCHEDULE}"
    if not ranges:
        raise InvalidInput(f"{where} is empty; write at least one [first, last, k] or remove it")
    for first, last, drafts in ranges:
        if k is not None and drafts > k:
            raise InvalidInput(
                f"{where}: [{first}, {last}, {drafts}] is above num_speculative_tokens {k}, and vLLM would draft {k}; "
                f"write {k} or raise num_speculative_tokens"
            )
    policy = build(TablePolicy, {"ranges": tuple(sorted(ranges))}, where)
    if (command.number("--data-parallel-size") or 1) > 1:
        notes.append(f"under data parallelism vLLM drops the schedule and always drafts {k}")
        return None
    return policy


def _prompt_lookup(parsed: _SpeculativeConfig, method: str) -> tuple[int, int] | None:
    if method not in ("ngram", "ngram_gpu"):
        return None
    low, high = parsed.prompt_lookup_min, parsed.prompt_lookup_max
    return (low or high or 5, high or low or 5)


def _acceptance(parsed: _SpeculativeConfig, k: int | None) -> tuple[float, ...] | None:
    rates, length = parsed.synthetic_acceptance_rates, parsed.synthetic_acceptance_length
    if parsed.rejection_sample_method != "synthetic":
        if rates is not None or length is not None:
            raise InvalidInput(f"{FLAG}: synthetic acceptance needs rejection_sample_method 'synthetic'; add it")
        return None
    if (rates is None) == (length is None) or k is None:
        raise InvalidInput(
            f"{FLAG}: rejection_sample_method 'synthetic' needs num_speculative_tokens and one of "
            "synthetic_acceptance_rates and synthetic_acceptance_length"
        )
    if length is not None:
        if not 1 <= length <= k + 1:
            raise InvalidInput(f"{FLAG}: synthetic_acceptance_length is {length}; it should be from 1 to {k + 1}")
        return mean_length_rates(length, k)
    if len(rates or ()) != k:
        raise InvalidInput(f"{FLAG}: synthetic_acceptance_rates has {len(rates or ())} entries; give {k}, one a draft")
    return tuple(rates or ())


def _limits(command: Command) -> dict[str, Any]:
    limits = stated_fields(command, flag_table("vllm").engine)
    if "--enforce-eager" in command.flags:
        limits["graph_sizes"] = ()
    return limits


def limit_flags(limits: Mapping[str, Any]) -> list[str]:
    """Fields of EngineLimits as flags of ``vllm serve``; those that vLLM has no flag for are left out."""
    eager = limits.get("graph_sizes") == () or limits.get("graph_mode") == "none"
    stated = {name: value for name, value in limits.items() if not (eager and name == "graph_sizes")}
    return [*written_flags(stated, flag_table("vllm").engine), *(["--enforce-eager"] if eager else [])]
