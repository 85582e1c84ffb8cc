"""What runs on the stand-in for vLLM share: its Python, its models, a question to it, and that nothing is left."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

FAKE = Path(__file__).with_name("fake_vllm.py")
TARGET = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 128, "vocab_size": 256, "head_dim": 32,
    "max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
}  # fmt: skip


def write_python(python: Path) -> None:
    """A Python that runs the stand-in, whatever module it is asked for."""
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
    python.chmod(0o755)


def write_question(path: Path, models: Path, *, max_num_seqs: int, requests: int, arrivals: str) -> None:
    """A scenario on a GPU, where vLLM imposes acceptance on random weights; ``models`` gets its two models."""
    for name, layers in (("target", 2), ("draft", 1)):
        (models / name).mkdir()
        (models / name / "config.json").write_text(json.dumps(TARGET | {"num_hidden_layers": layers}))
    path.write_text(
        f"""
schema: 1
name: stand-in
model: {models}/target
gpu: h100-sxm
engine: {{kind: vllm, max_num_seqs: {max_num_seqs}, num_kv_blocks: 512}}
speculation: {{program: draft-model, draft_model: {models}/draft, max_draft_tokens: 3,
  acceptance: {{kind: constant, rate: 0.5}}}}
workload: {{kind: synthetic, requests: {requests}, arrivals: {arrivals},
  lengths: {{kind: fixed, prompt_tokens: 20, output_tokens: 10}}}}
cost: {{source: roofline}}
"""
    )


def assert_none_left(pids: Path) -> None:
    """No process of the file lives, at the latest after the time that a guard gives each signal."""
    until = time.monotonic() + 30
    left = [int(word) for word in pids.read_text().split()]
    assert left
    while left:
        left = [pid for pid in left if _lives(pid)]
        assert time.monotonic() < until, left
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
