"""The k of highest expected throughput, from acceptance as it has been seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from specsim.arrays import Floats
from specsim.jit import NONE, address_of, compiled, floats_at, integers_at, jit, mixed_record, record_at
from specsim.speculation.compiled_uniform import key_of, uniform_of
from specsim.speculation.policy.learning import (
    DRAFT_TOKENS,
    LACKS,
    OBSERVE,
    Learning,
    bounded,
    decider_at,
    price_address,
    round_of,
)
from specsim.speculation.policy.prices import KeptPrices
from specsim.speculation.uniform import stream_seed

EXPLORE_STREAM = 203  # of the counter-based numbers; acceptance laws, classes and the router have others
SLACK = 1e-12  # values as near as this are equal, and the first is taken

BELIEF = mixed_record(
    """
    choices num_choices rates num_rates values last_batch chosen shown steps every
    seed
    """,
    "ema margin off_bonus explore switch_cost_s",
)
"""``rates``: conditional acceptance by position. ``chosen``: place of the present choice, -1 before the first;
``shown``: the same, unless this interval explores. ``values``: scratch, one a choice. The rest as
``policy.throughput``."""
belief_at = record_at(BELIEF)


def throughput(
    choices: Sequence[int], rates: Floats, prices: KeptPrices, *, max_num_seqs: int, seed: int, **rule: float
) -> Learning:
    """``rates``: believed at first; ``rule``: the policy's numbers under their names."""
    lengths, rates, values = np.array(choices, dtype=np.int64), rates.copy(), np.zeros(len(choices))
    state = np.zeros(1, BELIEF)
    fields = {
        "choices": address_of(lengths),
        "num_choices": len(lengths),
        "rates": address_of(rates),
        "num_rates": len(rates),
        "values": address_of(values),
        "last_batch": max_num_seqs - 1,
        "chosen": -1,
        "seed": stream_seed(seed, EXPLORE_STREAM),
    }
    for name, value in (fields | rule).items():
        state[name] = value
    return Learning(compiled(_throughput), state, lengths, rates, values, prices=prices)


def _throughput(operation: int, at: int) -> int:
    decider = decider_at(at)
    belief = belief_at(decider.state)
    if operation == OBSERVE:
        _observe(decider, belief)
        return 0
    if operation == DRAFT_TOKENS:
        if belief.steps % belief.every == 0:
            prices = price_address(decider, 0)
            if prices == NONE:
                return LACKS
            _choose(decider, belief, prices)
        belief.steps += 1
        return bounded(decider, integers_at(belief.choices)[belief.shown])
    return 0


@jit
def _observe(decider: Any, belief: Any) -> None:
    """Drafts of one step count alike; n of them move an average by 1 - (1 - ema)^n of the way."""
    rates = floats_at(belief.rates)
    for position in range(belief.num_rates):
        seen, right = 0, 0
        for index in range(decider.num_rounds):
            one = round_of(decider, index)
            reached = one.drafts > position and one.accepted >= position
            seen += reached
            right += reached and one.accepted > position
        if seen:
            kept = (1.0 - belief.ema) ** float(seen)
            rates[position] = kept * rates[position] + (1.0 - kept) * right / seen


@jit
def _choose(decider: Any, belief: Any, prices: int) -> None:
    belief.chosen = _best(decider, belief, prices)
    belief.shown = belief.chosen
    key = key_of(belief.seed, belief.steps)
    if uniform_of(key, 0) < belief.explore:
        belief.shown = int(uniform_of(key, 1) * belief.num_choices)


@jit
def _best(decider: Any, belief: Any, prices: int) -> int:
    """Place of the best choice, the present one if nothing beats it by the margin."""
    count, present = belief.num_choices, belief.chosen
    choices, values = integers_at(belief.choices), floats_at(belief.values)
    batch = min(max(decider.batch, 1) - 1, belief.last_batch)
    seconds = floats_at(prices + 8 * count * batch)
    switch_s = belief.switch_cost_s / belief.every if present >= 0 and choices[present] == 0 else 0.0
    most = 0.0
    for index in range(count):
        if choices[index]:
            values[index] = _expected_tokens(belief, choices[index]) / (seconds[index] + switch_s)
        else:
            values[index] = 1.0 / seconds[index] * (1.0 + belief.off_bonus)
        most = max(most, values[index])
    best, enough = 0, most * (1.0 - SLACK)
    while values[best] < enough:
        best += 1
    if present >= 0 and values[best] <= values[present] * (1.0 + belief.margin):
        return int(present)
    return best


@jit
def _expected_tokens(belief: Any, k: int) -> float:
    """1 + r_1 + .. + r_k."""
    rates, survival, tokens = floats_at(belief.rates), 1.0, 0.0
    for position in range(k):
        survival *= rates[position]
        tokens += survival
    return 1.0 + tokens
