"""Seconds of a step from tables: what ``serving.price_table`` tabulates, put together again.

A step of decode groups alone is verify(width, n, kv) + draft(k, n, kv). With prompt chunks it is what depends on all
tokens and the rows of logits, what the decoding sequences read of their caches, what each chunk's attention takes, the
draft's first pass, and its later ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specsim.serving.compiled.jit import jit

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Prices(NamedTuple):
    """Axes: w = width - 1, n = sequences (all whole numbers from 0), c = KV knots, m = token knots, f = row knots.

    ``k_index[k]`` is k's place in the tables by draft length, -1 where none was made.
    """

    kv_knots: Floats  # [c]
    verify_s: Floats  # [w, n, c] a step of n sequences, nothing drafted
    own_s: Floats  # [w, n, c] of it, what adds up over groups: attention; the whole where the source has no parts
    rank: Integers  # [w, n, c] of the source
    additive: bool  # whether own_s adds up over groups of several widths
    k_index: Integers  # [k]
    draft_s: Floats  # [k_index, n, c] what drafting adds to a step that verified drafts of the same length
    late_s: Floats  # [k_index, n, c] what drafting for n sequences takes, the first pass carrying one sequence
    graph_sizes: Integers
    token_knots: Floats  # [m]
    row_knots: Floats  # [m, f]
    mixed_s: Floats  # [m, f] a step of so many tokens and rows, own_s and chunks left out
    alone_s: Floats  # [m, 2] the same with chunks only, of which none or one yields a token
    first_s: Floats  # [k_index, m, f] the draft's first pass over such a step
    first_alone_s: Floats  # [k_index, m, 2]
    mixed_rank: Integers  # [1] the worst of mixed steps
    chunk_knots: Floats  # [q] new tokens of a chunk
    prefix_knots: Floats  # [p] tokens before it
    chunk_s: Floats  # [q, p] attention of one chunk
    chunk_first_s: Floats  # [k_index, q, p] what the draft's first pass takes longer for the tokens before it
    split_s: Floats  # [k_index] and for each further group of another width
    off_tokens: Floats  # [o] log tokens of a step; empty: the prices are as tabulated
    off: Floats  # [2, k, o] log of what multiplies a step without and with prompt chunks that drafts k tokens


@jit
def _span(knots: Floats, x: float) -> tuple[int, float]:
    """The interval that holds x and the place in it; beyond the ends the outer intervals go on."""
    low, high = 0, len(knots) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= x:
            low = middle
        else:
            high = middle
    return low, (x - knots[low]) / (knots[low + 1] - knots[low])


@jit
def _at(table: Floats, w: float, n: int, i: int, t: float) -> float:
    """``table[w, n, c]`` at a mean width, t of the way from KV knot i to the next."""
    j = min(int(w) - 1, table.shape[0] - 1)
    value = table[j, n, i] * (1.0 - t) + table[j, n, i + 1] * t
    share = w - 1.0 - j
    if share > 0.0 and j + 1 < table.shape[0]:
        above = table[j + 1, n, i] * (1.0 - t) + table[j + 1, n, i + 1] * t
        value += share * (above - value)
    return float(value)


@jit
def _beyond_mean(
    own_s: Floats,
    knots: Floats,
    num_groups: int,
    group_n: Floats,
    group_width: Floats,
    group_kv: Floats,
    mean_s: float,
) -> float:
    """What groups of several widths add of their own beyond one group of their mean width and length."""
    own = -mean_s
    for g in range(num_groups):
        i, t = _span(knots, group_kv[g])
        own += _at(own_s, group_width[g], int(group_n[g]), i, t)
    return own


@jit
def _late(late_s: Floats, knots: Floats, kv: float) -> float:
    i, t = _span(knots, kv)
    return float(late_s[i] * (1.0 - t) + late_s[i + 1] * t)


@jit
def _padded(sizes: Integers, tokens: float) -> float:
    """Tokens that run: the next captured size, or as many as there are above the largest."""
    if len(sizes) == 0 or tokens > sizes[-1]:
        return tokens
    return float(sizes[np.searchsorted(sizes, tokens)])


@jit
def _by_rows(knots: Floats, values: Floats, rows: float) -> float:
    i, t = _span(knots, rows)
    t = min(t, 1.0)
    return float(values[i] * (1.0 - t) + values[i + 1] * t)


@jit
def _chunk(prices: Prices, table: Floats, tokens: float, kv: float) -> float:
    i, s = _span(prices.chunk_knots, tokens)
    j, t = _span(prices.prefix_knots, kv - tokens)
    low = table[i, j] * (1.0 - t) + table[i, j + 1] * t
    high = table[i + 1, j] * (1.0 - t) + table[i + 1, j + 1] * t
    return float(low * (1.0 - s) + high * s)


@jit
def log_off(off_tokens: Floats, off: Floats, chunks: bool, k: int, tokens: float) -> float:
    """Log of what multiplies a step of so many tokens; beyond the knots that of the nearest one."""
    i, t = _span(off_tokens, np.log(max(tokens, 1.0)))
    t = min(max(t, 0.0), 1.0)
    row = off[1 if chunks else 0, k]
    return float(row[i] * (1.0 - t) + row[i + 1] * t)


@jit
def step_seconds(
    prices: Prices,
    num_groups: int,
    group_n: Floats,
    group_width: Floats,
    group_kv: Floats,
    num_chunks: int,
    chunk_tokens: Floats,
    chunk_kv: Floats,
    emitting: int,
    drafting: int,
    k: int,
    drafting_kv: float,
) -> tuple[float, int]:
    """(seconds, rank of the source) of a step of groups that decode or verify, and prompt chunks.

    ``emitting``: chunks that yield a token; ``drafting`` sequences will draft ``k`` tokens at a mean KV length.
    """
    seconds, rank = _as_tabulated(
        prices, num_groups, group_n, group_width, group_kv, num_chunks, chunk_tokens, chunk_kv, emitting, drafting, k,
        drafting_kv,
    )  # fmt: skip
    if len(prices.off_tokens):
        tokens = 0.0
        for g in range(num_groups):
            tokens += group_n[g] * group_width[g]
        for c in range(num_chunks):
            tokens += chunk_tokens[c]
        seconds *= np.exp(log_off(prices.off_tokens, prices.off, num_chunks > 0, k, tokens))
    return seconds, rank


@jit
def _as_tabulated(
    prices: Prices,
    num_groups: int,
    group_n: Floats,
    group_width: Floats,
    group_kv: Floats,
    num_chunks: int,
    chunk_tokens: Floats,
    chunk_kv: Floats,
    emitting: int,
    drafting: int,
    k: int,
    drafting_kv: float,
) -> tuple[float, int]:
    """As ``step_seconds``, without what multiplies it."""
    tokens, keys, sequences = 0.0, 0.0, 0.0
    for g in range(num_groups):
        sequences += group_n[g]
        tokens += group_n[g] * group_width[g]
        keys += group_n[g] * group_kv[g]
    index = prices.k_index[k] if k > 0 else -1
    n, width, kv = int(sequences), 1.0, 1.0
    if num_groups:
        width, kv = tokens / sequences, keys / sequences
    i, t = _span(prices.kv_knots, kv)
    seconds, rank = 0.0, 0
    if num_groups:
        rank = prices.rank[min(int(width) - 1, prices.rank.shape[0] - 1), n, i]
        if num_groups > 1 and prices.additive:
            mean_s = _at(prices.own_s, width, n, i, t)
            seconds = _beyond_mean(
                prices.own_s, prices.kv_knots, num_groups, group_n, group_width, group_kv, mean_s
            )  # fmt: skip
    if index >= 0:
        drafter_kv = drafting_kv if drafting else kv
        seconds += _late(prices.late_s[index, drafting], prices.kv_knots, drafter_kv)
        if num_groups:
            late, draft = prices.late_s[index, n], prices.draft_s[index, n]
            here = (draft[i] - late[i]) * (1.0 - t) + (draft[i + 1] - late[i + 1]) * t
            seconds += here + (num_groups - 1) * prices.split_s[index]
            if num_chunks:
                seconds -= draft[0] - late[0]
    if num_chunks == 0:
        return max(seconds + _at(prices.verify_s, width, n, i, t), 1e-9), rank
    if num_groups:
        seconds += _at(prices.own_s, width, n, i, t)
    seconds += _with_chunks(prices, index, num_groups, tokens, num_chunks, chunk_tokens, chunk_kv, emitting)
    return max(seconds, 1e-9), max(rank, prices.mixed_rank[0])


@jit
def _with_chunks(
    prices: Prices,
    index: int,
    num_groups: int,
    tokens: float,
    num_chunks: int,
    chunk_tokens: Floats,
    chunk_kv: Floats,
    emitting: int,
) -> float:
    """What chunks and all tokens together take: the target's pass, and the first pass of the draft at ``index``."""
    seconds, rows = 0.0, tokens + emitting - 1.0
    for c in range(num_chunks):
        tokens += chunk_tokens[c]
        seconds += _chunk(prices, prices.chunk_s, chunk_tokens[c], chunk_kv[c])
        if index >= 0:
            seconds += _chunk(prices, prices.chunk_first_s[index], chunk_tokens[c], chunk_kv[c])
    i, t = _span(prices.token_knots, _padded(prices.graph_sizes, tokens))
    for m, share in ((i, 1.0 - t), (i + 1, t)):
        knots = prices.row_knots[m]
        if num_groups:
            seconds += share * _by_rows(knots, prices.mixed_s[m], rows)
        else:
            seconds += share * prices.alone_s[m, min(emitting, 1)]
            if emitting > 1:
                more = _by_rows(knots, prices.mixed_s[m], knots[0] + emitting - 1.0)
                seconds += share * (more - prices.mixed_s[m, 0])
        if index >= 0 and num_groups:
            seconds += share * _by_rows(knots, prices.first_s[index, m], rows)
        elif index >= 0:
            seconds += share * prices.first_alone_s[index, m, min(emitting, 1)]
    return float(seconds)
