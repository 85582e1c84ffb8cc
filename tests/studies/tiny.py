"""A study of a small made-up model on an RTX 4090, whose figures a test makes up."""

from __future__ import annotations

from pathlib import Path

STUDY = """
title: a study of its own making
source: nobody measured this
licence: none needed
conditions: made up
scenario:
  model:
    name: tiny
    source: made up
    num_layers: 4
    hidden_size: 1024
    num_heads: 8
    num_kv_heads: 8
    head_dim: 128
    intermediate_size: 4096
    vocab_size: 32000
  gpu: {gpu}
  engine: {{num_kv_blocks: 1000, host_step_s: 1.0e-3}}
  speculation: {{program: eagle3}}
  workload:
    kind: synthetic
    arrivals: {{kind: closed_loop, concurrency: 1}}
    lengths: {{kind: fixed, prompt_tokens: 64, output_tokens: 32}}
    requests: 8
columns:
  drafter: {{none: {{}}, eagle3: {{}}}}
  blocks: engine.block_size
"""


def write_study(folder: Path, figures: str, *, gpu: str = "rtx-4090", name: str = "tiny") -> Path:
    """The study's YAML file, its figures beside it."""
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.format(gpu=gpu))
    path.with_suffix(".csv").write_text(figures)
    return path
