"""Which drafter, how long it may draft, how often it is right, and who decides the length."""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, ValidationError, model_validator

from specsim.errors import InvalidInput
from specsim.interop.draft_program import head_program
from specsim.named_files import file_named, is_file
from specsim.scenario.acceptance_reference import Law
from specsim.scenario.model_reference import Model
from specsim.specs.faults import referring
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance.origin import Basis, Origin
from specsim.speculation.policy import FixedPolicy, Policy
from specsim.speculation.program import DefaultAcceptance, DraftProgram, load_program
from specsim.validated import Validated

NOTHING_ACCEPTED = {"kind": "constant", "rate": 0.0}


def _program(value: object) -> object:
    """A preset's name, a YAML file, or a draft head's config.json or folder."""
    if not isinstance(value, str):
        return value
    if value.endswith(".json") or is_file(f"{value}/config.json"):
        return head_program(file_named(value))
    return load_program(value)


def _fallback(default: DefaultAcceptance) -> Origin:
    """What a program was measured with is not this workload."""
    basis: Basis = "assumed" if default.basis == "assumed" else "cited"
    return Origin(basis=basis, source=" ".join(default.source.split()), data=default.data, target=default.target)


class Speculation(Validated):
    """A drafter, how long it may draft, how often it is right, and who decides the length.

    ``acceptance`` and ``max_draft_tokens`` fall back on what the program names, ``policy`` too: on its stop rule only
    where the acceptance has confidences. Else the longest draft is always used. ``acceptance_origin``: where the law
    is from; a law that the scenario gives without one counts as measured on its workload. ``prompt_lookup``: the
    shortest and longest n-gram that an engine looks up; None: its own. It changes no price: acceptance tells of it.
    """

    program: Annotated[DraftProgram, BeforeValidator(referring(_program))]
    draft_model: Model | None = None
    max_draft_tokens: int = Field(ge=0, le=256)  # no engine drafts further; a typing error would fill memory
    acceptance: Law
    acceptance_origin: Origin = Origin()
    policy: Policy = Field(default_factory=lambda: FixedPolicy(k=0))
    prompt_lookup: tuple[PositiveInt, PositiveInt] | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "program" not in data:
            return data
        try:
            program = _program(data["program"])
            if isinstance(program, dict):
                program = DraftProgram.model_validate(program)
        except (InvalidInput, ValidationError):  # let the field itself report it, and nothing else
            return {"max_draft_tokens": 0, "acceptance": NOTHING_ACCEPTED} | data
        given = {key: value for key, value in data.items() if value is not None} | {"program": program}
        if isinstance(program, DraftProgram):
            if not program.drafts:
                given = {"max_draft_tokens": 0, "acceptance": NOTHING_ACCEPTED} | given
            if program.draft_tokens is not None:
                given = {"max_draft_tokens": program.draft_tokens} | given
            if program.acceptance is not None and "acceptance" not in given:
                given = {"acceptance_origin": _fallback(program.acceptance)} | given
                given["acceptance"] = program.acceptance.law
            if program.policy is not None:
                given = {"policy": program.policy} | given
            if program.stop is not None and getattr(given.get("acceptance"), "kind", "") == "confidence":
                given = {"policy": {"kind": "confidence"} | program.stop.model_dump(exclude={"source"})} | given
        if "max_draft_tokens" in given:
            given = {"policy": {"kind": "fixed", "k": given["max_draft_tokens"]}} | given
        return given

    @property
    def acceptance_spread(self) -> float:
        """One standard deviation of the log of accepted tokens: for where the law is from, and for how few requests
        it was counted on.
        """
        origin = self.acceptance_origin.spread(copies=self.program.copies)
        return math.hypot(origin, self.acceptance.sampling_spread(self.max_draft_tokens))

    def drafter_name(self) -> str:
        """The draft model's name, or that of a program without one."""
        return self.program.name if self.draft_model is None else self.draft_model.name

    def on_target(self, name: str) -> Speculation:
        """With the program's own figure on a target in place of its default acceptance, where there is one."""
        default = self.program.acceptance
        own = next((one for one in self.program.acceptance_on if one.target == name), None)
        if own is None or default is None or self.acceptance != default.law:
            return self
        if self.acceptance_origin != _fallback(default):
            return self
        return self.model_copy(update={"acceptance": own.law, "acceptance_origin": _fallback(own)})

    def warn_of_limits(self, target: ModelSpec, tokens: float) -> None:
        """Warns of a head that was made for another target, of what its price leaves out, and of long sequences.

        ``tokens``: how long sequences grow in the mean.
        """
        name, program = self.drafter_name(), self.program
        if program.target_vocabulary not in (None, target.vocab_size):
            warnings.warn(
                f"the drafter {name} was made for a target of {program.target_vocabulary} tokens in its vocabulary "
                f"and {target.name} has {target.vocab_size}: it drafts for another model",
                stacklevel=3,
            )
        if program.simplified:
            warnings.warn(f"of the drafter {name}, {'; '.join(program.simplified)}", stacklevel=3)
        draft, limit = self.draft_model, program.max_position
        if draft is not None and "max_position" in draft.model_fields_set:
            limit = draft.max_position
        if limit is not None and tokens > limit:
            warnings.warn(
                f"the drafter {name} was made for {limit} positions and sequences grow to {tokens:.0f} "
                "tokens on average: beyond them expect fewer drafts accepted than its acceptance says",
                stacklevel=3,
            )

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
