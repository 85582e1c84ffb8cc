"""SGLang's speculation flags, read and written: the draft's shape is in sglang_shape, the adaptive JSON that a
batch-size schedule becomes in sglang_adaptive.

Rules restated from sgl-project/sglang: ``srt/arg_groups/fields/spec.py`` (commit 015c872) and
``srt/arg_groups/speculative_hook.py`` (004c82e). ``--speculative-num-draft-tokens`` counts verified tokens, the root
included: a chain of ``num_steps`` drafts has ``num_steps`` + 1.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from specsim.errors import InvalidInput, NoAnswer, unknown_name
from specsim.interop.command_line import Command, read_command
from specsim.interop.engine_config import (
    EngineConfig,
    EngineText,
    kept_notes,
    left_out_notes,
    mean_length_rates,
    used_steps,
)
from specsim.interop.sglang_adaptive import (
    DEFAULT_TIERS,
    FILE,
    padding_notes,
    read_tiers,
    tier_fields,
    tiers_text,
)
from specsim.interop.sglang_shape import read_shape, shape_options, speculative_number
from specsim.json_file import read_json_object
from specsim.named_files import file_named
from specsim.specs.yaml_file import build
from specsim.speculation.policy import Tier, TieredPolicy

PAGE_SIZE = 1  # SGLang's own, unless --page-size says otherwise
RUNNING_REQUESTS = 48  # SGLang's cap under speculation unless --max-running-requests says otherwise

_METHODS = {
    "EAGLE": "eagle",
    "EAGLE3": "eagle3",
    "NEXTN": "mtp",
    "STANDALONE": "draft_model",
    "NGRAM": "ngram",
    "DFLASH": "dflash",
    "DSPARK": "dspark",
}
_ADAPTIVE = {"eagle", "eagle3", "mtp"}
_READ = {
    "algorithm", "draft-model-path", "draft-model", "num-steps", "eagle-topk", "num-draft-tokens", "dflash-block-size",
    "dspark-block-size", "ngram-max-bfs-breadth", "adaptive", "adaptive-config",
}  # fmt: skip
_UNMODELLED = {
    f"speculative_{name}" for name in (
        "accept_threshold_acc", "accept_threshold_single", "attention_mode", "domino_candidate_pool_size",
        "draft_attention_backend", "draft_kv_cache_dtype", "draft_load_format", "draft_model_quantization",
        "draft_model_revision", "draft_sink_size", "draft_window_size", "dsa_topk_backend",
        "dspark_align_verify_tokens_to_graph_tier", "dspark_confidence_sts_path", "dspark_sps_table_path",
        "moe_a2a_backend", "moe_runner_backend", "ngram_capacity", "ngram_external_corpus_max_tokens",
        "ngram_external_corpus_path", "ngram_external_sam_budget", "ngram_match_type", "ngram_max_trie_depth",
        "ngram_min_bfs_breadth", "skip_dp_mlp_sync", "token_map", "use_block_verification", "use_rejection_sampling",
    )
} | {"speculative_adaptive_config"}  # fmt: skip


def read_sglang(source: str | Sequence[str], adaptive: Mapping[str, Any] | None = None) -> EngineConfig:
    """The config of a ``sglang.launch_server`` command line or of its flags alone.

    ``adaptive``: content of the file that ``--speculative-adaptive-config`` names, else that file is read. Raises
    InvalidInput: no algorithm or an unknown one, a number that is none, steps without topk, a file that is not there,
    a slot without candidates.
    """
    command = read_command(source)
    notes = command.notes()
    method = _method(command, notes)
    tiers, knobs = _adaptive_tiers(command, method, adaptive, notes)
    longest, tree = (None, None) if tiers else read_shape(method, command, notes)
    fields: dict[str, Any] = {
        "engine": "sglang",
        "method": method,
        "draft_model": _flag(command, "draft-model-path", "draft-model"),
        "num_speculative_tokens": longest,
        "tree": tree,
    }
    if (graphs := command.numbers("--cuda-graph-bs-decode", "--cuda-graph-bs")) is not None:
        fields["graph_batch_sizes"] = tuple(sorted(graphs))
    if tiers:
        fields |= tier_fields(tiers, speculative_number(command, "num-steps"), fields.get("graph_batch_sizes") or ())
    fields["acceptance_rates"] = _acceptance(command, tree.num_steps if tree else fields["num_speculative_tokens"])
    fields["limits"] = _limits(command, notes)
    fields["kept"] = _kept(command) | ({"speculative_adaptive_config": knobs} if knobs else {})
    fields["notes"] = (*notes, *kept_notes(fields["kept"], _UNMODELLED, "SGLang"))
    return build(EngineConfig, fields, where="the SGLang flags")


def write_sglang(config: EngineConfig) -> EngineText:
    """Flags for ``sglang.launch_server`` and the adaptive JSON where k depends on the batch.

    Raises NoAnswer for a method that SGLang lacks, a schedule outside EAGLE, EAGLE3 and NEXTN, and, where
    ``graph_batch_sizes`` is known, a change of k that padding to a captured graph would move.
    """
    algorithm = next((name for name, method in _METHODS.items() if method == config.method), None)
    if algorithm is None:
        raise NoAnswer(f"SGLang has no method {config.method!r}; it has {', '.join(_METHODS.values())}")
    options: dict[str, Any] = {"algorithm": algorithm}
    if config.draft_model is not None:
        options["draft-model-path"] = config.draft_model
    tiers, initial = _tiers(config)
    files, notes = dict[str, str](), list(left_out_notes(config, "sglang", "prompt_lookup"))
    if len(tiers) > 1 or len(tiers[0].choices) > 1:
        options |= _adaptive_options(config, tiers, initial)
        files[FILE] = tiers_text(config, tiers)
        notes += padding_notes(tiers, config.graph_batch_sizes)
    else:
        options |= shape_options(config, tiers[0].choices[0])
    words = [word for name, value in options.items() for word in _words(f"--speculative-{name}", value)]
    kept = config.kept if config.engine == "sglang" else {}
    words += [
        w
        for name, value in kept.items()
        if name != "speculative_adaptive_config"
        for w in _words(_dashed(name), value)
    ]
    words = [*_acceptance_words(config, notes), *words, *_limit_words(config, notes)]
    return EngineText(shlex.join(words), files, tuple(notes))


def changes_with_batch(method: str) -> bool:
    """Whether SGLang can draft another length at another batch size with this method."""
    return method in _ADAPTIVE


def _flag(command: Command, *names: str) -> str | None:
    return command.value(*(f"--speculative-{name}" for name in names))


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _words(flag: str, value: Any) -> list[str]:
    if value is True:
        return [flag]
    return [flag, *map(str, value)] if isinstance(value, tuple | list) else [flag, str(value)]


def _method(command: Command, notes: list[str]) -> str:
    algorithm = _flag(command, "algorithm")
    if algorithm is None:
        raise InvalidInput("the command line has no --speculative-algorithm; add one")
    name = algorithm.upper()
    if name == "LOOKAHEAD":
        notes.append("algorithm LOOKAHEAD is now NGRAM")
        name = "NGRAM"
    if name == "UNO":
        raise NoAnswer("--speculative-algorithm UNO drafts with a LoRA of the target, which specsim does not model")
    if name not in _METHODS:
        raise unknown_name("--speculative-algorithm", name, _METHODS)
    if name == "EAGLE" and _flag(command, "draft-model-path", "draft-model") is None:
        notes.append("EAGLE without a draft model runs the target's own MTP layers: read as mtp")
        return "mtp"
    return _METHODS[name]


def _adaptive_tiers(
    command: Command, method: str, adaptive: Mapping[str, Any] | None, notes: list[str]
) -> tuple[tuple[Tier, ...], dict[str, Any]]:
    """(tiers in ascending order, what else the JSON says); no tiers where SGLang runs its static settings."""
    path = _flag(command, "adaptive-config")
    if "--speculative-adaptive" not in command.flags:
        if path is not None:
            notes.append("--speculative-adaptive-config does nothing without --speculative-adaptive")
        return (), {}
    topk = speculative_number(command, "eagle-topk")
    if method not in _ADAPTIVE or topk not in (None, 1):
        notes.append("SGLang adapts only EAGLE, EAGLE3 and NEXTN with topk 1: its static settings count")
        return (), {}
    if adaptive is None and path is None:
        notes.append("no adaptive file: SGLang's own slots (commit 015c872) are taken")
        return DEFAULT_TIERS, {}
    where = path or "the adaptive JSON"
    tiers, knobs = read_tiers(
        read_json_object(file_named(where), "SGLang's adaptive JSON") if adaptive is None else adaptive, where
    )
    steps, union = speculative_number(command, "num-steps"), sorted({k for tier in tiers for k in tier.choices})
    if steps is not None and steps not in union:
        raise InvalidInput(
            f"--speculative-num-steps is {steps} and the candidates of {where} are {union}; name one of them"
        )
    return tiers, knobs


def _tiers(config: EngineConfig) -> tuple[tuple[Tier, ...], int | None]:
    """The policy as tiers, and the draft length that they start with."""
    if isinstance(config.policy, TieredPolicy):
        return config.policy.tiers, config.policy.initial
    return tuple(Tier(first_batch=first, choices=(k,)) for first, k in used_steps(config, "SGLang")), None


def _adaptive_options(config: EngineConfig, tiers: Sequence[Tier], initial: int | None) -> dict[str, Any]:
    if config.method not in _ADAPTIVE or config.tree is not None:
        raise NoAnswer(
            "SGLang changes the draft length with the batch only for chains of EAGLE, EAGLE3 and NEXTN; "
            f"choose one length for {config.method}"
        )
    steps = max(tier.choices[-1] for tier in tiers) if initial is None else initial
    shape = {"num-steps": steps, "eagle-topk": 1, "num-draft-tokens": steps + 1}
    return shape | {"adaptive": True, "adaptive-config": FILE}


def _acceptance(command: Command, k: int | None) -> tuple[float, ...] | None:
    """SGLANG_SIMULATE_ACC_LEN, the mean acceptance length with the bonus token; 0 or less leaves it off."""
    text = command.environment.get("SGLANG_SIMULATE_ACC_LEN")
    if text is None or k is None:
        return None
    try:
        length = float(text)
    except ValueError:
        raise InvalidInput(f"SGLANG_SIMULATE_ACC_LEN is {text!r}; it should be a number") from None
    return mean_length_rates(length, k) if length > 0 else None


def _acceptance_words(config: EngineConfig, notes: list[str]) -> list[str]:
    rates = config.acceptance_rates
    if rates is None:
        return []
    length = 1 + sum(rates)
    if mean_length_rates(length, len(rates)) != rates:
        notes.append("SGLang imposes the mean acceptance length only; the spread over positions is lost")
    settings = [f"SGLANG_SIMULATE_ACC_LEN={length!r}", "SGLANG_SIMULATE_ACC_METHOD=match-expected"]
    return [*settings, "python", "-m", "sglang.launch_server"]


def _limits(command: Command, notes: list[str]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    requests, page = command.number("--max-running-requests"), command.number("--page-size")
    if requests is None:
        notes.append(f"without --max-running-requests SGLang caps speculation at {RUNNING_REQUESTS} requests")
    limits["max_num_seqs"] = RUNNING_REQUESTS if requests is None else requests
    if page is not None:
        limits["block_size"] = page
    if (tokens := command.number("--max-total-tokens")) is not None:
        limits["num_kv_blocks"] = int(tokens // (page or PAGE_SIZE))
    if (chunk := command.number("--chunked-prefill-size")) is not None:
        limits["chunked_prefill"] = chunk > 0
    if "--disable-cuda-graph" in command.flags:
        limits["graph_sizes"] = ()
    return limits


def limit_flags(limits: Mapping[str, Any]) -> list[str]:
    """Fields of EngineLimits as flags of ``sglang.launch_server``; those that it has no flag for are left out."""
    words = list[str]()
    if "max_num_seqs" in limits:
        words += ["--max-running-requests", str(limits["max_num_seqs"])]
    if "block_size" in limits:
        words += ["--page-size", str(limits["block_size"])]
    if "num_kv_blocks" in limits:
        blocks, size = limits["num_kv_blocks"], limits.get("block_size", PAGE_SIZE)
        words += ["--max-total-tokens", str(blocks * size)]
    if limits.get("chunked_prefill") is False:
        words += ["--chunked-prefill-size", "-1"]
    if limits.get("graph_sizes") == ():
        words.append("--disable-cuda-graph")
    return words


def _limit_words(config: EngineConfig, notes: list[str]) -> list[str]:
    words = limit_flags(config.limits)
    if "max_num_seqs" not in config.limits:
        notes.append(f"SGLang caps speculation at {RUNNING_REQUESTS} requests unless --max-running-requests is given")
    if config.graph_batch_sizes is not None:
        words += ["--cuda-graph-bs-decode", *map(str, config.graph_batch_sizes)]
    return words


def _kept(command: Command) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for flag, values in command.flags.items():
        name = flag.removeprefix("--speculative-")
        if flag.startswith("--speculative-") and name not in _READ:
            kept[f"speculative_{name.replace('-', '_')}"] = (
                (list(values) if len(values) > 1 else values[0]) if values else True
            )
    return kept
