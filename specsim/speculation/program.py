"""A drafter as data: which passes it runs, where, on what weights, and what its proposal looks like.

A technique is a YAML file over these fields, never a code path. Fields cover what the bundled programs need: no
drafter, a separate draft model, and prompt look-up (n-gram).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from specsim.errors import unknown_name
from specsim.specs.yaml_file import read_yaml

PRESETS = Path(__file__).parent / "presets"


class Phase(BaseModel):
    """One part of drafting, run in order before the next verify pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: Literal["gpu", "cpu"]
    weights: Literal["draft_model", "none"]
    passes: Literal["per_token", "none"]  # per_token: k sequential passes of the weights
    host_s_per_sequence: NonNegativeFloat = 0.0  # assumed where no profile measures it


class DraftProgram(BaseModel):
    """``lookahead``: KV slots reserved beyond a sequence's tokens while it decodes (vLLM: k with a draft model)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    lossless: bool
    phases: tuple[Phase, ...]
    proposal: Literal["chain", "copy", "none"]
    lookahead: Literal["per_token", "none"] = "none"

    @property
    def needs_draft_model(self) -> bool:
        return any(phase.weights == "draft_model" for phase in self.phases)

    @property
    def drafts(self) -> bool:
        return self.proposal != "none"

    def host_s_per_sequence(self) -> float:
        """Assumed host seconds of proposing, for each sequence."""
        return sum(phase.host_s_per_sequence for phase in self.phases)

    def lookahead_tokens(self, max_draft_tokens: int) -> int:
        return max_draft_tokens if self.lookahead == "per_token" else 0


def load_program(reference: str) -> DraftProgram:
    """A program by preset name or YAML path; an unknown name lists near matches."""
    if reference.endswith((".yaml", ".yml")):
        return read_yaml(Path(reference), DraftProgram)
    names = program_names()
    if reference.lower() not in names:
        raise unknown_name("draft program", reference, names)
    return read_yaml(PRESETS / f"{reference.lower()}.yaml", DraftProgram)


def program_names() -> list[str]:
    """Names of the bundled programs."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))
