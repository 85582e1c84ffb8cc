"""Requests as they arrive, before anything has served them: arrays for runs of any size, rows for small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from specsim.errors import InvalidInput
from specsim.workload.prefixes import PrefixHashes, joined_prefixes, prefix_hashes

DEFAULT_CLASS = "default"
MAX_TOKENS = 100_000_000  # no context is near it; a length beyond is a column or unit mixed up
MAX_CLASSES = 32_767


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """One request. ``arrival_s`` is None in a closed loop, where the client's previous answer and ``think_s`` decide.

    ``prefix_hashes`` of blocks of ``hash_block_tokens`` as in PrefixHashes; empty: nothing is known to be shared.
    """

    request_id: int
    arrival_s: float | None
    prompt_tokens: int
    output_tokens: int
    request_class: str = DEFAULT_CLASS
    think_s: float = 0.0
    priority: int = 0  # lower goes first, where the engine's policy looks at it
    prefix_hashes: tuple[int, ...] = ()
    hash_block_tokens: int = 0

    def due_s(self) -> float:
        """When it arrives. Raises InvalidInput in a closed loop, where nobody knows."""
        if self.arrival_s is None:
            raise InvalidInput(f"request {self.request_id} has no arrival time; give one, or closed-loop clients")
        return self.arrival_s


@dataclass(frozen=True, slots=True)
class Requests:
    """n requests in the order they arrive; row i has the id ``first_id + i``, or ``ids[i]`` where these are given.

    ``arrival_s`` is None in a closed loop, where row i is sent ``think_s[i]`` after its client's previous answer (the
    first row of each client at 0); ``think_s`` is None in an open one. ``classes[class_index[i]]`` is
    row i's class, ``priorities`` those of the classes.
    """

    arrival_s: NDArray[np.float64] | None  # [n], not descending
    prompt_tokens: NDArray[np.int32]
    output_tokens: NDArray[np.int32]
    class_index: NDArray[np.int16]
    classes: tuple[str, ...] = (DEFAULT_CLASS,)
    priorities: tuple[int, ...] = (0,)
    first_id: int = 0
    think_s: NDArray[np.float64] | None = None
    prefixes: PrefixHashes | None = None
    ids: NDArray[np.int64] | None = None

    @property
    def request_ids(self) -> NDArray[np.int64]:
        """The id of each row."""
        return self.first_id + np.arange(len(self)) if self.ids is None else self.ids

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def take(self, rows: NDArray[np.int64]) -> Requests:
        """These rows in this order, numbered anew from ``first_id``; arrivals go along."""
        return replace(
            self,
            arrival_s=None if self.arrival_s is None else self.arrival_s[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            class_index=self.class_index[rows],
            think_s=None if self.think_s is None else self.think_s[rows],
            prefixes=None if self.prefixes is None else self.prefixes.take(rows),
            ids=None,
        )

    def part(self, start: int, stop: int) -> Requests:
        """Rows start..stop-1 under the ids that they have here; views, no copies."""
        stop = min(stop, len(self))
        return replace(
            self,
            arrival_s=None if self.arrival_s is None else self.arrival_s[start:stop],
            prompt_tokens=self.prompt_tokens[start:stop],
            output_tokens=self.output_tokens[start:stop],
            class_index=self.class_index[start:stop],
            first_id=self.first_id + start,
            think_s=None if self.think_s is None else self.think_s[start:stop],
            prefixes=None if self.prefixes is None else self.prefixes.part(start, stop),
            ids=None if self.ids is None else self.ids[start:stop],
        )

    def chunks(self, size: int) -> Iterator[Requests]:
        """Consecutive parts of ``size`` rows, the last one shorter."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)

    def rows(self) -> list[RequestSpec]:
        """One object a request, for runs small enough."""
        count, prefixes = len(self), self.prefixes
        arrivals: list[float | None] = [None] * count if self.arrival_s is None else self.arrival_s.tolist()
        thinking = [0.0] * count if self.think_s is None else self.think_s.tolist()
        index = self.class_index.tolist()
        hashes: list[tuple[int, ...]] = [()] * count if prefixes is None else prefixes.rows()
        block = 0 if prefixes is None else prefixes.block_tokens
        columns = zip(
            self.request_ids.tolist(),
            arrivals,
            self.prompt_tokens.tolist(),
            self.output_tokens.tolist(),
            (self.classes[i] for i in index),
            thinking,
            (self.priorities[i] for i in index),
            hashes,
            (block if one else 0 for one in hashes),
            strict=True,
        )
        return [RequestSpec(*row) for row in columns]


def requests_of(rows: Sequence[RequestSpec]) -> Requests:
    """The arrays of rows, which must all be of one loop, open or closed.

    Raises InvalidInput: some rows with an arrival time and some without, an absurd length.
    """
    closed = bool(rows) and rows[0].arrival_s is None
    ids = np.array([row.request_id for row in rows], dtype=np.int64)
    for row in rows:
        if (row.arrival_s is None) is not closed:
            raise InvalidInput(f"request {row.request_id} mixes open and closed loop; give all arrivals or none")
        for tokens in (row.prompt_tokens, row.output_tokens):
            if not 1 <= tokens <= MAX_TOKENS:
                raise InvalidInput(f"request {row.request_id} has {tokens} tokens; give 1 to {MAX_TOKENS}")
    index_of: dict[tuple[str, int], int] = {}
    class_index = [index_of.setdefault((row.request_class, row.priority), len(index_of)) for row in rows]
    return Requests(
        arrival_s=None if closed else np.array([row.arrival_s for row in rows], dtype=np.float64),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int32),
        output_tokens=np.array([row.output_tokens for row in rows], dtype=np.int32),
        class_index=np.array(class_index, dtype=np.int16),
        classes=tuple(name for name, _ in index_of) or (DEFAULT_CLASS,),
        priorities=tuple(priority for _, priority in index_of) or (0,),
        first_id=rows[0].request_id if rows else 0,
        think_s=np.array([row.think_s for row in rows], dtype=np.float64) if closed else None,
        prefixes=_prefixes_of(rows),
        ids=ids if (np.diff(ids) != 1).any() else None,
    )


def joined(parts: Sequence[Requests]) -> Requests:
    """Consecutive parts of one workload as one; the inverse of ``chunks``."""
    if len(parts) == 1:
        return parts[0]
    arrivals = [part.arrival_s for part in parts if part.arrival_s is not None]
    thinking = [part.think_s for part in parts if part.think_s is not None]
    prefixes = [part.prefixes for part in parts if part.prefixes is not None]
    return replace(
        parts[0],
        arrival_s=np.concatenate(arrivals) if arrivals else None,
        prompt_tokens=np.concatenate([part.prompt_tokens for part in parts]),
        output_tokens=np.concatenate([part.output_tokens for part in parts]),
        class_index=np.concatenate([part.class_index for part in parts]),
        think_s=np.concatenate(thinking) if thinking else None,
        prefixes=joined_prefixes(prefixes) if prefixes else None,
        ids=None if parts[0].ids is None else np.concatenate([part.request_ids for part in parts]),
    )


def _prefixes_of(rows: Sequence[RequestSpec]) -> PrefixHashes | None:
    blocks = {row.hash_block_tokens for row in rows if row.prefix_hashes}
    if not blocks:
        return None
    if len(blocks) > 1 or min(blocks) < 1:
        raise InvalidInput(f"prefix hashes of blocks of {sorted(blocks)} tokens; give one positive block size for all")
    return prefix_hashes([row.prefix_hashes for row in rows], blocks.pop())
