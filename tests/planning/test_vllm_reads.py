"""vLLM's own validation of what ``tune`` emits: every command line is taken, and drafts by batch size as it says.

Needs an installed vLLM of the version that is written for: SPECSIM_VLLM=/path/to/venv, or one beside specsim.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.interop.engine_config import steps_policy
from specsim.planning.command import hub_name
from specsim.planning.decide import decide
from specsim.planning.tune import rule_of, tune
from specsim.scenario import Scenario, ShortOptions, ask
from specsim.speculation.policy import FixedPolicy, TablePolicy

READER = Path(__file__).with_name("vllm_reads.py")
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 512,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu", "torch_dtype": "bfloat16",
}  # fmt: skip
DRAFTERS = {
    "eagle3": {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": 256}, "llama-3.2-1b": {},
    "ngram": None,  # suffix decoding would need a package of its own
}  # fmt: skip
SEEDS = range(20)
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}


def interpreter() -> str:
    """Of a Python that has vLLM."""
    given = os.environ.get("SPECSIM_VLLM")
    if given is not None:
        return str(Path(given) / "bin" / "python") if Path(given).is_dir() else given
    if find_spec("vllm") is None:
        pytest.skip("no vLLM is installed; set SPECSIM_VLLM to a virtual environment that has one")
    return sys.executable


def question(seed: int) -> Scenario:
    """A random question, answered with a random drafter."""
    random = np.random.default_rng(seed)
    drafter = list(DRAFTERS)[seed % len(DRAFTERS)]
    words = ShortOptions(
        model="llama-3.1-8b", gpu=str(random.choice(["h100", "l40s", "a100-80gb"])), drafter=drafter,
        draft_tokens=int(random.integers(2, 8)), concurrency=int(random.integers(1, 65)), engine="vllm 0.32",
        prompt_tokens=int(random.integers(50, 2000)), output_tokens=int(random.integers(20, 500)),
    )  # fmt: skip
    return ask(None, words, ("cost.source=roofline", f"engine.max_num_seqs={random.integers(16, 129)}")).scenario


def random_schedule(seed: int, most: int) -> TablePolicy | FixedPolicy:
    """Whatever ranges, off among them."""
    random = np.random.default_rng(1000 + seed)
    starts = sorted({1, *random.integers(2, most, size=4).tolist()})
    lengths = random.integers(0, 6, size=len(starts)).tolist()
    lengths[0] = max(1, lengths[0])
    return steps_policy(list(zip(starts, lengths, strict=True)))


def folders(at: Path) -> dict[str, Path]:
    """A tiny checkpoint's config.json of the target, and one of each drafter that has weights."""
    shapes = {"target": {}} | {name: own for name, own in DRAFTERS.items() if own is not None}
    found = {}
    for name, own in shapes.items():
        found[name] = at / name
        found[name].mkdir()
        layers = {} if name == "target" else {"num_hidden_layers": 1}
        (found[name] / "config.json").write_text(json.dumps(SHAPE | layers | own))
    return found


def command(
    scenario: Scenario, policy: TablePolicy | FixedPolicy | None, places: dict[str, Path]
) -> tuple[list[str], list[int]]:
    """Words of a command line, and the drafts it means at every batch size; ``policy`` None: as tuned by formula."""
    tuning = tune(assemble(scenario), rule=rule_of("vllm", scenario))
    assert scenario.speculation is not None
    name = scenario.speculation.program.name
    own = places.get("llama-3.2-1b" if name == "draft-model" else name)
    if policy is not None:
        tuning = type(tuning)(policy, *(getattr(tuning, field) for field in type(tuning).__slots__[1:]))
    found = decide(scenario, "vllm", tuning, simulated=False, draft_model=None if own is None else str(own))
    if not found.policy.longest:
        return [], []
    words = shlex.split(found.command)
    assert words[:3] == ["vllm", "serve", hub_name(scenario.model)]
    most = scenario.engine.max_num_seqs
    by_batch = [found.policy.draft_tokens(batch) for batch in range(1, most + 1)]
    return [str(places["target"]), *words[3:], "--skip-tokenizer-init", "--load-format", "dummy"], by_batch


@pytest.mark.full
def test_vllm_takes_every_schedule_and_drafts_what_it_says(tmp_path: Path) -> None:
    python, places = interpreter(), folders(tmp_path)
    asked = []
    for seed in SEEDS:
        scenario = question(seed)
        asked.append(command(scenario, None, places))
        asked.append(command(scenario, random_schedule(seed, scenario.engine.max_num_seqs), places))
    asked = [one for one in asked if one[0]]
    assert len(asked) > len(SEEDS)
    lines = "".join(json.dumps({"words": words}) + "\n" for words, _ in asked)
    done = subprocess.run(
        [python, str(READER)], input=lines, capture_output=True, text=True, check=True, env=os.environ | OFFLINE,
        cwd=tmp_path,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(asked)
    for (words, by_batch), one in zip(asked, found, strict=True):
        assert "error" not in one, (words, one)
        assert one["by_batch"] == by_batch, words
        assert one["draft_tokens"] == max(by_batch)
