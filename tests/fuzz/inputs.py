"""Random wrong inputs of every kind that people bring, each as one command line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.fuzz.mutate import EXTREME, damaged, mutated

SHORT = (
    "--set=workload.requests=6",
    "--set=workload.lengths={kind: fixed, prompt_tokens: 20, output_tokens: 6}",
)
VERBS = (
    ["predict"],
    ["predict", "--json"],
    ["simulate", *SHORT],
    ["simulate", *SHORT, "--json"],
    ["tune", "--for=vllm"],
)
SCENARIO = Path(__file__).parents[2] / "specsim" / "presets" / "cpu-144m.yaml"
GPU = {
    "schema": 1, "name": "served", "model": "llama-3.1-8b", "gpu": "h100-sxm",
    "cost": {"profile": "nvidia-h100-aiconfigurator-vllm-0.24.0"},
    "deployment": {"tensor_parallel": 2, "replicas": 2, "weight_bits": 8, "router": "least_outstanding"},
    "engine": {"max_num_seqs": 64, "prefix_caching": True, "scheduling_policy": "priority"},
    "speculation": {
        "program": "eagle3", "max_draft_tokens": 4,
        "acceptance": {"kind": "latent", "requests": {"kind": "beta", "mean": 0.6, "concentration": 4.0}},
        "policy": {"kind": "table", "ranges": [[1, 8, 4], [9, 64, 1]]},
    },
    "workload": {
        "kind": "synthetic", "arrivals": {"kind": "poisson", "rate_per_s": 3.0},
        "lengths": {
            "kind": "lognormal", "prompt_mean": 200.0, "output_mean": 50.0, "prompt_cv": 1.0, "output_cv": 0.5,
        },
        "requests": 20,
    },
    "slo": {"ttft_s": {"p95": 1.0}, "goodput": {"tpot_s": 0.04}},
}  # fmt: skip
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
    "vocab_size": 128256, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
}  # fmt: skip
TRACE_CSV = "timestamp,input_length,output_length\n" + "".join(f"{n * 500},{100 + n},{10 + n}\n" for n in range(12))
TRACE_JSON = "".join(
    json.dumps({"timestamp": n * 500, "input_length": 600, "output_length": 20, "hash_ids": [0, n]}) + "\n"
    for n in range(12)
)
METRICS = "".join(
    f'vllm:spec_decode_num_{name}_total{{model_name="m"}} {value}.0\n'
    for name, value in (("drafts", 100), ("draft_tokens", 300), ("accepted_tokens", 200))
) + "".join(
    f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{model_name="m",position="{at}"}} {count}.0\n'
    for at, count in enumerate((90, 70, 40))
)
LOGS = (
    "INFO SpecDecoding metrics: Mean acceptance length: 3.00, Accepted: 200 tokens, Drafted: 300 tokens, "
    "Per-position acceptance rate: 0.900, 0.700, 0.400, Avg Draft acceptance rate: 66.7%\n",
    "Decode batch. #running-req: 8, #token: 7352, accept len: 2.50, accept rate: 0.50, #queue-req: 0,\n",
)
RESULTS = (
    {
        "completed": 64, "total_input_tokens": 46_000, "total_output_tokens": 16_384, "output_throughput": 1638.4,
        "request_throughput": 6.4, "request_rate": "inf", "max_concurrency": 8, "spec_decode_num_drafts": 100,
        "spec_decode_per_position_acceptance_rates": [0.9, 0.7, 0.4], "spec_decode_draft_tokens": 300,
    },
    {
        "time_to_first_token": {"avg": 1.0}, "request_throughput": {"avg": 2.0}, "total_draft_tokens": {"avg": 300.0},
        "output_token_throughput": {"avg": 9.0}, "input_sequence_length": {"avg": 7.0},
        "output_sequence_length": {"avg": 3.0}, "pooled_spec_decode_acceptance_histogram": {"0": 10, "3": 40},
    },
    {"metrics": {"speculative_decoding": {"per_step_accepted": [1, 0], "per_step_drafted": [3, 3]}}},
    {"timings": {"predicted_n": 256, "draft_n": 259, "draft_n_accepted": 167}},
    {"spec_decode_acceptance_counts": {"3": [10, 20, 30, 40]}},
    CONFIG,
)  # fmt: skip
COMMANDS = (
    "vllm serve meta-llama/Llama-3.1-8B --speculative-config "
    '\'{"method": "eagle3", "model": "yuhuili/EAGLE3", "num_speculative_tokens": 3}\' --max-num-seqs 64 -tp 2',
    "python -m sglang.launch_server --model-path m --speculative-algorithm EAGLE3 --speculative-num-steps 3 "
    "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4 --mem-fraction-static 0.8",
    "cat << EOF > extra.yaml\nenable_attention_dp: true\nkv_cache_config: {dtype: fp8, max_tokens: 64000}\n"
    "cuda_graph_config: {batch_sizes: [1, 2, 4]}\nspeculative_config: {decoding_type: MTP, max_draft_len: 2}\nEOF\n"
    "TP=8; trtllm-serve deepseek-ai/DeepSeek-V3 --tp_size ${TP:-4} --extra_llm_api_options extra.yaml",
    "model: Qwen/Qwen3-8B\nmax-num-seqs: 64\nspeculative-config: {method: ngram, num_speculative_tokens: 3}\n",
)


def scenario(chance: random.Random, folder: Path) -> list[str]:
    """A scenario with wrong values, or a damaged text of one."""
    document = chance.choice((yaml.safe_load(SCENARIO.read_text()), GPU))
    file = folder / "scenario.yaml"
    if chance.random() < 0.8:
        file.write_text(yaml.safe_dump(mutated(document, chance), allow_unicode=True))
    else:
        file.write_bytes(damaged(yaml.safe_dump(document), chance))
    verb, *rest = chance.choice(VERBS)
    return [verb, str(file), *rest]


def setting(chance: random.Random, folder: Path) -> list[str]:
    """A right scenario with a wrong ``--set``."""
    places = [
        "engine.max_num_seqs", "engine.host_step_s", "engine.block_size", "engine.num_kv_blocks", "conditions.memory",
        "deployment.replicas", "deployment.tensor_parallel", "speculation.max_draft_tokens", "speculation.acceptance",
        "speculation.acceptance.rate", "speculation.policy", "speculation.program", "workload.requests", "seed",
        "workload.arrivals", "workload.arrivals.rate_per_s", "workload.lengths.prompt_tokens", "slo.ttft_s.p95", "gpu",
        "model.hidden_size", "model.num_layers", "model.vocab_size", "cost", "cost.profile", "engine", "", "a.b.c",
    ]  # fmt: skip
    value = chance.choice(EXTREME)
    text = json.dumps(value) if chance.random() < 0.8 else str(value)
    verb, *rest = chance.choice(VERBS)
    return [verb, "cpu-144m", *rest, f"--set={chance.choice(places)}={text}".replace("\x00", "\\0")]


def model_config(chance: random.Random, folder: Path) -> list[str]:
    """A model's config.json with wrong values."""
    file = folder / "config.json"
    if chance.random() < 0.8:
        file.write_text(json.dumps(mutated(CONFIG, chance)))
    else:
        file.write_bytes(damaged(json.dumps(CONFIG), chance))
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(GPU | {"model": str(file)}))
    return ["predict", str(path)]


