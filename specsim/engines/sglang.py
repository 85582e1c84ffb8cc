"""SGLang's server (``python -m sglang.launch_server``), spoken to through ``/generate``.

Written from 0.5.14's source and never run here. Its ``/metrics`` has gauges of acceptance and no counters; the last
event of an answer tells how many of its rounds accepted how many drafts.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specsim.engines.adapter import Checkpoints, Launch, drafter_config, longest_sequence, stated_limits
from specsim.errors import NoAnswer
from specsim.interop.sglang import limit_flags, write_sglang
from specsim.results import AcceptanceCounts
from specsim.scenario import Scenario
from specsim.specs.engine import EngineKind

# In an answer's meta_info; the first names since 0.5.9 or so, the others before.
HISTOGRAMS = ("spec_correct_drafts_histogram", "spec_accept_histogram")
PROPOSED = ("spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num")


class SGLang:
    """``dtype``: as ``--dtype`` takes it."""

    kind: EngineKind = "sglang"
    health = "/health"
    route = "/generate"
    reset = "/flush_cache"

    def __init__(self, dtype: str = "auto") -> None:
        self._dtype = dtype

    def launch(self, scenario: Scenario, checkpoints: Checkpoints, port: int) -> Launch:
        """The flags of ``sglang.launch_server``: what the scenario states, and SGLang's own defaults for the rest."""
        words = [
            "-m",
            "sglang.launch_server",
            "--model-path",
            str(checkpoints.target.resolve()),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--dtype",
            self._dtype,
            "--random-seed",
            str(scenario.seed),
            "--tp-size",
            str(scenario.deployment.tensor_parallel),
            "--context-length",
            str(longest_sequence(scenario)),
            "--skip-tokenizer-init",
            "--enable-metrics",
        ]
        if not checkpoints.trained:
            words += ["--load-format", "dummy"]
        if scenario.gpu.kind == "cpu":
            words += ["--device", "cpu"]
        further, environment = self._speculation(scenario, checkpoints)
        return Launch((*words, *further), environment)

    def _speculation(self, scenario: Scenario, checkpoints: Checkpoints) -> tuple[list[str], dict[str, str]]:
        config = drafter_config(scenario, checkpoints)
        if config is None:
            return limit_flags(stated_limits(scenario)), {}
        text = write_sglang(config)
        if text.files:
            raise NoAnswer("a schedule by batch size needs SGLang's adaptive file, which a run does not write; fix k")
        words = shlex.split(text.text)
        flags = next(number for number, word in enumerate(words) if word.startswith("--"))
        settings = dict(word.split("=", 1) for word in words[:flags] if "=" in word)
        return words[flags:], settings

    def body(self, prompt: Sequence[int], output_tokens: int) -> dict[str, Any]:
        """Greedy, past any end of text."""
        sampling = {"max_new_tokens": output_tokens, "ignore_eos": True, "temperature": 0}
        return {"input_ids": list(prompt), "sampling_params": sampling, "stream": True}

    def tokens(self, event: Mapping[str, Any], before: int) -> int:
        """An event says how many there are so far."""
        return int(event.get("meta_info", {}).get("completion_tokens", before))

    def acceptance(self, before: Path, after: Path) -> AcceptanceCounts:
        """Nothing: see above."""
        return AcceptanceCounts()

    def answered(self, event: Mapping[str, Any]) -> AcceptanceCounts:
        """By the histogram of accepted drafts; every round is taken to have drafted as many as the mean one.

        Drafts of an adaptive run differ from round to round, which SGLang does not tell: then none is counted.
        """
        told, counts = event.get("meta_info", {}), AcceptanceCounts()
        histogram = next((told[name] for name in HISTOGRAMS if told.get(name)), ())
        rounds, drafts = sum(histogram), next((told[name] for name in PROPOSED if told.get(name)), 0)
        if not rounds or drafts % rounds or drafts // rounds < len(histogram) - 1:
            return counts
        for accepted, number in enumerate(histogram):
            if number:
                counts.add(drafts // rounds, accepted, number)
        return counts

    def num_kv_blocks(self, metrics: str) -> int | None:
        """SGLang tells its pool in the log alone."""
        return None
