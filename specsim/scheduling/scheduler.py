"""The step's rules for Python that schedules one replica by hand: recordings, tests and the reference engine.

Objects over the records that ``shares`` works on; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from specsim.arrays import Records
from specsim.errors import InvalidInput
from specsim.jit import address_of, compiled
from specsim.scheduling.engine import engine_of
from specsim.scheduling.records import REQUEST, replica_at
from specsim.scheduling.replica import new_replica, new_shares
from specsim.scheduling.shares import book, schedule, submit
from specsim.scheduling.unschedulable import refuse_unschedulable
from specsim.specs.engine import EngineLimits

__all__ = ["Scheduled", "Scheduler", "SequenceState", "Step"]

MAX_STEPS_IN_FLIGHT = 2


def _submit(replica: int, request: int) -> int:
    submit(replica_at(replica), request)
    return 0


def _schedule(replica: int, _: int) -> int:
    return schedule(replica)


def _book(replica: int, _: int) -> int:
    book(replica_at(replica))
    return 0


class _Number:
    """A whole number of a request's record."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, one: SequenceState, owner: type) -> int:
        return int(one.record[self._name][0])

    def __set__(self, one: SequenceState, value: int) -> None:
        one.record[self._name] = value


class SequenceState:
    """A request's state on one replica; what its numbers mean is told at ``records.REQUEST``."""

    request_id = _Number()
    prompt_tokens = _Number()
    output_tokens = _Number()
    priority = _Number()
    computed_tokens = _Number()
    emitted_tokens = _Number()
    draft_tokens = _Number()
    in_flight_tokens = _Number()
    stale_tokens = _Number()
    merged_tokens = _Number()
    blocks = _Number()
    named_blocks = _Number()
    hit_tokens = _Number()
    lost_tokens = _Number()
    preemptions = _Number()

    def __init__(
        self,
        request_id: int,
        prompt_tokens: int,
        output_tokens: int,
        computed_tokens: int = 0,
        *,
        priority: int = 0,
        prefix_hashes: Iterable[int] = (),
        hash_block_tokens: int = 0,
    ) -> None:
        self.record = np.zeros(1, REQUEST)
        self._hashes = np.array(tuple(prefix_hashes), dtype=np.int64)
        self.request_id, self.prompt_tokens, self.output_tokens = request_id, prompt_tokens, output_tokens
        self.computed_tokens, self.priority = computed_tokens, priority
        self.record["hashes"], self.record["num_hashes"] = address_of(self._hashes), len(self._hashes)
        self.record["hash_block_tokens"] = hash_block_tokens

    @property
    def known_tokens(self) -> int:
        """Positions whose token is known."""
        return self.prompt_tokens + self.emitted_tokens - self.merged_tokens

    @property
    def scheduled_tokens(self) -> int:
        """Positions computed or in flight, drafts among them."""
        return self.computed_tokens + self.in_flight_tokens

    @property
    def finished(self) -> bool:
        return self.emitted_tokens >= self.output_tokens

    def __repr__(self) -> str:
        return f"SequenceState({self.request_id}, {self.prompt_tokens}, {self.output_tokens})"


@dataclass(slots=True)
class Scheduled:
    """One sequence's share of a step, see ``records.SHARE``."""

    sequence: SequenceState
    tokens: int
    drafts: int
    padding: int
    emits: bool
    prefill: bool

    @property
    def kv_tokens(self) -> int:
        """Positions in the cache once this share is computed; asked while no other step is in flight."""
        return self.sequence.computed_tokens + self.tokens


@dataclass(slots=True)
class Step:
    """What one engine step computes."""

    scheduled: list[Scheduled]
    preempted: list[SequenceState]
    shares: Records = field(repr=False)

    @property
    def total_tokens(self) -> int:
        return sum(share.tokens for share in self.scheduled)


