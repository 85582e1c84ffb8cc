"""Uploads and pasted texts that nobody means well by, and some that are only broken: (kind, name, content)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

MODEL, DRAFTER, TRACE = "Model (config.json)", "Drafter (program YAML, or a head's config.json)", "Trace of requests"
LOGS, RESULT = "Acceptance (metrics dump, server log, responses)", "Load test result"
PROFILE, SCENARIO = "Profile (profile.yaml and CSVs)", "Scenario (YAML)"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 20_000
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256,
    "max_position_embeddings": 131072,
}  # fmt: skip
PARTS = {"model": "qwen3-8b", "gpu": "h100-sxm"}


def config(**changes: object) -> bytes:
    return json.dumps(CONFIG | changes).encode()


def broken() -> Iterator[tuple[str, str, bytes]]:
    """Files that are refused as they are given."""
    for kind, name in (
        (MODEL, "config.json"),
        (DRAFTER, "head.json"),
        (TRACE, "trace.csv"),
        (LOGS, "server.log"),
        (RESULT, "bench.json"),
        (PROFILE, "profile.yaml"),
        (SCENARIO, "scenario.yaml"),
    ):
        yield kind, name, b""
        yield kind, name, b"\xff\xfe\x00\x01" * 2_000
        yield kind, name, b"\x00" * 10_000
        yield kind, name, DEEP.encode()
    for kind, name in (
        (MODEL, "big.json"),
        (DRAFTER, "big.yaml"),
        (LOGS, "big.log"),
        (RESULT, "big.json"),
        (SCENARIO, "big.yaml"),
    ):
        yield kind, name, b" " * 9_000_000
    yield TRACE, "long.csv", b"timestamp,input_length,output_length\n" + b"1,2,3\n" * 200_001
    yield TRACE, "minus.csv", b"timestamp,input_length,output_length\n1,-5,10\n"
    yield TRACE, "huge.csv", b"timestamp,input_length,output_length\n1," + b"9" * 5_000 + b",10\n"
    yield TRACE, "columns.csv", b"a,b\n1,2\n"
    yield DRAFTER, "bomb.yaml", BOMB.encode()
    yield SCENARIO, "bomb.yaml", BOMB.encode()
    yield DRAFTER, "object.yaml", b"!!python/object/apply:os.system ['touch /tmp/specsim-was-here']"
    yield SCENARIO, "object.yaml", b"model: !!python/object/apply:os.system ['touch /tmp/specsim-was-here']"
    yield MODEL, "list.json", b"[1, 2]"
    yield MODEL, "nan.json", b'{"hidden_size": NaN}'
    yield MODEL, "layers.json", config(num_hidden_layers=10**12)
    yield MODEL, "minus.json", config(hidden_size=-4096)
    yield MODEL, "text.json", config(vocab_size="many")
    yield MODEL, "unknown.json", config(model_type="../../etc/passwd", architectures=["X"])
    yield LOGS, "counts.txt", b'vllm:spec_decode_num_drafts_total{model_name="m"} 1e300\n'
    yield LOGS, "words.log", b"hello\n" * 1_000
    yield RESULT, "zero.json", b'{"completed": 0, "output_throughput": 1}'
    yield RESULT, "other.json", b'{"a": 1}'
    yield PROFILE, "gemm.csv", b"m,n,k\n1,2,3\n"
    yield PROFILE, "profile.yaml", BOMB.encode()
    yield DRAFTER, "program.yaml", b"name: mine\nphases: 7\n"


def reaching(secret: Path) -> Iterator[tuple[str, str, bytes]]:
    """Files and texts that name a file of the server's; each is taken, and the question that it makes is refused."""
    folder, file = str(secret), str(secret / "config.json")
    for field in (
        {"model": file},
        {"model": folder},
        {"gpu": folder},
        {"cost": {"profile": folder}},
        {"speculation": {"program": file}},
        {"speculation": {"program": folder}},
        {"speculation": {"program": str(secret / "program.yaml")}},
        {"speculation": {"program": "draft-model", "draft_model": file}},
        {"speculation": {"program": "eagle3", "acceptance": str(secret / "law.yaml")}},
        {"speculation": {"program": "eagle3", "acceptance": {"kind": "trace", "path": str(secret / "runs.jsonl")}}},
        {"workload": {"kind": "trace", "path": str(secret / "trace.csv")}},
        {"workload": {"kind": "synthetic", "lengths": {"kind": "trace", "path": "/etc/passwd"}}},
        {"model": f"{folder}/model.yaml"},
        {"gpu": f"{folder}/card.yaml"},
        {"model": "/dev/zero"},
    ):
        yield SCENARIO, "scenario.yaml", json.dumps(PARTS | field).encode()
