"""Command lines of servers as people paste them, read into a scenario's sections; every flag accounted for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.errors import InvalidInput
from specsim.interop.server import ServerSettings, read_server
from specsim.scenario import load_scenario

EAGLE = '\'{"method": "eagle3", "model": "x/head", "num_speculative_tokens": 3}\''
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:latest
        {words}
        env:
        - name: VLLM_LOGGING_LEVEL
          value: INFO
"""


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64 -tp 2",
        "vllm serve meta-llama/Llama-3.1-8B-Instruct \\\n  --max-num-seqs=64 \\\n  --tensor-parallel-size 2",
        "cd /srv && CUDA_VISIBLE_DEVICES=0,1 nohup vllm serve meta-llama/Llama-3.1-8B --max_num_seqs 64 -tp=2 "
        "> server.log 2>&1 &",
        "export HF_HOME=/data; python -m vllm.entrypoints.openai.api_server --model meta-llama/Llama-3.1-8B "
        "--max-num-seqs 64 -tp 2 | tee log",
        "docker run --gpus all --name vllm-server -e HF_TOKEN=x -v /data:/models -p 8000:8000 "
        "vllm/vllm-openai:v0.24.0 --model meta-llama/Llama-3.1-8B --max-num-seqs 64 --tensor-parallel 2",
        MANIFEST.replace("{words}", 'args: ["--model", "meta-llama/Llama-3.1-8B", "--max-num-seqs=64", "-tp", "2"]'),
        MANIFEST.replace(
            "{words}",
            "command: [/bin/sh, -c]\n        args: ['vllm serve meta-llama/Llama-3.1-8B --max-num-seqs 64 -tp 2']",
        ),
    ],
)
def test_the_same_server_however_it_is_started(text: str) -> None:
    found = read_server(text)
    assert (found.kind, found.model) == ("vllm", "llama-3.1-8b")
    assert (found.engine, found.deployment) == ({"max_num_seqs": 64}, {"tensor_parallel": 2})
    assert found.speculation is None


@given(st.integers(1, 9_000), st.sampled_from("kKmM"))
def test_suffixed_integers_are_vllms(number: int, letter: str) -> None:
    power = 1 if letter in "kK" else 2
    base = 1000 if letter.islower() else 1024
    found = read_server(f"vllm serve m --max-model-len {number}{letter}")
    assert found.engine["max_model_len"] == number * base**power


def test_a_fraction_needs_the_decimal_letter() -> None:
    assert read_server("vllm serve m --max-model-len 25.6k").engine["max_model_len"] == 25_600
    with pytest.raises(InvalidInput, match=r"--max-model-len is '25.6K'"):
        read_server("vllm serve m --max-model-len 25.6K")


def test_every_flag_is_accounted_for() -> None:
    found = read_server(
        "vllm serve m --port 8000 --enable-lora --max-loras 4 --frobnicate 3 --no-enable-prefix-caching "
        "--kv-cache-dtype fp8"
    )
    assert found.engine == {"prefix_caching": False}
    assert found.deployment == {"kv_bits": 8}
    assert found.notes == (
        "known, and not modelled: --enable-lora, --max-loras",
        "without bearing on speed: --port",
        "unknown to specsim: --frobnicate",
        "model 'm' is not bundled: give the path of its config.json as model",
    )


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ("--enforce-eager", {"graph_mode": "none"}),
        ("-O0", {"graph_mode": "none"}),
        ("""--compilation-config '{"cudagraph_mode": "PIECEWISE"}'""", {"graph_mode": "piecewise"}),
        ("""-cc '{"cudagraph_capture_sizes": [8, 1, 2]}'""", {"graph_sizes": (1, 2, 8)}),
        ("--compilation-config.cudagraph_mode FULL_DECODE_ONLY", {"graph_mode": "full_decode_only"}),
        ("--cudagraph-capture-sizes 4 2 1", {"graph_sizes": (1, 2, 4)}),
        ("--max-num-b 8K", {"max_num_batched_tokens": 8192}),  # argparse takes an unambiguous beginning
    ],
)
def test_vllms_graphs_and_abbreviations(flags: str, fields: dict[str, object]) -> None:
    assert read_server(f"vllm serve m {flags}").engine == fields


def test_an_ambiguous_beginning_is_told() -> None:
    with pytest.raises(InvalidInput, match="--max-n may be --max-num-batched-tokens, --max-num-partial-prefills, "):
        read_server("vllm serve m --max-n 3")


@pytest.mark.parametrize(
    ("flags", "deployment"),
    [
        ("--tp 8", {"tensor_parallel": 8}),
        ("--tp 8 --dp 2", {"tensor_parallel": 8, "replicas": 2}),
        (
            "--tp 8 --dp 8 --enable-dp-attention --ep 8",
            {"tensor_parallel": 1, "data_parallel": 8, "expert_parallel": True},
        ),
        ("--tp 2 --kv-cache-dtype fp8_e5m2", {"tensor_parallel": 2, "kv_bits": 8}),
    ],
)
def test_sglangs_parallel_sizes(flags: str, deployment: dict[str, object]) -> None:
    assert read_server(f"python3 -m sglang.launch_server --model-path m {flags}").deployment == deployment


def sections(server: ServerSettings) -> list[str]:
    fields, _ = server.scenario_fields()
    return [f"{name}={json.dumps(value)}" for name, value in fields.items()]


def test_speculation_goes_into_a_scenario() -> None:
    server = read_server(f"vllm serve meta-llama/Llama-3.1-8B --speculative-config {EAGLE}")
    scenario = load_scenario("quickstart", ["gpu=h100-sxm", "speculation=null", *sections(server)])
    assert scenario.speculation is not None
    assert (scenario.speculation.program.name, scenario.speculation.max_draft_tokens) == ("eagle3", 3)


def test_a_tree_becomes_a_tree_program() -> None:
    server = read_server(
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --speculative-algo EAGLE3 "
        "--speculative-draft-model-path x/head --speculative-num-steps 4 --speculative-eagle-topk 4 "
        "--speculative-num-draft-tokens 16"
    )
    scenario = load_scenario("quickstart", ["gpu=h100-sxm", "speculation=null", *sections(server)])
    assert scenario.speculation is not None
    proposal = scenario.speculation.program.proposal
    assert (proposal.kind, proposal.sizes(99)) == ("dynamic_tree", (15,))  # 16 verified with the root
    assert len(proposal.pass_widths(15)) == 4


@pytest.mark.parametrize("text", ["", "echo hello", "docker run postgres:16", "ls | wc", "args: [1]", "vllm serve 'm"])
def test_what_starts_no_server_is_one_line(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_server(text)
    assert "\n" not in str(caught.value)
