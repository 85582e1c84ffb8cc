"""Trained weights and prompts, so that a measurement's acceptance is real."""

from __future__ import annotations

from pathlib import Path

from specsim.scenario.speculation import Speculation
from specsim.specs.model import ModelSpec
from specsim.validated import Validated


class Weights(Validated):
    """What a measurement runs on; a prediction never looks at it, and need not have the files.

    ``target`` and ``drafter`` are folders in Hugging Face layout, the target's with its tokenizer; the drafter's holds
    whatever weights of its own the program has. ``prompts``: JSON lines; of n, request i continues prompt i mod n.
    Without speculation the drafter is ignored, so that one scenario serves with and without.

        weights: {target: models/target, drafter: models/eagle, prompts: prompts.jsonl}
    """

    target: Path
    drafter: Path | None = None
    prompts: Path

    def check(self, model: ModelSpec, speculation: Speculation | None) -> None:
        """Raises ValueError where the program has weights of its own and no folder for them, or the reverse."""
        if speculation is None or not speculation.program.drafts:
            return
        program, draft = speculation.program, speculation.draft_model
        own = any(piece.owned for phase in program.phases for piece in program.pieces(phase, model, draft))
        if own and self.drafter is None:
            raise ValueError(
                f"weights.drafter is missing and program {program.name!r} runs weights of its own; give their folder"
            )
        if self.drafter is not None and not own:
            raise ValueError(
                f"weights.drafter is {self.drafter} and program {program.name!r} has no weights of its own; remove it"
            )