def trace(chance: random.Random, folder: Path) -> list[str]:
    """A trace with damaged rows."""
    file = folder / "trace.txt"
    if chance.random() < 0.5:
        file.write_bytes(damaged(chance.choice((TRACE_CSV, TRACE_JSON)), chance))
    else:
        rows = [
            mutated(json.loads(line), chance) if chance.random() < 0.2 else json.loads(line)
            for line in TRACE_JSON.splitlines()
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(GPU | {"workload": {"kind": "trace", "path": str(file)}}))
    return ["simulate", str(path), "--json"]


def profile(chance: random.Random, folder: Path) -> list[str]:
    """A profile with a damaged file."""
    source = Path(__file__).parents[2] / "profiles" / "nvidia-l40s-aiconfigurator-vllm-0.24.0"
    copy = folder / "profile"
    copy.mkdir(exist_ok=True)
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    victim = chance.choice(sorted(copy.iterdir()))
    text = victim.read_text()
    if victim.suffix == ".yaml" and chance.random() < 0.6:
        victim.write_text(yaml.safe_dump(mutated(yaml.safe_load(text), chance), allow_unicode=True))
    else:
        victim.write_bytes(damaged(text, chance))
    return chance.choice((["profile", "show", f"{copy}/"], ["predict", "cpu-144m", f"--set=cost.profile={copy}/"]))


def log(chance: random.Random, folder: Path) -> list[str]:
    """Logs, metrics and results with wrong counts."""
    file = folder / "server.txt"
    kind = chance.randrange(4)
    if kind == 0:
        file.write_bytes(damaged(METRICS, chance))
    elif kind == 1:
        file.write_bytes(damaged(chance.choice(LOGS), chance))
    else:
        document = chance.choice(RESULTS)
        file.write_text(json.dumps(mutated(document, chance)))
    return ["import", chance.choice(("acceptance", "acceptance", "bench", "trace", "model")), str(file)]


def command_line(chance: random.Random, folder: Path) -> list[str]:
    """An engine's command line, damaged."""
    text = damaged(chance.choice(COMMANDS), chance).decode(errors="replace").replace("\x00", " ")
    return ["import", "config", text]


WORDS = (
    "", "0", "-1", "nan", "inf", "1e400", "h100", "4x h100", "0x h100", "x4", "é", "a" * 400, "../..", "/etc/passwd",
    "vllm", "vllm 0.1", "vllm abc", "sglang:", "1ms", "5s", "0ms", "none", "[1,2]", "{a: b}", "eagle-3", "x.yaml", ".",
)  # fmt: skip


def short_options(chance: random.Random, folder: Path) -> list[str]:
    """A question in a dozen words, some of them wrong, with or without a file under it."""
    options = ("model", "gpu", "tp", "drafter", "draft-tokens", "rate", "concurrency", "prompt", "output", "ttft-p95")
    options += ("tpot-p95", "engine", "from")
    start = ["cpu-144m"] if chance.random() < 0.3 else ["--model", "llama-3.1-8b", "--gpu", "h100"]
    asked = [f"--{name}={chance.choice(WORDS)}" for name in chance.sample(options, chance.randint(1, 4))]
    return ["init", *start, *asked]


KINDS: dict[str, Callable[[random.Random, Path], list[str]]] = {
    "scenario": scenario, "setting": setting, "config": model_config, "trace": trace, "profile": profile,
    "log": log, "command line": command_line, "short options": short_options,
}  # fmt: skip
