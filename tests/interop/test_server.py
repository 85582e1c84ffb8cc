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
        ("-cc.cudagraph_mode=NONE", {"graph_mode": "none"}),
        ("""-O '{"level": 3, "cudagraph_capture_sizes": [4, 2]}'""", {"graph_sizes": (2, 4)}),  # up to 0.11
        ("-O.level=0", {"graph_mode": "none"}),
        ("-O.level=3", {}),
        ("-O=0", {"graph_mode": "none"}),
        (
            "--no-enable-prefix-caching --no-enable-chunked-prefill",
            {"prefix_caching": False, "chunked_prefill": False},
        ),
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
            {"tensor_parallel": 1, "data_parallel": 8, "replicas": 8, "expert_parallel": True},
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
    scenario = load_scenario("cpu-144m", ["gpu=h100-sxm", "speculation=null", *sections(server)])
    assert scenario.speculation is not None
    assert (scenario.speculation.program.name, scenario.speculation.max_draft_tokens) == ("eagle3", 3)


def test_a_tree_becomes_a_tree_program() -> None:
    server = read_server(
        "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --speculative-algo EAGLE3 "
        "--speculative-draft-model-path x/head --speculative-num-steps 4 --speculative-eagle-topk 4 "
        "--speculative-num-draft-tokens 16"
    )
    scenario = load_scenario("cpu-144m", ["gpu=h100-sxm", "speculation=null", *sections(server)])
    assert scenario.speculation is not None
    proposal = scenario.speculation.program.proposal
    assert (proposal.kind, proposal.sizes(99)) == ("dynamic_tree", (15,))  # 16 verified with the root
    assert len(proposal.pass_widths(15)) == 4


