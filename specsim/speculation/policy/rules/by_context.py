"""k by KV length and batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from specsim.jit import address_of, compiled, floats_at, integers_at, jit, mixed_record, record_at
from specsim.speculation.policy.learning import DRAFT_TOKENS, Learning, bounded, decider_at

TABLES = mixed_record("log_contexts num_contexts tables last")
"""``tables`` [contexts, batch], whose ``last`` column holds beyond it too."""
tables_at = record_at(TABLES)


def by_context(contexts: Sequence[float], tables: Sequence[Sequence[int]]) -> Learning:
    """k by batch size from the table whose KV length is nearest, as a ratio."""
    logs, lengths, state = np.log(contexts), np.array(tables, dtype=np.int64), np.zeros(1, TABLES)
    state["log_contexts"], state["num_contexts"] = address_of(logs), len(logs)
    state["tables"], state["last"] = address_of(lengths), lengths.shape[1] - 1
    return Learning(compiled(_by_context), state, logs, lengths)


def _by_context(operation: int, at: int) -> int:
    decider = decider_at(at)
    return bounded(decider, _looked_up(decider)) if operation == DRAFT_TOKENS else 0


@jit
def _looked_up(decider: Any) -> int:
    tables = tables_at(decider.state)
    nearest, logs = 0, floats_at(tables.log_contexts)
    here = np.log(max(1.0, decider.context_tokens))
    for index in range(1, tables.num_contexts):
        if abs(logs[index] - here) < abs(logs[nearest] - here):
            nearest = index
    row = integers_at(tables.tables + 8 * nearest * (tables.last + 1))
    return int(row[min(decider.batch, tables.last)])
