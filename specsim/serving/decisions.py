"""What of a step Python answers: how much is drafted next where a policy learns, and the price without tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from specsim.arrays import Floats
from specsim.cost.forward import SOURCES, Group, Source
from specsim.jit import array_at
from specsim.scheduling.records import GROUP
from specsim.scheduling.replica import Records, ReplicaArrays
from specsim.speculation.acceptance import AcceptanceDraws
from specsim.speculation.policy.protocol import Decider, Rounds

if TYPE_CHECKING:
    from specsim.serving.fleet import Kind


class Decisions:
    """One replica's decider and prices, as far as they are Python's."""

    def __init__(self, kind: Kind, classes: Sequence[str], replica: ReplicaArrays, work: Records) -> None:
        self._assembly, self._classes = kind.assembly, classes
        self._decider: Decider | None = kind.assembly.decider() if kind.draft_lengths is None else None
        self._prices = kind.prices is None
        self._record, self._shares, self._work = replica.record, replica.shares, work
        self._draws: dict[int, AcceptanceDraws] = {}

    def answer(self) -> None:
        """Of the step that has begun."""
        shares = self._shares[: self._record["num_shares"][0]]
        if self._decider is not None:
            self._record["draft_tokens"] = self._decide(self._decider, shares)
        if self._prices:
            self._price(shares)

    def _decide(self, decider: Decider, shares: Records) -> int:
        """Sets what each share proposes; returns how many tokens the drafter computes."""
        ids, drafted, accepted = shares["request_id"], shares["drafts"], shares["accepted"]
        if not drafted.all():
            seen = drafted > 0
            ids, drafted, accepted = ids[seen], drafted[seen], accepted[seen]
        decider.observe(Rounds(ids, drafted, accepted, len(shares)))
        k = min(decider.draft_tokens(len(shares), self._work["context_tokens"].item()), self._assembly.longest)
        if not k or not self._work["num_drafting"].item():
            return k
        if decider.uniform:
            shares["proposed"] = k
            return k
        going = np.flatnonzero(shares["goes_on"])
        confidences = self._confidences(shares[going], k) if decider.needs_confidences else None
        drafts = decider.lengths(shares["request_id"][going], k, confidences)
        shares["proposed"][going] = drafts.lengths
        return drafts.computed

    def _confidences(self, shares: Records, k: int) -> Floats:
        """Of each draft, [sequences, k]."""
        found, classes = np.zeros((len(shares), k)), shares["request_class"]
        for index in np.unique(classes).tolist():
            if index not in self._draws:
                law = self._assembly.law(self._classes[index])
                assert law is not None
                self._draws[index] = AcceptanceDraws(law, self._assembly.seed)
            mine = classes == index
            found[mine] = self._draws[index].confidences(shares["request_id"][mine], shares["position"][mine], k)
        return found

    def _price(self, shares: Records) -> None:
        work = self._work[0]
        decodes = array_at(int(work["groups"]), int(work["num_widths"]), GROUP)
        groups = [Group(int(n), int(width), kv, int(width)) for n, width, kv in decodes.tolist()]
        chunks = shares[shares["prefill"] == 1]
        for tokens, position, emits in zip(*(chunks[name].tolist() for name in _CHUNK), strict=True):
            groups.append(Group(1, tokens, position, emits))
        price = self._assembly.cost.step(
            groups, drafting=int(work["num_drafting"]), draft_tokens=int(self._record["draft_tokens"][0]),
            drafting_kv_tokens=float(work["drafting_kv_tokens"]),
        )  # fmt: skip
        work["seconds"], work["rank"] = float(cast(Any, price.seconds)), SOURCES.index(cast(Source, price.source))
        work["lag_s"] = price.lag_s


_CHUNK = ("tokens", "kv_tokens", "emits")