@pytest.mark.parametrize("text", ["", "echo hello", "docker run postgres:16", "ls | wc", "args: [1]", "vllm serve 'm"])
def test_what_starts_no_server_is_one_line(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_server(text)
    assert "\n" not in str(caught.value)


LLAMA = "meta-llama/Llama-3.1-8B"


def test_of_a_flag_given_twice_the_last_counts_whatever_its_name() -> None:
    server = read_server(f"vllm serve {LLAMA} -tp 2 --tensor-parallel-size 4 -tp 8")
    assert server.deployment == {"tensor_parallel": 8}
    assert server.notes == ("--tensor-parallel-size is given more than once: the last one, '8', counts",)


@pytest.mark.parametrize(
    "text",
    [
        f"vllm serve --max-num-seqs 64 --enforce-eager {LLAMA}",
        f"vllm serve --trust-remote-code --max-num-seqs 64 --cudagraph-capture-sizes 1 2 {LLAMA} --enforce-eager",
        f"MODEL={LLAMA}; SEQS=64\nvllm serve ${{MODEL}} --max-num-seqs $SEQS ${{MORE:---enforce-eager}}",
    ],
)
def test_the_model_may_come_after_flags_and_out_of_variables(text: str) -> None:
    server = read_server(text)
    assert (server.model, server.engine["max_num_seqs"], server.engine["graph_mode"]) == ("llama-3.1-8b", 64, "none")


def test_words_of_no_flag_are_refused_as_the_engine_does() -> None:
    with pytest.raises(InvalidInput, match="'128' belongs to no flag"):
        read_server(f"vllm serve {LLAMA} --max-num-seqs 64 128")


def test_keys_one_by_one_make_a_json_of_their_own() -> None:
    keys = "--speculative-config.method=ngram -sc.num_speculative_tokens 4 --speculative-config.prompt_lookup_max 4"
    server = read_server(f"vllm serve {LLAMA} {keys}")
    assert server.speculation is not None
    assert (server.speculation.method, server.speculation.prompt_lookup) == ("ngram", (4, 4))
    both = read_server(f"vllm serve {LLAMA} --speculative-config {EAGLE} {keys}").speculation
    assert both is not None
    assert (both.method, both.draft_model) == ("ngram", None)  # vLLM appends the JSON of the keys, and the last counts
    assert any("drops the JSON of --speculative-config" in note for note in both.notes)


def test_variables_of_the_engine_are_named() -> None:
    server = read_server(f"VLLM_USE_V1=0 HF_HOME=/x VLLM_LOGGING_LEVEL=DEBUG vllm serve {LLAMA}")
    assert server.notes == ("set in the environment, and not modelled: VLLM_USE_V1=0",)


def test_a_file_gives_way_to_vllms_flags_and_overrides_tensorrt_llms() -> None:
    words = "cat <<EOF > run.yaml\n{keys}\nEOF\n{call} --config run.yaml"
    keys = f"model: {LLAMA}\nmax-num-seqs: 32\nspeculative-config: {EAGLE[1:-1]}"
    server = read_server(words.format(keys=keys, call="vllm serve --max-num-seqs 64"))
    assert (server.model, server.engine) == ("llama-3.1-8b", {"max_num_seqs": 64})
    assert server.speculation is not None
    assert server.speculation.num_speculative_tokens == 3
    server = read_server(words.format(keys="max_batch_size: 32", call=f"trtllm-serve {LLAMA} --max_batch_size 64"))
    assert (server.kind, server.model, server.engine) == ("tensorrt-llm", "llama-3.1-8b", {"max_num_seqs": 32})


def test_a_file_that_is_not_here_is_told() -> None:
    assert "'no.yml' is not here" in read_server(f"trtllm-serve {LLAMA} --extra_llm_api_options no.yml").notes[0]


TRTLLM = """
max_batch_size: 256
max_num_tokens: 8320
tensor_parallel_size: 8
moe_expert_parallel_size: 8
enable_attention_dp: true
stream_interval: 10
print_iter_log: true
cuda_graph_config: {enable_padding: true, batch_sizes: [1, 2, 4]}
kv_cache_config: {dtype: fp8, max_tokens: 64000, enable_block_reuse: false, hots_cache_size: 3}
moe_config: {backend: DEEPGEMM}
speculative_config: {decoding_type: MTP, max_draft_len: 2}
"""


def test_tensorrt_llms_file_says_the_whole_server() -> None:
    server = read_server(TRTLLM)
    assert server.engine == {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8320,
        "prefix_caching": False,
        "num_kv_blocks": 2000,  # of its own 32 tokens
        "graph_sizes": (3, 6, 12),  # so many requests of 1 + 2 tokens
    }
    assert server.deployment == {
        "tensor_parallel": 1,
        "data_parallel": 8,
        "replicas": 8,
        "expert_parallel": True,
        "kv_bits": 8,
    }
    assert server.notes == (
        "known, and not modelled: --stream-interval, --cuda-graph-config.enable-padding, --moe-config",
        "without bearing on speed: --print-iter-log",
        "unknown to specsim: --kv-cache-config.hots-cache-size",
    )
    scenario = load_scenario("cpu-144m", ["gpu=h200", "speculation=null", "model=deepseek-v3", *sections(server)])
    assert scenario.deployment.data_parallel == 8


@pytest.mark.parametrize(
    ("keys", "engine"),
    [
        ("cuda_graph_config: null\nmax_batch_size: 8", {"graph_mode": "none", "max_num_seqs": 8}),
        ("use_cuda_graph: false\nmax_batch_size: 8", {"graph_mode": "none", "max_num_seqs": 8}),  # up to 0.20
        (
            "pytorch_backend_config: {enable_overlap_scheduler: true, cuda_graph_batch_sizes: [1, 2]}\nmax_seq_len: 9",
            {"async_scheduling": True, "graph_sizes": (1, 2), "max_model_len": 9},  # up to 0.19
        ),
        ("disable_overlap_scheduler: true\nmax_seq_len: 4096", {"async_scheduling": False, "max_model_len": 4096}),
    ],
)
def test_tensorrt_llms_spellings_by_version(keys: str, engine: dict[str, object]) -> None:
    server = read_server(keys)
    assert (server.kind, server.engine) == ("tensorrt-llm", engine)


def test_the_json_of_speculation_alone() -> None:
    server = read_server(EAGLE[1:-1])
    assert server.speculation is not None
    assert (server.kind, server.speculation.method) == ("vllm", "eagle3")


def test_sglang_counts_captured_requests() -> None:
    server = read_server(
        "python -m sglang.launch_server --model-path m --speculative-algo EAGLE3 --speculative-draft-model-path x "
        "--speculative-num-steps 3 --speculative-eagle-topk 1 --cuda-graph-bs 1 2 8 --swa-full-tokens-ratio 0.5"
    )
    assert server.engine["graph_sizes"] == (4, 8, 32)
    assert "known, and not modelled: --swa-full-tokens-ratio" in server.notes


@pytest.mark.parametrize("text", ["trtllm-serve disaggregated -c x.yaml", "vllm bench serve --model m", "a: 1\nb: 2"])
def test_other_commands_start_no_server(text: str) -> None:
    with pytest.raises(InvalidInput, match="starts no server that is known"):
        read_server(text)


def test_a_list_for_one_value_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'2' is one value too many for its key"):
        read_server("max_batch_size: [1, 2]")
