"""The answer in words: is speculation worth it, with which k, by how much, up to which batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specsim.analytic.load import LoadBatch
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.units import format_seconds


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision at one batch size, in the context of the whole map.

    ``why`` says where the batch size is from. ``drafting`` is the best cell that drafts, also where not drafting is
    better; None in a map without one. ``certain``: its 90 % interval leaves out 1.
    """

    on: bool
    batch: int
    why: str
    draft_tokens: int
    cell: Cell
    drafting: Cell | None
    certain: bool
    sentence: str
    limits: str

    @property
    def about(self) -> str:
        """Which batch it speaks about."""
        return f"Batch {self.batch}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """The decision, its numbers and its words."""
        drafting = self.drafting
        gain = {} if drafting is None else {key: getattr(drafting, key) for key in ("speedup", "low", "high")}
        return {
            "batch": self.batch,
            "why": self.why,
            "on": self.on,
            "draft_tokens": self.draft_tokens,
            "best_drafting": None if drafting is None else {"draft_tokens": drafting.draft_tokens} | gain,
            "sentence": self.sentence,
            "limits": self.limits,
        }


def verdict(speedups: SpeedupMap, asked: LoadBatch) -> Verdict:
    """What to do at a batch size, which is one of the map's."""
    batch = asked.batch
    batches = speedups.batches
    best = next(b for b in speedups.best() if b.batch == batch)
    cell = speedups.cell(batch, best.draft_tokens)
    drafting = cell if best.draft_tokens else _best_draft(speedups, batch)
    certain = drafting is None or not drafting.low <= 1.0 <= drafting.high
    return Verdict(
        on=best.draft_tokens > 0,
        batch=batch,
        why=asked.why,
        draft_tokens=best.draft_tokens,
        cell=cell,
        drafting=drafting,
        certain=certain,
        sentence=_sentence(batch, cell, drafting, certain),
        limits=_limits(speedups, batches),
    )


def _best_draft(speedups: SpeedupMap, batch: int) -> Cell | None:
    """The best cell that drafts at all; None in a map without one."""
    cells = [cell for cell in speedups.cells if cell.batch == batch and cell.draft_tokens]
    return max(cells, key=lambda cell: cell.output_tokens_per_s, default=None)


def _sentence(batch: int, cell: Cell, drafting: Cell | None, certain: bool) -> str:
    if drafting is None:
        each = batch / cell.output_tokens_per_s
        return (
            f"NO DRAFTER at batch {batch}: {cell.output_tokens_per_s:,.0f} output tokens/s; a request gets one each "
            f"{format_seconds(each)}"
        )
    k = drafting.draft_tokens
    doubt = "" if certain else ", so not certain"
    gain = f"{drafting.speedup:.2f}x output tokens/s (90 % interval {drafting.low:.2f} to {drafting.high:.2f}{doubt})"
    if cell.draft_tokens:
        return f"ON at batch {batch}: draft {k} token{'s' if k > 1 else ''} a round, {gain}"
    return f"OFF at batch {batch}: the best draft length, {k}, gives {gain}"


def _limits(speedups: SpeedupMap, batches: list[int]) -> str:
    if speedups.acceptance is None:
        return "Add a drafter (--drafter) to see whether it pays"
    even = speedups.break_even_batch()
    if even is None:
        return "Break-even batch: none, speculation loses at every batch size of the map"
    if speedups.never_breaks_even():
        return f"Break-even batch: beyond {even}, the largest of the map"
    after = batches[batches.index(even) + 1]
    return f"Break-even batch: {even} (at {after} plain decoding is faster)"
