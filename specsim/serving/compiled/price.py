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
    first_alone_s: Floats  # [k_index, m]
    mixed_rank: Integers  # [m]
    chunk_knots: Floats  # [q] new tokens of a chunk
    prefix_knots: Floats  # [p] tokens before it
    chunk_s: Floats  # [q, p] attention of one chunk
    chunk_first_s: Floats  # [k_index, q, p] what the draft's first pass takes longer for the tokens before it
    split_s: Floats  # [k_index] and for each further group of another width


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
def _at(table: Floats, knots: Floats, w: float, n: float, kv: float) -> float:
    """``table[w, n, c]`` at a mean width and length; n is whole."""
    i, t = _span(knots, kv)
    j = min(int(w) - 1, table.shape[0] - 1)
    s = int(n)
    value = table[j, s, i] * (1.0 - t) + table[j, s, i + 1] * t
    share = w - 1.0 - j
    if share > 0.0 and j + 1 < table.shape[0]:
        above = table[j + 1, s, i] * (1.0 - t) + table[j + 1, s, i + 1] * t
        value += share * (above - value)
    return float(value)


@jit
def _late(prices: Prices, index: int, drafting: float, kv: float) -> float:
    i, t = _span(prices.kv_knots, kv)
    row = prices.late_s[index, int(drafting)]
    return float(row[i] * (1.0 - t) + row[i + 1] * t)


@jit
def _reading(prices: Prices, index: int, n: float, kv: float) -> float:
    """What the draft's first pass takes longer for the tokens that decoding sequences have in their caches."""
    i, t = _span(prices.kv_knots, kv)
    draft, late = prices.draft_s[index, int(n)], prices.late_s[index, int(n)]
    here = (draft[i] - late[i]) * (1.0 - t) + (draft[i + 1] - late[i + 1]) * t
    return float(here - (draft[0] - late[0]))


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
    n, tokens, keys = 0.0, 0.0, 0.0
    for g in range(num_groups):
        n += group_n[g]
        tokens += group_n[g] * group_width[g]
        keys += group_n[g] * group_kv[g]
    index = prices.k_index[k] if k > 0 else -1
    own, own_of_mean, width, kv, rank = 0.0, 0.0, 1.0, 1.0, 0
    if num_groups:
        width, kv = tokens / n, keys / n
        own_of_mean = _at(prices.own_s, prices.kv_knots, width, n, kv)
        own = own_of_mean
        if prices.additive and num_groups > 1:
            own = 0.0
            for g in range(num_groups):
                own += _at(prices.own_s, prices.kv_knots, group_width[g], group_n[g], group_kv[g])
        i, _ = _span(prices.kv_knots, kv)
        rank = prices.rank[min(int(width) - 1, prices.rank.shape[0] - 1), int(n), i]
    if num_chunks == 0:
        seconds = _at(prices.verify_s, prices.kv_knots, width, n, kv) + (own - own_of_mean)
        if index >= 0:
            seconds += (num_groups - 1) * prices.split_s[index]
            i, t = _span(prices.kv_knots, kv)
            row = prices.draft_s[index, int(n)]
            seconds += row[i] * (1.0 - t) + row[i + 1] * t
            seconds += _late(prices, index, drafting, drafting_kv if drafting else kv) - _late(prices, index, n, kv)
        return max(seconds, 1e-9), rank
    rows = tokens + emitting - 1.0
    seconds = own
    for c in range(num_chunks):
        tokens += chunk_tokens[c]
        seconds += _chunk(prices, prices.chunk_s, chunk_tokens[c], chunk_kv[c])
        if index >= 0:
            seconds += _chunk(prices, prices.chunk_first_s[index], chunk_tokens[c], chunk_kv[c])
    i, t = _span(prices.token_knots, _padded(prices.graph_sizes, tokens))
    rank = max(rank, prices.mixed_rank[i])
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
            seconds += share * prices.first_alone_s[index, m]
    if index >= 0:
        seconds += _late(prices, index, drafting, drafting_kv if drafting else kv)
        if num_groups:
            seconds += _reading(prices, index, n, kv) + (num_groups - 1) * prices.split_s[index]
    return max(seconds, 1e-9), rank
