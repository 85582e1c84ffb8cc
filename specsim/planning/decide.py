"""Speculation for one engine: on or off, which k at which batch size, confirmed by simulation, as text to paste."""

from __future__ import annotations

from dataclasses import dataclass

from specsim.assembly import assemble
from specsim.interop.engine_config import EngineText, RealEngineKind
from specsim.notebook import html_table
from specsim.planning.command import command_line, graph_notes
from specsim.planning.confirm import Confirmation, confirm
from specsim.planning.engine_text import engine_text
from specsim.planning.tune import Tuning
from specsim.progress import PartProgress
from specsim.scenario import Scenario
from specsim.speculation.policy import FixedPolicy, TablePolicy


@dataclass(frozen=True, slots=True)
class Decision:
    """``question``: what was tuned. ``text``: the speculation alone, with every note; ``command``: the whole line.

    ``engine`` None: any, and there is nothing to paste.
    """

    question: Scenario
    engine: RealEngineKind | None
    tuning: Tuning
    confirmation: Confirmation | None
    policy: FixedPolicy | TablePolicy
    text: EngineText
    command: str

    def __repr__(self) -> str:
        drafts = ", ".join(f"{first} to {last}: {k}" for first, last, k in self.tuning.ranges())
        return f"<Decision for {self.engine}: {f'drafts by batch size, {drafts}' if self.policy.longest else 'off'}>"

    def _repr_html_(self) -> str:
        header = ("batch", "k", "speed-up", "90 % interval")
        rows = [
            [str(row.batch), str(row.draft_tokens), f"{row.speedup:.2f}", f"{row.low:.2f} to {row.high:.2f}"]
            for row in self.tuning.batches
        ]
        return html_table(self.command, header, rows, " ".join(self.text.notes))

    def off_line(self) -> str:
        """Why speculation stays off, and what to do."""
        if self.confirmation is None:
            where = f"no k pays at any batch size up to {self.tuning.batches[-1].batch}"
        else:
            doubt = "" if self.confirmation.sure else ", but not certain"
            where = f"off serves this load faster than every draft length{doubt}"
        return f"{where}; run {self.engine} without speculation, or try a cheaper or better drafter"


def decide(
    question: Scenario,
    engine: RealEngineKind | None,
    tuning: Tuning,
    *,
    simulated: bool = True,
    draft_model: str | None = None,
    progress: PartProgress | None = None,
) -> Decision:
    """What a tuned schedule comes to; ``simulated``: off, every single k and the schedule are tried under the load.

    ``draft_model``: the checkpoint to load; None: a placeholder.
    """
    lengths = [k for k in assemble(question).choices() if k]
    confirmation = confirm(question, tuning.policy, lengths, progress=progress) if simulated else None
    policy = tuning.policy if confirmation is None else confirmation.chosen.policy
    if engine is None:
        return Decision(question, None, tuning, confirmation, policy, EngineText(""), "")
    text = EngineText("") if not policy.longest else engine_text(question, policy, engine, draft_model)
    command, notes = command_line(question, engine, text.text)
    told = (*text.notes, *notes, *(graph_notes(question, policy) if policy.longest else ()))
    whole = EngineText(text.text, text.files, told)
    return Decision(question, engine, tuning, confirmation, policy, whole, command)
