"""vLLM behind its OpenAI server (``vllm serve``), spoken to by token ids. Written against 0.32.0."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specsim.engines.adapter import (
    Checkpoints,
    Job,
    Launch,
    at_most,
    drafter_config,
    longest_sequence,
    stated_limits,
)
from specsim.engines.installation import cpu_environment
from specsim.errors import NoAnswer
from specsim.interop.acceptance import read_acceptance
from specsim.interop.vllm import limit_flags, write_vllm
from specsim.results import AcceptanceCounts
from specsim.scenario import Scenario
from specsim.specs.engine import EngineKind

NAME = "specsim"  # of the model, as requests call it
SETTINGS = {"VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1"}  # the latter offers the reset
_BLOCKS = re.compile(r'^vllm:cache_config_info\{.*\bnum_gpu_blocks="(\d+)"', re.MULTILINE)
_COUNTED = "vllm:spec_decode_num_drafts"


class VLLM:
    """``dtype``: as ``--dtype`` takes it."""

    kind: EngineKind = "vllm"
    script = Path(__file__).with_name("vllm_driver.py")
    health = "/health"
    route = "/v1/completions"
    reset = "/reset_prefix_cache"

    def __init__(self, dtype: str = "auto") -> None:
        self._dtype = dtype

    def launch(self, scenario: Scenario, checkpoints: Checkpoints, port: int) -> Launch:
        """The flags of ``vllm serve``: what the scenario states, and vLLM's own defaults for the rest."""
        own = ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
        words = ["-m", "vllm.entrypoints.openai.api_server", *own, *self._flags(scenario, checkpoints)]
        return Launch(tuple(words), {**SETTINGS, **(cpu_environment() if scenario.gpu.kind == "cpu" else {})})

    def job(self, scenario: Scenario, checkpoints: Checkpoints, draft_tokens: int) -> Job:
        """On a CPU, where nothing is captured for one draft length, one engine drafts whatever it is asked for."""
        longest = scenario.speculation.max_draft_tokens if scenario.speculation else 0
        most = longest if scenario.gpu.kind == "cpu" and draft_tokens else draft_tokens
        return Job({"flags": self._flags(at_most(scenario, most), checkpoints)}, shared=scenario.gpu.kind == "cpu")

    def load_job(self, scenario: Scenario, checkpoints: Checkpoints) -> Job:
        """Engines share no GPU."""
        return Job({"flags": self._flags(scenario, checkpoints)}, shared=scenario.gpu.kind == "cpu")

    def _flags(self, scenario: Scenario, checkpoints: Checkpoints) -> list[str]:
        """Of the engine itself, however it is started."""
        words = [
            "--model",
            str(checkpoints.target.resolve()),
            "--dtype",
            self._dtype,
            "--seed",
            str(scenario.seed),
            "--tensor-parallel-size",
            str(scenario.deployment.tensor_parallel),
            "--max-model-len",
            str(longest_sequence(scenario)),
        ]
        if not checkpoints.trained:
            words += ["--load-format", "dummy"]
        if not (checkpoints.target / "tokenizer.json").is_file():
            words.append("--skip-tokenizer-init")
        words += self._speculation(scenario, checkpoints)
        if scenario.gpu.kind == "cpu" and "--enforce-eager" not in words:
            words.append("--enforce-eager")  # the CPU edition would compile for minutes
        return words

    def _speculation(self, scenario: Scenario, checkpoints: Checkpoints) -> list[str]:
        config = drafter_config(scenario, checkpoints)
        if config is None:
            return limit_flags(stated_limits(scenario))
        if config.acceptance_rates is not None and scenario.gpu.kind == "cpu":
            raise NoAnswer(
                "vLLM's CPU edition cannot impose an acceptance ('Synthetic acceptance not supported', 0.32); give "
                "trained models as weights"
            )
        return shlex.split(write_vllm(config).text)

    def body(self, prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
        """Greedy, past any end of text, every chunk with its token ids."""
        return {
            "model": NAME,
            "prompt": list(prompt),
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "return_token_ids": True,
        }

    def tokens(self, event: Mapping[str, Any], before: int) -> int:
        """A chunk holds the ids that are new in it."""
        return before + sum(len(choice.get("token_ids") or ()) for choice in event.get("choices") or ())

    def acceptance(self, before: Path, after: Path) -> AcceptanceCounts:
        """By the counters of positions; drafts that a request's end cut short count as drafted in full."""
        if _COUNTED not in after.read_text(encoding="utf-8"):
            return AcceptanceCounts()
        counts = read_acceptance(after, before=before).counts
        return AcceptanceCounts() if counts is None else counts

    def answered(self, event: Mapping[str, Any]) -> AcceptanceCounts:
        """Nothing: its counters tell."""
        return AcceptanceCounts()

    def num_kv_blocks(self, metrics: str) -> int | None:
        """``num_gpu_blocks`` of the cache's own line."""
        found = _BLOCKS.search(metrics)
        return None if found is None else int(found[1])
