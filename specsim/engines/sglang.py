"""SGLang's server (``python -m sglang.launch_server``), spoken to through ``/generate``.

Written from 0.5.14's source and never run here. Its ``/metrics`` has gauges of acceptance and no counters, so
that a run's acceptance record stays empty.
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
            "-m", "sglang.launch_server", "--model-path", str(checkpoints.target.resolve()), "--host", "127.0.0.1",
            "--port", str(port), "--dtype", self._dtype, "--random-seed", str(scenario.seed),
            "--tp-size", str(scenario.deployment.tensor_parallel), "--context-length", str(longest_sequence(scenario)),
            "--skip-tokenizer-init", "--enable-metrics",
        ]  # fmt: skip
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

    def num_kv_blocks(self, metrics: str) -> int | None:
        """SGLang tells its pool in the log alone."""
        return None
