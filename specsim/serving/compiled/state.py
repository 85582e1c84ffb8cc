"""What the compiled loop works on: rows of records for requests, replicas and a step's shares, and a log.

Records, not one array a field: numba counts references of every array that is handed on, records have none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specsim.serving.compiled.price import Prices

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Records = NDArray[Any]

NONE = -1  # end of a list of rows

_REQUEST_INTEGERS = (
    "number", "law", "prompt", "output", "computed", "emitted", "merged", "drafts", "blocks", "rounds", "drafted",
    "accepted", "preemptions", "following",
)  # fmt: skip
REQUEST = np.dtype(
    [(name, np.int64) for name in _REQUEST_INTEGERS]
    + [("key", np.uint64)]
    + [(name, np.float64) for name in ("level", "arrival_s", "first_s", "last_s")]
)
"""A request in the system. ``law``: row of Setting.rates, whose rates ``level`` multiplies; ``key``: of its uniform
numbers; ``merged``: emitted tokens without a position of their own; ``following`` links those that wait."""

_REPLICA_INTEGERS = (
    "group", "running", "first_waiting", "last_waiting", "waiting", "first_coming", "last_coming", "free_blocks",
    "in_system", "just_finished",
)  # fmt: skip
REPLICA = np.dtype([(name, np.int64) for name in _REPLICA_INTEGERS] + [("clock_s", np.float64)])
"""``group``: its Setting; ``running`` and ``waiting``: how many; ``coming``: requests routed to it that its clock has
not reached; ``in_system``: routed and not finished; ``just_finished``: in the last step that was run."""

SHARE = np.dtype(
    [(name, np.int64) for name in ("row", "tokens", "drafts", "extra", "accepted", "emits", "prefill")]
)  # fmt: skip
"""One request's part of a step; ``extra``: positions beyond the known tokens."""


class State(NamedTuple):
    """``running[r, i]``: row of the i-th running request of replica r, by admission. ``free``: a stack of unused rows;
    scratch of one step: shares, groups [3, n], chunks [2, n].
    """

    requests: Records
    replicas: Records
    running: Integers
    free: Integers
    num_free: Integers
    shares: Records
    groups: Floats
    chunks: Floats


class Limits(NamedTuple):
    """A replica's engine as ``scheduling.scheduler.Scheduler`` takes it, in whole numbers."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    num_blocks: int  # that can be held
    watermark_blocks: int
    reserve_whole_prompt: int
    chunked_prefill: int
    longest_chunk: int  # 0: no limit
    longest_chunk_adaptive: int
    longest: int  # tokens of a sequence
    lookahead_tokens: int
    draft_slots: int
    padding: int  # positions that an admission of one token is padded with
    verifies_drafts: int
    max_queue: int


class Setting(NamedTuple):
    """What replicas of one kind are made of."""

    limits: Limits
    k_table: Integers  # k after a step of 0, 1, .. sequences
    rates: Floats  # [laws, longest draft] conditional rates
    prices: Prices


class Log(NamedTuple):
    """What happened since it was last emptied; ``used``: rows of finished, steps and gaps in use."""

    finished: Integers  # [rows, 9] number, law, prompt, output, rounds, drafted, accepted, preemptions, replica
    finished_s: Floats  # [rows, 3] arrival, first token, finish
    steps: Integers  # [rows, 8] as StepRecord
    steps_s: Floats  # [rows, 2]
    gaps_s: Floats
    gap_request: Integers
    used: Integers  # [3]
    acceptance: Integers  # [k + 1, k + 1] h[d][j], never emptied
    totals: Integers  # [3] steps, worst rank of a price, requests turned away; never emptied


FINISHED, STEPS, GAPS = range(3)
ALL_STEPS, WORST_RANK, REJECTED = range(3)


def new_state(rows: int, groups: list[int], settings: tuple[Setting, ...]) -> State:
    """Idle replicas, ``groups[r]`` being the setting of replica r, and room for ``rows`` requests in the system."""
    count, seqs = len(groups), max(setting.limits.max_num_seqs for setting in settings)
    replicas = np.zeros(count, dtype=REPLICA)
    for name in ("first_waiting", "last_waiting", "first_coming", "last_coming"):
        replicas[name] = NONE
    replicas["group"] = groups
    replicas["free_blocks"] = [settings[group].limits.num_blocks for group in groups]
    return State(
        np.zeros(rows, dtype=REQUEST), replicas, np.zeros((count, seqs), dtype=np.int64),
        np.arange(rows)[::-1].copy(), np.array([rows]), np.zeros(seqs, dtype=SHARE),
        np.zeros((3, seqs + 1)), np.zeros((2, seqs + 1)),
    )  # fmt: skip


def grown(state: State, rows: int) -> State:
    """The same with room for more requests."""
    old, spare = len(state.requests), int(state.num_free[0])
    requests, free = np.zeros(rows, dtype=REQUEST), np.zeros(rows, dtype=np.int64)
    requests[:old] = state.requests
    free[:spare] = state.free[:spare]
    free[spare : spare + rows - old] = np.arange(old, rows)[::-1]
    return state._replace(requests=requests, free=free, num_free=np.array([spare + rows - old]))


def new_log(rows: int, gaps: int, longest: int) -> Log:
    """An empty log with room for ``rows`` finished requests and steps, and ``gaps`` gaps."""
    size = longest + 1
    return Log(
        np.zeros((rows, 9), dtype=np.int64), np.zeros((rows, 3)), np.zeros((rows, 8), dtype=np.int64),
        np.zeros((rows, 2)), np.zeros(gaps), np.zeros(gaps, dtype=np.int64), np.zeros(3, dtype=np.int64),
        np.zeros((size, size), dtype=np.int64), np.zeros(3, dtype=np.int64),
    )  # fmt: skip
