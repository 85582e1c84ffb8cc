"""Spans of output positions and their levels, compiled: a number a position is too many for arrays in between."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats, Integers
from specsim.jit import address_of, bytes_at, compiled, floats_at, integers_at, jit, mixed_record, point, record_at
from specsim.speculation.compiled_uniform import key_of, uniform_of

SPANS, LEVELS = range(2)
DRAWN = mixed_record(
    """
    request_ids num_requests tokens span_seed level_seed rows starts numbers limits
    num_limits levels
    """,
    "persistence",
)
"""What is asked, and where the answer goes."""
drawn_at = record_at(DRAWN)


def draw_spans(
    request_ids: Integers, tokens: int, persistence: float, seeds: dict[str, int]
) -> tuple[Integers, Integers, Floats]:
    """Of each span the request (its row), the position where it begins, and a uniform number, [spans]."""
    most = len(request_ids) * tokens
    rows, starts, numbers = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    count = _draw(SPANS, request_ids, tokens, persistence, seeds, rows=rows, starts=starts, numbers=numbers)
    return rows[:count], starts[:count], numbers[:count]


def draw_levels(
    request_ids: Integers, tokens: int, persistence: float, seeds: dict[str, int], weights: Floats
) -> NDArray[np.uint8]:
    """Which of at most 256 levels each position has, [requests, tokens], one drawn for each span by weight."""
    levels, limits = np.empty((len(request_ids), tokens), np.uint8), np.cumsum(weights)
    _draw(LEVELS, request_ids, tokens, persistence, seeds, limits=limits, levels=levels)
    return levels


def _draw(
    operation: int,
    request_ids: Integers,
    tokens: int,
    persistence: float,
    seeds: dict[str, int],
    **arrays: np.ndarray[Any, Any],
) -> int:
    arrays["request_ids"] = np.ascontiguousarray(request_ids, dtype=np.int64)
    fields: dict[str, Any] = {"num_requests": len(request_ids), "tokens": tokens, "persistence": persistence}
    record = np.zeros(1, DRAWN)
    _kept = point(record, arrays | seeds | fields | {"num_limits": len(arrays.get("limits", ()))})
    return compiled(_put)(operation, address_of(record))


def _put(operation: int, at: int) -> int:
    drawn = drawn_at(at)
    if operation == LEVELS:
        _put_levels(drawn)
        return 0
    return _put_spans(drawn)


@jit
def _begins(drawn: Any, key: int, position: int) -> bool:
    return bool(position == 0 or uniform_of(key, position) >= drawn.persistence)


@jit
def _put_spans(drawn: Any) -> int:
    rows, starts, numbers = integers_at(drawn.rows), integers_at(drawn.starts), floats_at(drawn.numbers)
    count = 0
    for row in range(drawn.num_requests):
        request = integers_at(drawn.request_ids)[row]
        span_key, level_key = key_of(drawn.span_seed, request), key_of(drawn.level_seed, request)
        for position in range(drawn.tokens):
            if _begins(drawn, span_key, position):
                rows[count], starts[count], numbers[count] = row, position, uniform_of(level_key, position)
                count += 1
    return count


@jit
def _put_levels(drawn: Any) -> None:
    limits, level = floats_at(drawn.limits), 0
    for row in range(drawn.num_requests):
        request = integers_at(drawn.request_ids)[row]
        span_key, level_key = key_of(drawn.span_seed, request), key_of(drawn.level_seed, request)
        levels = bytes_at(drawn.levels + row * drawn.tokens)
        for position in range(drawn.tokens):
            if _begins(drawn, span_key, position):
                number, level = uniform_of(level_key, position), 0
                while level < drawn.num_limits - 1 and limits[level] <= number:
                    level += 1
            levels[position] = level
