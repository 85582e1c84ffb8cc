"""The acceptance law of several logs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specsim.errors import InvalidInput
from specsim.interop.acceptance.read import rounds_of
from specsim.interop.acceptance.record import AcceptanceRecord
from specsim.notebook import html_table
from specsim.speculation.fit import ChosenLaw, Observed, choose_law, law_of_mean, spread_given


@dataclass(frozen=True, slots=True)
class LawOfLogs:
    """``rounds``: what the law was fitted to, None where the logs tell a mean alone; ``used``: which records."""

    chosen: ChosenLaw
    rounds: Observed | None
    used: tuple[bool, ...]

    def __repr__(self) -> str:
        length, chosen = self.chosen.acceptance_length, self.chosen
        return (
            f"<LawOfLogs: {chosen.name}, {length.value:.2f} tokens a round at {chosen.draft_tokens} drafts "
            f"({chosen.level:.0%} interval {length.low:.2f} to {length.high:.2f})>"
        )

    def _repr_html_(self) -> str:
        rows = [
            [name, f"{one.value:.3f}", f"{one.low:.3f}", f"{one.high:.3f}"]
            for name, one in self.chosen.numbers.items()
        ]
        return html_table(repr(self)[1:-1], ("number", "value", "low", "high"), rows)


def law_of_logs(records: Sequence[AcceptanceRecord], *, concentration: float | None = None) -> LawOfLogs:
    """The law of those records that tell most; where none counts rounds, of the first one's mean.

    ``concentration``: of requests' Beta law, known from elsewhere, which turns pooled counters into a law of requests.
    Raises InvalidInput where the logs tell requests apart themselves.
    """
    rounds, used = None, (True,) + (False,) * (len(records) - 1)
    mean = records[0].mean
    if any(record.counts is not None for record in records):
        rounds, used = rounds_of(records)
        chosen = choose_law(rounds)
    else:
        assert mean is not None  # a record has counts or a mean
        chosen = law_of_mean(mean.acceptance_length, mean.draft_tokens, mean.rounds)
    if concentration is not None:
        if rounds is not None and not rounds.pooled:
            raise InvalidInput("a concentration is for pooled counters; these logs tell requests apart: leave it out")
        chosen = spread_given(chosen, concentration)
    return LawOfLogs(chosen, rounds, used)
