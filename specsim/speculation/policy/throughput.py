"""The k of highest expected throughput, from acceptance as it has been seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from specsim.speculation.acceptance import Acceptance, AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy, check_counts_in_a_row
from specsim.speculation.policy.prices import kept, round_prices
from specsim.speculation.policy.protocol import Setting
from specsim.validated import Share

if TYPE_CHECKING:
    from specsim.speculation.policy.learning import Learning


class ThroughputPolicy(ChoosingPolicy):
    """Arg-max over k of batch·E[tokens](k) / round seconds(batch, k, context), acceptance learned on the way.

    TurboSpec's rule (its "goodput"; arXiv 2406.14066, section 4), with a rate for each draft position as in vLLM PR
    44336. ``ema``: weight of the newest draft seen at a position. ``every``: steps between decisions. ``margin``: a
    new k must promise this share more than the present one. ``off_bonus``: k = 0 counts this share more (0.1 in the
    published code). ``explore``: share of decisions taken at random among the choices (0.1 in that PR), without which
    speculation that was once switched off shows no acceptance again. ``switch_cost_s``: seconds to bring the drafter's
    cache up to date when speculation comes back (Nightjar, arXiv 2512.22420), here spread over ``every`` steps.
    ``acceptance``: what is believed at first; None: the scenario's law.
    """

    kind: Literal["throughput"] = "throughput"
    ema: float = Field(0.02, gt=0, le=1)
    every: PositiveInt = 1
    margin: NonNegativeFloat = 0.0
    off_bonus: NonNegativeFloat = 0.0
    explore: Share = 0.0
    switch_cost_s: NonNegativeFloat = 0.0
    acceptance: Acceptance | None = None

    def check(self, acceptance: AcceptanceLaw, choices: Sequence[int]) -> None:
        super().check(acceptance, choices)
        check_counts_in_a_row(acceptance, self.kind)

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Learning:
        from specsim.speculation.policy.rules.throughput import throughput  # numba comes with it

        law = setting.acceptance if self.acceptance is None else self.acceptance
        rule = self.model_dump(include={"ema", "every", "margin", "off_bonus", "explore", "switch_cost_s"})
        prices = kept(round_prices, setting.cost, allowed, setting.max_num_seqs)
        rates = law.conditional_rates(allowed[-1])
        return throughput(allowed, rates, prices, max_num_seqs=setting.max_num_seqs, seed=setting.seed, **rule)
