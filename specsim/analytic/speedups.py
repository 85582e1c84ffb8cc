"""The map of speed-ups: what each draft length is worth at each batch size, and what is decided by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from specsim.analytic.steps import ServedLoad
from specsim.cost.forward import SOURCES
from specsim.speculation.acceptance.origin import Origin


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the map. ``low`` and ``high`` bound the speed-up's 90 % interval, acceptance's own error in it.

    ``step_s``: of a mean step, which is a decode round where nothing but decoding is asked for.
    """

    batch: int
    draft_tokens: int
    context_tokens: float
    round_s: float
    round_low_s: float
    round_high_s: float
    tokens_per_round: float
    step_s: float
    output_tokens_per_s: float
    speedup: float
    low: float
    high: float
    source: str
    bound: str  # what most of the round waits for: memory, compute, host or communication
    parts: dict[str, float]  # seconds of the mean step


@dataclass(frozen=True, slots=True)
class Best:
    """The draft length with the highest throughput at a batch size; 0 is off."""

    batch: int
    draft_tokens: int
    speedup: float


@dataclass(frozen=True, slots=True)
class SpeedupMap:
    """Cells by batch, then draft length, with the decision drawn from them."""

    cells: tuple[Cell, ...]
    price_name: str  # the profile's name, or roofline
    acceptance: Origin | None  # where the acceptance law is from; None: no drafter
    served: ServedLoad | None = None  # None: decoding alone

    def __repr__(self) -> str:
        longest = max(cell.draft_tokens for cell in self.cells)
        return (
            f"<SpeedupMap: batch sizes {self.batches[0]} to {self.batches[-1]}, k 0 to {longest}, {self.price_name}>"
        )

    @property
    def batches(self) -> list[int]:
        """Its batch sizes, ascending."""
        return sorted({cell.batch for cell in self.cells})

    def worst_source(self) -> str:
        """The least sure source of any cell's round."""
        order: tuple[str, ...] = SOURCES
        return max((cell.source for cell in self.cells), key=order.index)

    def best(self) -> tuple[Best, ...]:
        """The best draft length of each batch size; the shorter one wins a tie."""
        return tuple(self._best_of(batch) for batch in self.batches)

    def _best_of(self, batch: int) -> Best:
        row = [cell for cell in self.cells if cell.batch == batch]
        top = max(row, key=lambda cell: (cell.output_tokens_per_s, -cell.draft_tokens))
        return Best(batch, top.draft_tokens, top.speedup)

    def break_even_batch(self) -> int | None:
        """The largest batch whose best speed-up exceeds 1; None if there is none."""
        winning = [best.batch for best in self.best() if best.draft_tokens > 0 and best.speedup > 1.0]
        return max(winning, default=None)

    def never_breaks_even(self) -> bool:
        """Whether speculation still pays at the largest batch of the map."""
        return self.break_even_batch() == self.batches[-1]

    def cell(self, batch: int, draft_tokens: int) -> Cell:
        """One cell; raises KeyError if the map does not hold it."""
        for cell in self.cells:
            if (cell.batch, cell.draft_tokens) == (batch, draft_tokens):
                return cell
        raise KeyError((batch, draft_tokens))

    def as_json(self) -> dict[str, Any]:
        """The document that ``specsim predict --json`` prints."""
        return {
            "grid": [asdict(cell) for cell in self.cells],
            "best": [{"batch": b.batch, "draft_tokens": b.draft_tokens, "speedup": b.speedup} for b in self.best()],
            "break_even_batch": self.break_even_batch(),
            "never_breaks_even": self.never_breaks_even(),
            "prices": self.price_name,
            "served": None if self.served is None else self.served.as_json(),
            "acceptance": None if self.acceptance is None else self.acceptance.model_dump(),
        }
