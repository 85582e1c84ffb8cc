"""vLLM's own validation of what ``tune`` emits: every command line is taken, and drafts by batch size as it says.

Needs an installed vLLM of the version that is written for: SPECSIM_VLLM=/path/to/venv, or one beside specsim.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.interop.engine_config import steps_policy
from specsim.planning.command import hub_name
from specsim.planning.decide import decide
from specsim.planning.engine_text import rule_of
from specsim.planning.tune import tune
from specsim.scenario import Scenario, ShortOptions, ask
from specsim.speculation.policy import FixedPolicy, TablePolicy

READER = Path(__file__).with_name("vllm_reads.py")
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16",
}  # fmt: skip
LAYER = {"num_hidden_layers": 1}
PARALLEL = {"architectures": ["DFlashDraftModel"], "model_type": "qwen3", "block_size": 8, "num_target_layers": 2}
DRAFTERS: dict[str, tuple[int, dict[str, Any] | None]] = {  # most drafts; what sets its checkpoint apart
    "eagle": (7, LAYER | {"architectures": ["EagleLlamaForCausalLM"]}),
    "eagle3": (7, LAYER | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 256}),
    "p-eagle": (7, LAYER | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 256}),
    "llama-3.2-1b": (7, LAYER),
    "pard": (7, LAYER | {"pard_token": 500}),
    "medusa": (4, LAYER | {"architectures": ["MedusaModel"], "model_type": "medusa", "num_heads": 4}),
    "dflash": (7, LAYER | PARALLEL | {"dflash_config": {"mask_token_id": 511, "target_layer_ids": [0, 1]}}),
    "dspark": (7, LAYER | PARALLEL | {"architectures": ["Qwen3DSparkModel"], "target_layer_ids": [0, 1]}),
    "mtp": (2, None),
    "ngram": (7, None),
    "suffix": (7, None),
}
MTP = SHAPE | {  # a target that has a layer of its own for it
    "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe", "num_nextn_predict_layers": 1,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "first_k_dense_replace": 1,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.0,
}  # fmt: skip
SEEDS = range(3 * len(DRAFTERS))
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def interpreter() -> str:
    """Of a Python that has vLLM."""
    given = os.environ.get("SPECSIM_VLLM")
    if given is not None:
        return str(Path(given) / "bin" / "python") if Path(given).is_dir() else given
    if find_spec("vllm") is None:
        pytest.skip("no vLLM is installed; set SPECSIM_VLLM to a virtual environment that has one")
    return sys.executable


def drafter_of(seed: int) -> str:
    return list(DRAFTERS)[seed % len(DRAFTERS)]


def question(seed: int) -> Scenario:
    """A random question, answered with each drafter in turn."""
    random, drafter = np.random.default_rng(seed), drafter_of(seed)
    longest, model = DRAFTERS[drafter][0], "glm-4.5-air" if drafter == "mtp" else "llama-3.1-8b"
    words = ShortOptions(
        model=model,
        gpu=str(random.choice(["h100", "l40s", "a100-80gb"])),
        drafter=drafter,
        engine="vllm 0.32",
        tensor_parallel=8 if drafter == "mtp" else 1,
        draft_tokens=int(random.integers(2, longest + 1)),
        concurrency=int(random.integers(1, 65)),
        prompt_tokens=int(random.integers(50, 2000)),
        output_tokens=int(random.integers(20, 500)),
    )
    return ask(None, words, ("cost.source=roofline", f"engine.max_num_seqs={random.integers(16, 129)}")).scenario


def random_schedule(seed: int, most: int) -> TablePolicy | FixedPolicy:
    """Whatever ranges, off among them."""
    random = np.random.default_rng(1000 + seed)
    starts = sorted({1, *random.integers(2, most, size=4).tolist()})
    lengths = random.integers(0, 6, size=len(starts)).tolist()
    lengths[0] = max(1, lengths[0])
    return steps_policy(list(zip(starts, lengths, strict=True)))


def folders(at: Path) -> dict[str, Path]:
    """A tiny checkpoint's config.json of each target, and one of each drafter that has weights."""
    shapes = {"target": SHAPE, "target of mtp": MTP}
    shapes |= {name: SHAPE | own for name, (_, own) in DRAFTERS.items() if own is not None}
    found = {}
    for place, (name, shape) in enumerate(shapes.items()):
        found[name] = at / f"checkpoint-{place}"  # vLLM takes the method from a folder's name where it can
        found[name].mkdir()
        (found[name] / "config.json").write_text(json.dumps(shape))
    return found


def command(
    seed: int, policy: TablePolicy | FixedPolicy | None, places: dict[str, Path]
) -> tuple[list[str], list[int]]:
    """Words of a command line, and the drafts it means at every batch size; ``policy`` None: as tuned by formula."""
    scenario, drafter = question(seed), drafter_of(seed)
    tuning = tune(assemble(scenario), rule=rule_of("vllm", scenario))
    if policy is not None:
        tuning = replace(tuning, policy=policy)
    own = places.get(drafter)
    found = decide(scenario, "vllm", tuning, simulated=False, draft_model=None if own is None else str(own))
    if not found.policy.longest:
        return [], []
    words = shlex.split(found.command)
    assert words[:3] == ["vllm", "serve", hub_name(scenario.model)]
    target = places["target of mtp" if drafter == "mtp" else "target"]
    by_batch = [found.policy.draft_tokens(batch) for batch in range(1, scenario.engine.max_num_seqs + 1)]
    alone = [word for word in words[3:] if word not in ("--tensor-parallel-size", "8")]  # a test has one device
    return [str(target), *alone, "--skip-tokenizer-init", "--load-format", "dummy"], by_batch


@pytest.mark.full
def test_vllm_takes_every_schedule_and_drafts_what_it_says(tmp_path: Path) -> None:
    python, places = interpreter(), folders(tmp_path)
    asked = []
    for seed in SEEDS:
        asked.append(command(seed, None, places))
        asked.append(command(seed, random_schedule(seed, question(seed).engine.max_num_seqs), places))
    asked = [one for one in asked if one[0]]
    assert len(asked) > len(SEEDS)
    lines = "".join(json.dumps({"words": words}) + "\n" for words, _ in asked)
    done = subprocess.run(
        [python, str(READER)],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | OFFLINE,
        cwd=tmp_path,
    )
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(asked)
    refused = [(words, one["error"]) for (words, _), one in zip(asked, found, strict=True) if "error" in one]
    assert not refused
    for (words, by_batch), one in zip(asked, found, strict=True):
        assert one["by_batch"] == by_batch, words
        assert one["draft_tokens"] == max(by_batch)
