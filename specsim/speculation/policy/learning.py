"""Deciders that look at more than the batch size: a compiled rule each, and records for what it knows and is shown.

The compiled step calls a rule by its address and Python calls the same one, so there is no second implementation. A
rule is a function of (operation, address of a DECIDER). Every operation may answer LACKS, having changed nothing:
Python then works out the price that it asks for, and asks again.

    OBSERVE        learn from what the ``rounds`` verified; those without drafts have none
    DRAFT_TOKENS   the most that any sequence drafts after a step of ``batch`` sequences
    LENGTHS        put down what each round that goes on proposes; answers how many drafts are computed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.errors import InvalidInput
from specsim.jit import NONE, Callback, address_of, integers_at, jit, mixed_record, record_at
from specsim.speculation.policy.prices import PER_OCTAVE, KeptPrices
from specsim.speculation.policy.protocol import Drafts, Rounds

OBSERVE, DRAFT_TOKENS, LENGTHS = range(3)
LACKS = -1

ROUND_FIELDS = ("drafts", "accepted", "goes_on", "proposed", "memory", "confidences")
ROUND = mixed_record(ROUND_FIELDS)
"""One sequence of a step as a rule sees it; a longer record may begin so.

drafts, accepted   what it verified; none where ``drafts`` is 0
goes_on            it drafts next: ``proposed`` tokens
memory             a number that the rule keeps for the request, 0 at first
confidences        address of those of its next drafts
"""

DECIDER = mixed_record(
    """
    rule state num_states rounds round_bytes num_rounds batch draft_tokens most
    last_most hold_steps held held_for uniform prices price_rows lacking_octave
    lacking_row
    """,
    "context_tokens",
)
"""One replica's decider.

rule, state            its function; what it knows, ``num_states`` records of the rule's own type
rounds, num_rounds     ROUND records, ``round_bytes`` from one to the next
batch, context_tokens  sequences in the step, prefills too; mean KV length of those that will draft
draft_tokens           the most that any of them may draft
most, last_most        draft lengths that are never exceeded, by batch size; the last entry beyond it. NONE: no limit
hold_steps             decisions that k stays for once it has changed; it is ``held`` (-1: not yet) ``held_for`` some
uniform                whether all sequences of a step draft alike, so that LENGTHS is never asked
prices                 addresses of prices, [OCTAVES, price_rows], NONE where none was made; see ``prices.KeptPrices``
lacking_octave, .._row which of them is needed
"""

round_at = record_at(ROUND)
decider_at = record_at(DECIDER)


@jit
def round_of(decider: Any, index: int) -> Any:
    """One sequence of the step."""
    return round_at(decider.rounds + index * decider.round_bytes)


@jit
def bounded(decider: Any, k: int) -> int:
    """The k that is taken where a rule wants ``k``: within the limits, and held."""
    if decider.most != NONE:
        k = min(k, integers_at(decider.most)[min(decider.batch, decider.last_most)])
    if decider.held < 0 or (k != decider.held and decider.held_for >= decider.hold_steps):
        decider.held, decider.held_for = k, 0
    decider.held_for += 1
    return int(decider.held)


@jit
def price_address(decider: Any, row: int) -> int:
    """Where the prices at the step's KV length lie; NONE, with a note for Python, where none were made."""
    octave = int(np.rint(np.log2(max(1.0, decider.context_tokens)) * PER_OCTAVE))
    rows = decider.price_rows
    address = integers_at(decider.prices)[octave * rows + row]
    if address == NONE:
        decider.lacking_octave, decider.lacking_row = octave, row
    return int(address)


