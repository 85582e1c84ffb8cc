"""``specsim.predict``: the batch × k map of a question, by formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from specsim.analytic.load import answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.assembly import assemble
from specsim.notebook import html_table
from specsim.report.assumed import assumed_lines, longest_draft, unstated_line
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Asked


@dataclass(frozen=True, slots=True)
class Prediction:
    """What to do at the load's own batch size (``verdict``), and the map that it is drawn from (``map``)."""

    asked: Asked
    map: SpeedupMap
    verdict: Verdict

    def assumptions(self) -> list[str]:
        """What the answer rests on, a sentence each: prices, engine defaults, acceptance, what was left unsaid."""
        return [
            *assumed_lines(self.asked.scenario, self.map),
            *unstated_line((*self.asked.assumed, *longest_draft(self.asked))),
        ]

    def __repr__(self) -> str:
        return f"<Prediction: {self.verdict.sentence}. {self.verdict.limits}>"

    def _repr_html_(self) -> str:
        lengths = sorted({cell.draft_tokens for cell in self.map.cells})
        rows = []
        for best in self.map.best():
            speedups = [f"{self.map.cell(best.batch, k).speedup:.2f}" for k in lengths]
            shown = [
                f"[{text}]" if k == best.draft_tokens else text for k, text in zip(lengths, speedups, strict=True)
            ]
            tokens_per_s = self.map.cell(best.batch, best.draft_tokens).output_tokens_per_s
            rows.append([str(best.batch), *shown, f"{tokens_per_s:,.0f}"])
        header = ["batch", *(f"k={k}" for k in lengths), "output tokens/s"]
        return html_table(self.verdict.sentence, header, rows, " ".join(self.assumptions()))


@checked
def predict(
    scenario: ScenarioLike = None,
    *,
    batch: int | None = None,
    batches: Sequence[int] | None = None,
    context: float | None = None,
    decode_only: bool = False,
    **words: Unpack[QuestionOptions],
) -> Prediction:
    """Speed-up of every draft length at every batch size, prompts included, and the verdict for the load's batch.

    ``batch``: that the verdict speaks about; None: what the load leads to. ``batches``: of the map; None: 1, 2, 4, ...
    ``context``: decoding alone at this KV length in tokens. ``decode_only``: without what prompts cost. ``words``: as
    of ``specsim.ask``. Raises InvalidInput, and NoAnswer where the models do not fit the GPUs.

    >>> found = specsim.predict(model="llama-3.1-8b", gpu="h100", drafter="eagle-3", batches=[1, 8, 64])
    >>> found.verdict.on, found.verdict.batch
    (True, 8)
    >>> cell = found.map.cell(64, 3)  # batch 64, 3 drafts a round
    >>> cell.low < cell.speedup < cell.high
    True
    >>> found.map.best()[0].draft_tokens  # at batch 1
    3
    """
    asked = ask(scenario, **words)
    speedups, load = answered_map(
        assemble(asked.scenario), batch=batch, batches=batches, context_tokens=context, decode_only=decode_only
    )
    return Prediction(asked, speedups, verdict(speedups, load))
