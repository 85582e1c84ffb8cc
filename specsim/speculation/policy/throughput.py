"""The k of highest expected throughput, from acceptance as it has been seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from specsim.arrays import Floats
from specsim.speculation.acceptance import Acceptance, AcceptanceLaw
from specsim.speculation.policy.base import ChoosingPolicy, check_counts_in_a_row
from specsim.speculation.policy.deciders import DeciderBase
from specsim.speculation.policy.prices import RoundPrices, first_best
from specsim.speculation.policy.protocol import Decider, Rounds, Setting

Share = Annotated[float, Field(ge=0, le=1)]


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

    def decide(self, setting: Setting, allowed: tuple[int, ...]) -> Decider:
        law = setting.acceptance if self.acceptance is None else self.acceptance
        rates = PositionRates(law.conditional_rates(allowed[-1]), self.ema)
        return _ArgMax(self, allowed, rates, RoundPrices(setting.cost, allowed, setting.max_num_seqs), setting.seed)


class PositionRates:
    """Conditional acceptance rates a_1..a_k, each a moving average over the drafts that came so far."""

    def __init__(self, prior: Floats, weight: float) -> None:
        self.rates: list[float] = prior.tolist()
        self._keep = 1.0 - weight

    def observe(self, rounds: Rounds) -> None:
        """Drafts of one step count alike; n of them move an average by 1 - (1 - weight)^n of the way."""
        size, seen, right = len(self.rates) + 1, [0] * len(self.rates), [0] * len(self.rates)
        for code, count in enumerate(np.bincount(rounds.drafted * size + rounds.accepted).tolist()):
            if not count:
                continue
            drafted, accepted = divmod(code, size)
            for position in range(min(drafted, accepted + 1)):
                seen[position] += count
                right[position] += count if position < accepted else 0
        for position, count in enumerate(seen):
            if count:
                kept = self._keep**count
                self.rates[position] = kept * self.rates[position] + (1.0 - kept) * right[position] / count

    def expected_tokens(self) -> list[float]:
        """1 + Σ r_i for k = 0, 1, .. the longest."""
        return [1.0, *(1.0 + reached for reached in accumulate(accumulate(self.rates, mul)))]


class _ArgMax(DeciderBase):
    def __init__(
        self, policy: ThroughputPolicy, choices: tuple[int, ...], rates: PositionRates, prices: RoundPrices, seed: int
    ) -> None:
        self._policy, self._choices, self._rates, self._prices = policy, choices, rates, prices
        self._luck = np.random.default_rng(seed)
        self._chosen: int | None = None  # index into the choices
        self._shown = 0  # the same, unless this interval explores
        self._steps = 0

    def observe(self, rounds: Rounds) -> None:
        if len(rounds.drafted):
            self._rates.observe(rounds)

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        if self._steps % self._policy.every == 0:
            self._chosen = self._best(batch, context_tokens)
            exploring = self._policy.explore and self._luck.random() < self._policy.explore
            self._shown = int(self._luck.integers(len(self._choices))) if exploring else self._chosen
        self._steps += 1
        return self._choices[self._shown]

    def _best(self, batch: int, context_tokens: float) -> int:
        """Index of the best choice, the present one if nothing beats it by the margin."""
        policy, present = self._policy, self._chosen
        switch_s = policy.switch_cost_s / policy.every if present is not None and not self._choices[present] else 0.0
        tokens, values = self._rates.expected_tokens(), []
        for k, seconds in zip(self._choices, self._prices.near(batch, context_tokens), strict=True):
            values.append(tokens[k] / (seconds + switch_s) if k else tokens[0] / seconds * (1.0 + policy.off_bonus))
        best = first_best(values)
        if present is not None and values[best] <= values[present] * (1.0 + policy.margin):
            return present
        return best