class Learning:
    """One replica's decider, as ``protocol.Decider`` has it, over a DECIDER record that compiled code works on.

    ``state``: records that its rule knows; ``needs``: arrays that they point to. ``remembered``: requests whose
    ``memory`` Python keeps, the one unseen for longest being forgotten first; compiled code keeps it with the request.
    """

    def __init__(
        self,
        rule: Callback,
        state: np.ndarray[Any, Any],
        *needs: np.ndarray[Any, Any],
        uniform: bool = True,
        needs_confidences: bool = False,
        prices: KeptPrices | None = None,
        remembered: int = 0,
    ) -> None:
        self.uniform, self.needs_confidences = uniform, needs_confidences
        self.record = np.zeros(1, DECIDER)
        self._rule, self._prices, self._remembered, self._kept = rule, prices, remembered, [state, *needs]
        self._memory: dict[int, int] = {}
        fields = {
            "rule": rule.address,
            "state": address_of(state),
            "num_states": len(state),
            "uniform": uniform,
            "hold_steps": 1,
            "held": -1,
        }
        if prices is not None:
            fields |= {"prices": address_of(prices.addresses), "price_rows": prices.addresses.shape[1]}
        for name, value in fields.items():
            self.record[name] = value

    def limit(self, most: Sequence[int]) -> None:
        """Draft lengths never to exceed, by batch size; the last entry beyond it."""
        limits = np.array(most, dtype=np.int64)
        self._kept.append(limits)
        self.record["most"], self.record["last_most"] = address_of(limits), len(limits) - 1

    def hold(self, steps: int) -> None:
        """k stays for at least so many decisions once it has changed."""
        self.record["hold_steps"] = steps

    def learn_price(self) -> None:
        """Work out what the rule lacked last."""
        assert self._prices is not None
        self._prices.add(int(self.record["lacking_octave"][0]), int(self.record["lacking_row"][0]))

    # As Decider

    def table(self) -> None:
        return None

    def observe(self, rounds: Rounds) -> None:
        shown = self._shown(rounds.request_ids)
        shown["drafts"], shown["accepted"] = rounds.drafted, rounds.accepted
        self._ask(OBSERVE, shown, rounds.batch)
        for request, memory in zip(rounds.request_ids.tolist(), shown["memory"].tolist(), strict=True):
            self._memory.pop(request, None)
            self._memory[request] = memory
        while len(self._memory) > self._remembered:
            del self._memory[next(iter(self._memory))]

    def draft_tokens(self, batch: int, context_tokens: float) -> int:
        self.record["context_tokens"] = context_tokens
        return self._ask(DRAFT_TOKENS, self._shown(np.zeros(0, dtype=np.int64)), batch)

    def lengths(self, request_ids: Integers, draft_tokens: int, confidences: Floats | None) -> Drafts:
        shown = self._shown(request_ids)
        shown["goes_on"], self.record["draft_tokens"] = 1, draft_tokens
        seen = np.zeros((len(request_ids), draft_tokens))
        if self.needs_confidences:
            seen = np.ascontiguousarray(required(confidences)[:, :draft_tokens], dtype=np.float64)
        shown["confidences"] = address_of(seen) + seen.strides[0] * np.arange(len(seen))
        computed = self._ask(LENGTHS, shown, int(self.record["batch"][0]))
        return Drafts(shown["proposed"].copy(), computed)

    def _shown(self, request_ids: Integers) -> np.ndarray[Any, Any]:
        rounds = np.zeros(len(request_ids), ROUND)
        rounds["memory"] = [self._memory.get(request, 0) for request in request_ids.tolist()]
        return rounds

    def _ask(self, operation: int, rounds: np.ndarray[Any, Any], batch: int) -> int:
        record = self.record
        record["rounds"], record["num_rounds"], record["batch"] = address_of(rounds), len(rounds), batch
        record["round_bytes"] = ROUND.itemsize
        while (answer := self._rule(operation, address_of(record))) == LACKS:
            self.learn_price()
        return answer


def required(confidences: Floats | None) -> Floats:
    """The confidences; raises InvalidInput without any."""
    if confidences is None:
        raise InvalidInput(
            "this policy looks at confidences and nothing gives any; impose acceptance of kind confidence"
        )
    return confidences
