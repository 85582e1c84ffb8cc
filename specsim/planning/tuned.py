"""A tuned schedule with all that is said of it: the engine's text, the whole command line, what was confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from specsim.interop.engine_config import Engine, EngineText
from specsim.notebook import html_table
from specsim.planning.command import command_line, graph_notes
from specsim.planning.confirm import Confirmation
from specsim.planning.longer import trying_longer
from specsim.planning.tune import Tuning, engine_text
from specsim.scenario import Asked, Scenario
from specsim.speculation.policy import FixedPolicy, TablePolicy


@dataclass(frozen=True, slots=True)
class Tuned:
    """``question``: what was tuned. ``text``: the speculation alone, with every note; ``command``: the whole line."""

    asked: Asked
    question: Scenario
    engine: Engine
    tuning: Tuning
    confirmation: Confirmation | None
    policy: FixedPolicy | TablePolicy
    text: EngineText
    command: str

    def __repr__(self) -> str:
        drafts = ", ".join(f"{first} to {last}: {k}" for first, last, k in self.tuning.ranges())
        return f"<Tuned for {self.engine}: {f'drafts by batch size {drafts}' if self.policy.longest else 'off'}>"

    def _repr_html_(self) -> str:
        rows = [[str(row.batch), str(row.draft_tokens), f"{row.speedup:.2f}", f"{row.low:.2f} to {row.high:.2f}"]
                for row in self.tuning.batches]  # fmt: skip
        return html_table(self.command, ("batch", "k", "speed-up", "90 % interval"), rows, " ".join(self.text.notes))

    def as_json(self) -> dict[str, Any]:
        """The document that ``specsim tune --json`` prints, but for what is asked of it besides."""
        question, confirmation = self.question, self.confirmation
        return {
            "name": question.name, "for": self.engine, "assumed": list(self.asked.assumed),
            "serving_engine": question.assumed_engine(), **self.tuning.as_json(),
            "confirmation": confirmation and confirmation.as_json(question.slo),
            "text": self.text.text, "files": dict(self.text.files), "notes": list(self.text.notes),
            "command": self.command,
        }  # fmt: skip

    def off_line(self) -> str:
        """Why speculation stays off, and what to do."""
        if self.confirmation is None:
            where = f"no k pays at any batch size up to {self.tuning.batches[-1].batch}"
        else:
            doubt = "" if self.confirmation.sure else ", but not certain"
            where = f"off serves this load faster than every draft length{doubt}"
        return f"{where}; run {self.engine} without speculation, or try a cheaper or better drafter"


def tuned(
    asked: Asked, question: Scenario, engine: Engine, tuning: Tuning, confirmation: Confirmation | None = None,
    draft_model: str | None = None,
) -> Tuned:  # fmt: skip
    """A tuning as an engine takes it. ``draft_model``: the drafter's checkpoint; None: a placeholder."""
    policy = tuning.policy if confirmation is None else confirmation.chosen.policy
    text = EngineText("") if not policy.longest else engine_text(question, policy, engine, draft_model)
    command, notes = command_line(question, engine, text.text)
    told = (*text.notes, *notes, *(graph_notes(question, policy) if policy.longest else ()))
    return Tuned(
        asked, question, engine, tuning, confirmation, policy, EngineText(text.text, text.files, told), command
    )  # fmt: skip


def worth_tuning(asked: Asked, engine: Engine) -> Scenario:
    """The question to an engine, with longer drafts than its drafter's default where it does not say how long."""
    stated = asked.fields.get("speculation")
    unstated = isinstance(stated, dict) and "max_draft_tokens" not in stated
    return (trying_longer(asked.scenario) if unstated else asked.scenario).run_by(engine)


def engine_to_tune(scenario: Scenario) -> Engine:
    """The scenario's own where its text is known, else vLLM."""
    kind = scenario.engine.kind
    return next((one for one in get_args(Engine) if one == kind), "vllm")