class Scheduler:
    """Queues and running sequences of one replica. Keyword arguments as ``replica.engine_of`` has them."""

    def __init__(self, limits: EngineLimits, num_kv_blocks: int, **drafting: Any) -> None:
        self.limits = limits
        self.engine = engine_of(limits, num_kv_blocks, **drafting)
        self._replica = new_replica(self.engine)
        self._at = address_of(self._replica.record)
        self._known: dict[int, SequenceState] = {}  # by address, until it has finished
        self._spare_shares = [self._replica.shares] + [new_shares(self.engine) for _ in range(1, MAX_STEPS_IN_FLIGHT)]

    # -- requests -------------------------------------------------------------------------------------------------

    def add(self, sequence: SequenceState) -> None:
        """Queue a new request. Raises NoAnswer for one that could never run."""
        refuse_unschedulable(self.engine, sequence.request_id, sequence.prompt_tokens, sequence.output_tokens)
        self._known[address_of(sequence.record)] = sequence
        compiled(_submit)(self._at, address_of(sequence.record))

    def resume(self, sequence: SequenceState) -> None:
        """Let a sequence run whose ``computed_tokens`` lie in the cache; it takes its blocks in its next step."""
        self._known[address_of(sequence.record)] = sequence
        self._replica.running[self._of("num_running")] = address_of(sequence.record)
        self._replica.record["num_running"] += 1

    @property
    def waiting(self) -> list[SequenceState]:
        """The queue, the next one first."""
        found, address = [], self._of("first_waiting")
        while address:
            found.append(self._known[address])
            address = int(found[-1].record["after"][0])
        return found

    @property
    def num_waiting(self) -> int:
        return self._of("num_waiting")

    @property
    def running(self) -> list[SequenceState]:
        return [self._known[address] for address in self._replica.running[: self._of("num_running")].tolist()]

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished; all work may be in flight, so that ``schedule`` gives an empty step."""
        return self._of("num_running") + self._of("num_waiting") > 0

    # -- KV blocks ------------------------------------------------------------------------------------------------

    @property
    def num_blocks(self) -> int:
        """KV blocks that can be held."""
        return int(self.engine["num_blocks"][0])

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody holds, those with a name included."""
        return self._of("free_plain") + self._of("free_named")

    # -- a step ---------------------------------------------------------------------------------------------------

    def schedule(self) -> Step:
        """Choose the next step's work and take the KV blocks it needs. At most two steps may be in flight."""
        if not self._spare_shares:
            raise InvalidInput(f"{MAX_STEPS_IN_FLIGHT} steps are in flight; complete one before the next is scheduled")
        record, shares = self._replica.record, self._spare_shares[-1]
        record["shares"] = address_of(shares)
        count = compiled(_schedule)(self._at, 0)
        if count:
            self._spare_shares.pop()
        columns = (shares[name][:count].tolist() for name in ("request", "tokens", "drafts", "padding"))
        flags = (shares[name][:count].astype(bool).tolist() for name in ("emits", "prefill"))
        scheduled = [Scheduled(self._known[address], *rest) for address, *rest in zip(*columns, *flags, strict=True)]
        preempted = self._replica.preempted[: self._of("num_preempted")].tolist()
        return Step(scheduled, [self._known[address] for address in preempted], shares)

    def complete(self, step: Step, accepted: list[int]) -> list[int]:
        """Book a computed step, the oldest in flight; ``accepted[i]`` drafts of ``step.scheduled[i]`` were right.

        Returns the tokens each share emitted, see ``shares.book``. Finished sequences leave.
        """
        count = len(step.scheduled)
        if not count:
            return []
        step.shares["accepted"][:count] = accepted
        self._replica.record["shares"], self._replica.record["num_shares"] = address_of(step.shares), count
        compiled(_book)(self._at, 0)
        self._spare_shares.append(step.shares)
        for share in step.scheduled:
            if share.sequence.finished:
                self._known.pop(address_of(share.sequence.record), None)
        emitted: list[int] = step.shares["emitted"][:count].tolist()
        return emitted

    def propose(self, sequence: SequenceState, draft_tokens: int) -> None:
        """Record drafts to verify in the sequence's next step."""
        sequence.draft_tokens = draft_tokens

    def _of(self, name: str) -> int:
        return int(self._replica.record[name][0])
