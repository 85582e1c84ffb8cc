"""Which drafter, how long it may draft, how often it is right, and who decides the length."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from specsim.scenario.model_reference import Model
from specsim.speculation.acceptance import Acceptance
from specsim.speculation.policy import FixedPolicy, Policy
from specsim.speculation.program import DraftProgram, load_program
from specsim.validated import Validated

NOTHING_ACCEPTED = {"kind": "constant", "rate": 0.0}


def _program(value: object) -> object:
    return load_program(value) if isinstance(value, str) else value


class Speculation(Validated):
    """A drafter, how long it may draft, how often it is right, and who decides the length.

    ``acceptance`` and ``max_draft_tokens`` fall back on what the program names, ``policy`` too: on its stop rule only
    where the acceptance has confidences. Else the longest draft is always used.
    """

    program: Annotated[DraftProgram, BeforeValidator(_program)]
    draft_model: Model | None = None
    max_draft_tokens: int = Field(ge=0, le=256)  # no engine drafts further; a typing error would fill memory
    acceptance: Acceptance
    policy: Policy = Field(default_factory=lambda: FixedPolicy(k=0))

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "program" not in data:
            return data
        program = _program(data["program"])
        if isinstance(program, dict):
            try:
                program = DraftProgram.model_validate(program)
            except ValidationError:  # let the field itself report it, and nothing else
                return {"max_draft_tokens": 0, "acceptance": NOTHING_ACCEPTED} | data
        given = {key: value for key, value in data.items() if value is not None} | {"program": program}
        if isinstance(program, DraftProgram):
            if not program.drafts:
                given = {"max_draft_tokens": 0, "acceptance": NOTHING_ACCEPTED} | given
            if program.draft_tokens is not None:
                given = {"max_draft_tokens": program.draft_tokens} | given
            if program.acceptance is not None:
                given = {"acceptance": program.acceptance.law} | given
            if program.policy is not None:
                given = {"policy": program.policy} | given
            if program.stop is not None and getattr(given.get("acceptance"), "kind", "") == "confidence":
                given = {"policy": {"kind": "confidence"} | program.stop.model_dump(exclude={"source"})} | given
        if "max_draft_tokens" in given:
            given = {"policy": {"kind": "fixed", "k": given["max_draft_tokens"]}} | given
        return given

    def drafter_name(self) -> str:
        """The draft model's name, or that of a program without one."""
        return self.program.name if self.draft_model is None else self.draft_model.name

    @model_validator(mode="after")
    def _consistent(self) -> Speculation:
        k = self.max_draft_tokens
        if k and not self.program.drafts:
            raise ValueError(f"max_draft_tokens is {k} and program {self.program.name!r} drafts nothing; set it to 0")
        if self.program.needs_draft_model and self.draft_model is None:
            raise ValueError(f"program {self.program.name!r} needs a draft_model; name one")
        if self.draft_model is not None and not self.program.needs_draft_model:
            raise ValueError(f"program {self.program.name!r} runs no draft_model; remove it")
        longest = self.policy.longest
        if longest is not None and longest > k:
            raise ValueError(f"the policy drafts up to {longest} tokens and max_draft_tokens is {k}; raise it")
        self.program.check_acceptance(self.acceptance)
        self.acceptance.conditional_rates(k)  # refuses a vector shorter than k
        self.policy.check(self.acceptance, self.program.choices(k))
        return self
