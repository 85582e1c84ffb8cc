"""A served case small enough to run in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SHAPE = {
    "source": "test",
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 256,
}
SCENARIO: dict[str, Any] = {
    "schema": 1, "name": "tiny", "model": {"name": "tiny", "num_layers": 2, **SHAPE}, "gpu": "cpu-generic",
    "engine": {"max_num_seqs": 4, "num_kv_blocks": 64},
    "speculation": {
        "program": "draft-model", "draft_model": {"name": "tinier", "num_layers": 1, **SHAPE},
        "max_draft_tokens": 2, "acceptance": {"kind": "constant", "rate": 0.5},
    },
    "workload": {
        "kind": "synthetic", "arrivals": {"kind": "closed_loop", "concurrency": 2}, "requests": 12,
        "lengths": {"kind": "lognormal", "prompt_mean": 12, "prompt_cv": 0.3, "output_mean": 12, "output_cv": 0.3},
    },
}  # fmt: skip
LOADS: dict[str, Any] = {
    "alternatives": {"off": ["speculation=null"], "k2": ["speculation.policy={kind: fixed, k: 2}"]},
    "loads": {
        "light": {"kind": "poisson", "rate_per_s": 0.75},
        "swinging": {"kind": "piecewise", "cv": 2, "pieces": [[0.05, 0.5], [0.05, 2.0]]},
    },
    "saturation_of": "own",
    "repeats": 2,
    "variants": {"pooled": ["speculation.acceptance={kind: constant, rate: 0.3}"]},
}


def write_case(folder: Path, **loads: Any) -> Path:
    """The tiny case, keys of ``loads.yaml`` replaced."""
    folder.mkdir(exist_ok=True)
    (folder / "scenario.yaml").write_text(yaml.safe_dump(SCENARIO, sort_keys=False))
    (folder / "loads.yaml").write_text(yaml.safe_dump(LOADS | loads, sort_keys=False))
    return folder
