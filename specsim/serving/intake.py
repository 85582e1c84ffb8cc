"""Requests on their way into a fleet, in parts: arrays behind its FLEET record, forgotten when nobody needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from specsim.arrays import Integers, Records
from specsim.errors import InvalidInput
from specsim.jit import address_of, point
from specsim.scheduling.laws import tracks
from specsim.scheduling.records import PREFILL, REQUEST
from specsim.scheduling.unschedulable import refuse_unschedulable
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.workload.request import Requests

FIRST_RECORDS = 4096
ROWS_WITH_TRACKS = 256  # requests whose tracks are held at once


class Intake:
    """Brings requests into ``record``, a FLEET; ``engines``: the ENGINE records of its replicas.

    ``laws``: of the request classes; ``longest``: the most drafts of a round.
    """

    def __init__(
        self,
        record: Records,
        engines: Sequence[Records],
        laws: Sequence[AcceptanceLaw | None],
        *,
        longest: int,
        seed: int,
    ) -> None:
        self._record, self._engines, self._laws, self._longest, self._seed = record, engines, laws, longest, seed
        self._pools: list[Records] = []
        self._brought: deque[tuple[int, tuple[object, ...]]] = deque()  # up to which request, what it needs
        self.part: Requests | None = None
        self.first_arrival_s: float | None = None
        self.more_records(FIRST_RECORDS)

    def more_records(self, count: int | None = None) -> None:
        """Room for more requests in the system: as many again, or ``count``."""
        pool = np.zeros(sum(map(len, self._pools)) if count is None else count, REQUEST)
        pool["serial"] = -1
        addresses = address_of(pool) + REQUEST.itemsize * np.arange(len(pool))
        pool["after"][:-1] = addresses[1:]
        pool["after"][-1] = self._record["spare_request"][0]
        self._record["spare_request"] = addresses[0]
        self._pools.append(pool)

    def parts(self, whole: Iterable[Requests]) -> Iterable[Requests]:
        """Parts no longer than can be brought at once."""
        drawn = any(law is not None and law.track_fields for law in self._laws)
        for part in whole:
            yield from part.chunks(ROWS_WITH_TRACKS) if drawn else [part]

    def bring(self, part: Requests | None) -> None:
        """The next requests, or None where there are no more. Raises NoAnswer for one that could never run."""
        record = self._record
        if part is None:
            record["no_more_rows"] = 1
            return
        for engine in self._engines:
            _refuse_unschedulable(engine, part)
        columns: dict[str, Records | None] = {
            "request_ids": part.request_ids,
            "arrival_s": part.arrival_s,
            "think_s": np.zeros(len(part)) if part.think_s is None else part.think_s,
            "prompt_tokens": part.prompt_tokens,
            "output_tokens": part.output_tokens,
            "class_index": part.class_index,
            "priorities": np.array(part.priorities),
        }
        columns |= self._tracks(part)
        if part.prefixes is not None:
            columns |= {"hash_starts": part.prefixes.starts, "hashes": part.prefixes.values}
        record["hash_block_tokens"] = 0 if part.prefixes is None else part.prefixes.block_tokens
        record["row"], record["num_rows"] = 0, len(part)
        self._check(part)
        kept = point(record, {name: _as_read(name, column) for name, column in columns.items()})
        self.part = part
        self._forget_old()
        self._brought.append((int(record["taken"][0]) + len(part), (kept, self._values)))

    def _check(self, part: Requests) -> None:
        if self._record["closed"][0] or not len(part):
            return
        times = part.arrival_s
        if times is None:
            raise InvalidInput(f"request {part.request_ids[0]} has no arrival time; give one, or closed-loop clients")
        if self.first_arrival_s is None:
            self.first_arrival_s = float(times[0])
        last = None if self.part is None or self.part.arrival_s is None else float(self.part.arrival_s[-1])
        if np.any(np.diff(times, prepend=times[0] if last is None else last) < 0):
            raise InvalidInput("arrival times descend; sort the requests by arrival")

    def _tracks(self, part: Requests) -> dict[str, Integers]:
        """Addresses of what the laws of the requests fix about them, 0 where there is nothing."""
        self._values: list[Records] = []
        found = {name: np.zeros(len(part), np.int64) for name in ("track", "levels")}
        for index, law in enumerate(self._laws):
            mine = np.flatnonzero(part.class_index == index)
            if law is None or not len(mine):
                continue
            tokens = int(part.output_tokens[mine].max()) + self._longest
            for name, values in tracks(law, self._seed, part.request_ids[mine], tokens).items():
                self._values.append(values)
                found[name][mine] = address_of(values) + values.strides[0] * np.arange(len(mine))
        return found

    def _forget_old(self) -> None:
        """What no request in the system needs any more."""
        numbers = np.concatenate([pool["serial"] for pool in self._pools])
        oldest = numbers[numbers >= 0].min(initial=int(self._record["taken"][0]))
        while self._brought and self._brought[0][0] <= oldest:
            self._brought.popleft()


def _as_read(name: str, column: Records | None) -> Records | None:
    """As compiled functions read a column of that name."""
    return None if column is None else np.asarray(column, dtype=np.float64 if name.endswith("_s") else np.int64)


def _refuse_unschedulable(engine: Records, part: Requests) -> None:
    """Raises NoAnswer for a request that a replica would never finish.

    What a request needs grows with its length and with nothing else, so the longest one speaks for all.
    """
    if len(part):
        outputs = 1 if engine["role"][0] == PREFILL else part.output_tokens
        row = int(np.argmax(part.prompt_tokens.astype(np.int64) + outputs))
        refuse_unschedulable(
            engine, int(part.request_ids[row]), int(part.prompt_tokens[row]), int(part.output_tokens[row])
        )
