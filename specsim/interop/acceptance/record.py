"""What a file says about acceptance, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field

from scipy.optimize import brentq

from specsim.errors import InvalidInput
from specsim.results import AcceptanceCounts
from specsim.speculation.acceptance import AcceptanceLaw, ConstantAcceptance, RoundHistory
from specsim.speculation.fit import fit_conditional

HIGHEST_RATE = 1 - 1e-9
MOST_ROUNDS = 10**15  # more than every server's together; sums of so many are exact


@dataclass(frozen=True, slots=True)
class MeanAcceptance:
    """All that some engines tell: tokens a round commits in the mean, bonus included, over drafts of one length.

    ``rounds``: how many the mean is over, None where the file does not say.
    """

    acceptance_length: float
    draft_tokens: int
    rounds: int | None = None

    def law(self) -> ConstantAcceptance:
        """The constant rate of this mean: the root of (1 - a^(k+1)) / (1 - a) = AL (Leviathan et al. 2023, eq. 1).

        2.44 tokens over 4 drafts give 0.6312. Raises InvalidInput for a mean outside [1, k + 1].
        """
        if not 1 <= self.acceptance_length <= self.draft_tokens + 1:
            raise InvalidInput(
                f"an acceptance length of {self.acceptance_length:g} is impossible with {self.draft_tokens} drafts; "
                f"it lies within 1 and {self.draft_tokens + 1}: check the draft length"
            )

        def excess(rate: float) -> float:
            return ConstantAcceptance(rate=rate).expected_tokens(self.draft_tokens) - self.acceptance_length

        if excess(HIGHEST_RATE) <= 0:
            return ConstantAcceptance(rate=1.0)
        return ConstantAcceptance(rate=float(brentq(excess, 0.0, HIGHEST_RATE, xtol=1e-12)))


@dataclass(frozen=True, slots=True)
class AcceptanceRecord:
    """``format``: what the file was taken for. At least one of the others is there.

    ``counts``: rounds by tokens drafted and accepted, all requests pooled; ``requests``: the same request by request;
    ``histories``: each request's rounds in order; ``mean``: where only that is known. ``notes``: what the reader of a
    result should know, a line each.
    """

    format: str
    counts: AcceptanceCounts | None = None
    mean: MeanAcceptance | None = None
    requests: tuple[AcceptanceCounts, ...] = ()
    histories: tuple[RoundHistory, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Raises InvalidInput for a number of rounds that nobody counted."""
        counted = [] if self.counts is None else [self.counts, *self.requests]
        rounds = [number for counts in counted for row in counts.rounds.values() for number in row.values()]
        most = max([*rounds, (self.mean and self.mean.rounds) or 0])
        if most > MOST_ROUNDS:
            raise InvalidInput(f"{self.format}: {most:.3g} rounds are more than any server runs; correct the count")

    def acceptance_length(self) -> float:
        """Tokens a drafting round commits in the mean, bonus included."""
        if self.counts is not None:
            found = self.counts.acceptance_length()
            assert found is not None  # readers refuse files without a round
            return found
        assert self.mean is not None
        return self.mean.acceptance_length

    def draft_tokens(self) -> int:
        """The longest draft of any round."""
        return max(self.counts.rounds) if self.counts is not None else self.mean.draft_tokens  # type: ignore[union-attr]

    def law(self) -> AcceptanceLaw:
        """Rates by position where the file has them, else the constant rate of its mean."""
        if self.counts is not None:
            return fit_conditional(self.requests if len(self.requests) > 1 else self.counts).law()
        assert self.mean is not None
        return self.mean.law()
