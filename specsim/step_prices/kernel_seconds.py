"""What kernels take, from the tables of PRICES and RUN records (``price``), noted by rank of the source."""

from __future__ import annotations

from typing import Any

import numpy as np

from specsim.cost.forward import SOURCES, WIDEST_NARROW_CHUNK
from specsim.jit import floats_at, jit
from specsim.step_prices.records import GROUP_BYTES, group_at
from specsim.surfaces import look_up

NUM_SOURCES = len(SOURCES)
span = jit(look_up.bracket)


@jit
def of_count(prices: Any, table: int, last: int, count: float, padded: float, times: float) -> float:
    """Seconds of a table over whole numbers, where a count is a mean of sequences that reach a pass, linear between.

    Up to ``padded`` a graph runs the next whole number, and fewer than one take as long as one.
    """
    if table == 0 or count <= 0.0:
        return 0.0
    at = min(int(np.ceil(count - 1e-9)), last)
    missing = at - count
    if missing < 1e-9 or count <= max(1.0, padded):
        missing = 0.0
    by_rank, spent = floats_at(table + 8 * at * NUM_SOURCES), floats_at(prices.spent)
    fewer = floats_at(table + 8 * (at - 1) * NUM_SOURCES)
    seconds = 0.0
    for rank in range(NUM_SOURCES):
        here = by_rank[rank] - missing * (by_rank[rank] - fewer[rank])
        seconds += here
        spent[rank] += times * here
    return seconds


@jit
def _note(prices: Any, rank: int, seconds: float) -> None:
    """Seconds of a source whose rank is behind an address."""
    floats_at(prices.spent)[int(floats_at(rank)[0])] += seconds


@jit
def between(row: Any, i: int, t: float) -> float:
    return float(row[i] * (1.0 - t) + row[i + 1] * t)


@jit
def _bilinear(table: int, length: int, i: int, s: float, j: int, t: float) -> float:
    """Between rows i and i + 1 of a table, each ``length`` long."""
    rows = floats_at(table + 8 * i * length)
    return between(rows, j, t) * (1.0 - s) + between(rows, length + j, t) * s


@jit
def attention(prices: Any, run: Any, place: int, sequences: float, keys: float, times: float) -> float:
    """Attention of a group; its KV length is ``keys``."""
    i, s = span(floats_at(prices.sequence_knots), prices.num_sequence_knots, sequences)
    j, t = span(floats_at(prices.kv_knots), prices.num_kv, keys)
    size = prices.num_sequence_knots * prices.num_kv
    table = run.attention_s + 8 * place * size
    seconds = max(0.0, _bilinear(table, prices.num_kv, i, s, j, t))
    _note(prices, table + 8 * (run.num_places * size + i * prices.num_kv + j), times * seconds)
    return seconds


@jit
def of_prompts(prices: Any, run: Any, step: Any, times: float) -> tuple[float, int]:
    """Attention of a step's prompt chunks, and how many kernels it takes: see ``cost.forward.one_prompt_kernel``."""
    seconds, kernels = 0.0, 0
    wide, squares, before = 0.0, 0.0, 0.0
    for c in range(step.num_chunks):
        chunk = group_at(step.chunks + c * GROUP_BYTES)
        tokens = chunk.query_tokens + run.emitting_tokens * chunk.logit_rows
        prefix = chunk.kv_tokens - chunk.query_tokens
        if tokens > WIDEST_NARROW_CHUNK:
            wide += tokens
            squares += tokens**2
            before += tokens * prefix
        else:
            seconds += of_chunks(prices, run, 1.0, tokens, prefix, times)
            kernels += 1
    if wide > 0.0:
        length = squares / wide
        seconds += of_chunks(prices, run, wide / length, length, before / wide, times)
        kernels += 1
    return seconds, kernels


@jit
def of_chunks(prices: Any, run: Any, count: float, tokens: float, before: float, times: float) -> float:
    """Attention of so many chunks of a length in one kernel, each with so many tokens before it."""
    o, u = span(floats_at(prices.count_knots), prices.num_counts, count)
    i, s = span(floats_at(prices.chunk_knots), prices.num_chunks, tokens)
    j, t = span(floats_at(prices.prefix_knots), prices.num_prefixes, before)
    size = prices.num_chunks * prices.num_prefixes
    table = run.prompts_s + 8 * o * size
    seconds = _bilinear(table, prices.num_prefixes, i, s, j, t)
    if u != 0.0:
        seconds += u * (_bilinear(table + 8 * size, prices.num_prefixes, i, s, j, t) - seconds)
    _note(prices, table + 8 * (prices.num_counts * size + i * prices.num_prefixes + j), times * seconds)
    return max(0.0, seconds)
