"""Hugging Face transformers' assisted generation, one sequence at a time. Written against 5.19.0.

A draft model or prompt look-up drafts a fixed number of tokens a round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specsim.engines.adapter import Checkpoints, Job
from specsim.errors import NoAnswer
from specsim.scenario import Scenario


class Transformers:
    """Steps ``generate`` by its own Python: nothing is served, and a batch is one sequence."""

    kind = "transformers"
    script = Path(__file__).with_name("transformers_driver.py")

    def job(self, scenario: Scenario, checkpoints: Checkpoints, draft_tokens: int) -> Job:
        """One process for every draft length. Raises NoAnswer for batches and drafters that transformers lacks."""
        if scenario.engine.max_num_seqs != 1:
            raise NoAnswer("transformers assists one sequence at a time; set engine.max_num_seqs to 1")
        if scenario.deployment.tensor_parallel != 1:
            raise NoAnswer("transformers runs on one device here; set deployment.tensor_parallel to 1")
        start: dict[str, Any] = {"model": str(checkpoints.target.resolve()), "random": not checkpoints.trained}
        start["device"] = "cpu" if scenario.gpu.kind == "cpu" else "cuda"
        if draft_tokens:
            start |= self._drafter(scenario, checkpoints)
        return Job(start, shared=True)

    def load_job(self, scenario: Scenario, checkpoints: Checkpoints) -> Job:
        """Raises NoAnswer: it serves no load."""
        raise NoAnswer("transformers generates for one prompt at a time and serves no load; give --engine vllm")

    def _drafter(self, scenario: Scenario, checkpoints: Checkpoints) -> dict[str, Any]:
        assert scenario.speculation is not None  # something drafts
        program = scenario.speculation.program
        if program.name == "draft-model" and checkpoints.drafter is not None:
            return {"assistant": str(checkpoints.drafter.resolve())}
        if program.name == "ngram":
            return {"prompt_lookup": True}
        raise NoAnswer(f"transformers' assisted generation has no {program.name!r}; it has draft-model and ngram")
