"""Where an acceptance law is from, and how far the accepted tokens of a round may be off for that.

One standard deviation of the log of accepted tokens (the acceptance length less its bonus token):

measured  2 %. The same server at 1 and 32 clients: 1 to 2 % (EAGLE-3 on an A100, `validation/gpu`, calibration rows).
cited     20 %, of another target or other data. One drafter on three sets of prompts: 1.70, 1.65 and 1.24 accepted
          (gpt-oss-20b, EAGLE-3, 3 drafts; vLLM blog 2026-03-13), 17 %. One set of prompts on seven targets: 12 %
          (3 drafts of EAGLE-3, MTP or DSpark; InferenceX's golden acceptance lengths).
assumed   30 %, by an analogy: as much again. A judgement.

What copies from a text depends on the text: prompt look-up accepts .16, 1.03, .39 and .33 tokens a round on
mathematics, code edits, chat and summaries (3 drafts, replays of SpecDecode-Bench, arXiv 2601.11580), 75 %, unless it
was measured.
"""

from __future__ import annotations

from typing import Literal

from specsim.validated import Validated

Basis = Literal["measured", "cited", "assumed"]
SPREAD: dict[Basis, float] = {"measured": 0.02, "cited": 0.20, "assumed": 0.30}
SPREAD_OF_COPIES = 0.75
REASON: dict[Basis, str] = {
    "measured": "measured on this workload",
    "cited": "cited for another target or other data",
    "assumed": "assumed",
}


class Origin(Validated):
    """``basis``: counted on the workload in question, printed for another, or assumed; ``source`` says where.

    ``data`` and ``target``: which prompts and model those were; None: not told.
    """

    basis: Basis = "measured"
    source: str = "the scenario"
    data: str | None = None
    target: str | None = None

    def spread(self, *, copies: bool) -> float:
        """One standard deviation of the log of accepted tokens."""
        return SPREAD_OF_COPIES if copies and self.basis != "measured" else SPREAD[self.basis]

    def counted_on(self) -> str:
        """``HumanEval, Llama-3.1-8B``: its data and its target, or that they are not told; of one assumed, that."""
        known = [one for one in (self.data, self.target) if one is not None]
        return "assumed" if self.basis == "assumed" else ", ".join(known) or "data not told"

    def sentence(self) -> str:
        """``cited for another target or other data (vLLM pull request 26498)``."""
        return f"{REASON[self.basis]} ({self.source})"
