"""Seconds of a step from tables: what ``serving.tabulate`` makes of a price source, put together again.

A step of decode groups alone is verify(width, n, kv) + draft(k, n, kv). With prompt chunks it is what depends on all
tokens and the rows of logits, what the decoding sequences read of their caches, what each chunk's attention takes, the
draft's first pass, and its later ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from specsim.arrays import Floats, Integers
from specsim.cost.forward import WIDEST_NARROW_CHUNK
from specsim.jit import address_of, floats_at, integers_at, jit, mixed_record, record_at
from specsim.scheduling.compiled import compiled
from specsim.scheduling.records import GROUP, group_at, work_at
from specsim.surfaces import look_up


class Prices(NamedTuple):
    """Axes: w = width - 1, n = sequences (all whole numbers from 0), c = KV knots, m = token knots, f = row knots.

    ``k_index[k]`` is k's place in the tables by draft length, -1 where none was made.
    """

    kv_knots: Floats  # [c]
    verify_s: Floats  # [w, n, c] a step of n sequences, nothing drafted
    attention_s: Floats  # [w, n, c] of it, what adds up over groups; the whole where the source has no parts
    beside_s: Floats  # [w, n, c] the same in a step that holds prompt chunks
    rank: Integers  # [w, n, c] of the source
    additive: bool  # whether attention_s adds up over groups of several widths
    k_index: Integers  # [k]
    draft_s: Floats  # [k_index, n, c] what drafting adds to a step that verified drafts of the same length
    draft_alone_s: Floats  # [k_index, n, c] what drafting for n sequences takes, the first pass carrying one sequence
    graph_sizes: Integers
    token_knots: Floats  # [m]
    row_knots: Floats  # [m, f]
    mixed_s: Floats  # [m, f] a step of so many tokens and rows, attention_s and chunks left out
    alone_s: Floats  # [m, 2] the same with chunks only, of which none or one yields a token
    first_s: Floats  # [k_index, m, f] the draft's first pass over such a step
    first_alone_s: Floats  # [k_index, m, 2]
    mixed_rank: Integers  # [1] the worst of mixed steps
    count_knots: Floats  # [o] chunks that one kernel computes
    chunk_knots: Floats  # [q] new tokens of a chunk
    prefix_knots: Floats  # [p] tokens before it
    chunk_s: Floats  # [o, q, p] attention of so many chunks
    chunk_first_s: Floats  # [k_index, o, q, p] what the draft's first pass takes longer for the tokens before them
    split_s: Floats  # [k_index] and for each further group of another width
    chunk_split_s: Floats  # [k_index] and for each further kernel that computes prompt chunks
    off_tokens: Floats  # [o] log tokens of a step; empty: the prices are as tabulated
    off: Floats  # [2, k, o] log of what multiplies a step without and with prompt chunks that drafts k tokens
    lag_s: float  # of every step, as ``cost.step_time.StepTime`` has it


_SIZES = {
    "num_kv": ("kv_knots", 0), "num_widths": ("verify_s", 0), "num_sequences": ("verify_s", 1),
    "num_draft_lengths": ("k_index", 0), "num_graphs": ("graph_sizes", 0), "num_tokens": ("token_knots", 0),
    "num_rows": ("row_knots", 1), "num_chunks": ("chunk_knots", 0), "num_prefixes": ("prefix_knots", 0),
    "num_counts": ("count_knots", 0),
    "num_off": ("off_tokens", 0),
}  # fmt: skip

PRICES = mixed_record((*Prices._fields[:-1], *_SIZES, "put_together"), ("lag_s",))
"""Addresses of the tables, how long their axes are, and what puts prices together from them, compiled apart."""
prices_at = record_at(PRICES)
GROUP_BYTES = GROUP.itemsize


class PriceRecord:
    """The PRICES record of tables, which it keeps alive."""

    def __init__(self, prices: Prices) -> None:
        self._tables = {name: np.ascontiguousarray(table) for name, table in prices._asdict().items()}
        del self._tables["lag_s"]
        self.record = np.zeros(1, PRICES)
        for name, array in self._tables.items():
            self.record[name] = address_of(array)
        for name, (table, axis) in _SIZES.items():
            self.record[name] = self._tables[table].shape[axis]
        self.record["additive"], self.record["lag_s"] = prices.additive, prices.lag_s
        self.record["put_together"] = compiled(put_together).address

    def price(self, work: np.ndarray[Any, Any]) -> None:
        """Set the seconds of a WORK record, [1], and what else is known of its price."""
        compiled(put_together)(address_of(self.record), address_of(work))


@jit
def _row(table: int, index: int, length: int) -> Any:
    """One of a table's rows, which run along its last axis."""
    return floats_at(table + 8 * index * length)


_span = jit(look_up.bracket)


@jit
def _between(row: Any, i: int, t: float) -> float:
    return float(row[i] * (1.0 - t) + row[i + 1] * t)


@jit
def _at(prices: Any, table: int, w: float, n: int, kv: float) -> float:
    """``table[w, n, c]`` at a mean width and a KV length."""
    i, t = _span(floats_at(prices.kv_knots), prices.num_kv, kv)
    j = min(int(w) - 1, prices.num_widths - 1)
    value = _between(_row(table, j * prices.num_sequences + n, prices.num_kv), i, t)
    share = w - 1.0 - j
    if share > 0.0 and j + 1 < prices.num_widths:
        above = _between(_row(table, (j + 1) * prices.num_sequences + n, prices.num_kv), i, t)
        value += share * (above - value)
    return value


@jit
def _padded(prices: Any, tokens: float) -> float:
    """Tokens that run: the next captured size, or as many as there are above the largest."""
    sizes = integers_at(prices.graph_sizes)
    low, high = 0, prices.num_graphs - 1
    if high < 0 or tokens > sizes[high]:
        return tokens
    while low < high:
        middle = (low + high) // 2
        if sizes[middle] < tokens:
            low = middle + 1
        else:
            high = middle
    return float(sizes[low])


@jit
def _by_rows(prices: Any, m: int, table: int, index: int, rows: float) -> float:
    """Row ``index`` of a table over the row knots of token knot m."""
    i, t = _span(_row(prices.row_knots, m, prices.num_rows), prices.num_rows, rows)
    return _between(_row(table, index, prices.num_rows), i, min(t, 1.0))


@jit
def _chunk(prices: Any, table: int, k: int, tokens: float, kv: float) -> float:
    i, s = _span(floats_at(prices.chunk_knots), prices.num_chunks, tokens)
    j, t = _span(floats_at(prices.prefix_knots), prices.num_prefixes, kv - tokens)
    first = k * prices.num_chunks + i
    low = _between(_row(table, first, prices.num_prefixes), j, t)
    high = _between(_row(table, first + 1, prices.num_prefixes), j, t)
    return float(low * (1.0 - s) + high * s)


@jit
def _log_off(prices: Any, chunks: int, k: int, tokens: float) -> float:
    """Log of what multiplies a step of so many tokens; beyond the knots that of the nearest one."""
    i, t = _span(floats_at(prices.off_tokens), prices.num_off, np.log(max(tokens, 1.0)))
    row = _row(prices.off, (chunks > 0) * prices.num_draft_lengths + k, prices.num_off)
    return _between(row, i, min(max(t, 0.0), 1.0))


def put_together(prices_address: int, work_address: int) -> int:
    """Set the seconds of a step (a WORK record), the rank of their source, and the step's lag."""
    prices, step = prices_at(prices_address), work_at(work_address)
    step.seconds, step.rank = _as_tabulated(prices, step, step.draft_tokens)
    if prices.num_off:
        tokens = _tokens(step.groups, step.num_groups) + _tokens(step.chunks, step.num_chunks)
        step.seconds *= np.exp(_log_off(prices, step.num_chunks, step.draft_tokens, tokens))
    step.lag_s = prices.lag_s
    return 0


@jit
def _tokens(groups: int, count: int) -> float:
    tokens = 0.0
    for g in range(count):
        group = group_at(groups + g * GROUP_BYTES)
        tokens += group.sequences * group.query_tokens
    return tokens


@jit
def _as_tabulated(prices: Any, step: Any, k: int) -> tuple[float, int]:
    """Seconds of a step that drafts ``k`` tokens, without what multiplies them, and the rank of their source."""
    tokens, keys, sequences = 0.0, 0.0, 0.0
    for g in range(step.num_groups):
        group = group_at(step.groups + g * GROUP_BYTES)
        sequences += group.sequences
        tokens += group.sequences * group.query_tokens
        keys += group.sequences * group.kv_tokens
    index = integers_at(prices.k_index)[k] if k > 0 else -1
    n, width, kv = int(sequences), 1.0, 1.0
    if step.num_groups:
        width, kv = tokens / sequences, keys / sequences
    seconds, rank = 0.0, 0
    if step.num_groups:
        i, _ = _span(floats_at(prices.kv_knots), prices.num_kv, kv)
        plane = min(int(width) - 1, prices.num_widths - 1) * prices.num_sequences + n
        rank = integers_at(prices.rank + 8 * plane * prices.num_kv)[i]
        if step.num_groups > 1 and prices.additive:
            table = prices.beside_s if step.num_chunks else prices.attention_s
            seconds = _groups_alone(prices, table, step) - _at(prices, table, width, n, kv)
    if index >= 0:
        seconds += _drafting(prices, step, index, n, kv)
    if step.num_chunks == 0:
        return max(seconds + _at(prices, prices.verify_s, width, n, kv), 1e-9), int(rank)
    if step.num_groups:
        seconds += _at(prices, prices.beside_s, width, n, kv)
    seconds += _with_chunks(prices, step, index, tokens)
    return max(seconds, 1e-9), int(max(rank, integers_at(prices.mixed_rank)[0]))


@jit
def _groups_alone(prices: Any, table: int, step: Any) -> float:
    """What groups of several widths add of their own, where it replaces one group of their mean width and length."""
    own = 0.0
    for g in range(step.num_groups):
        group = group_at(step.groups + g * GROUP_BYTES)
        own += _at(prices, table, group.query_tokens, int(group.sequences), group.kv_tokens)
    return own


@jit
def _drafting(prices: Any, step: Any, index: int, n: int, kv: float) -> float:
    """Drafting but for the first pass over prompt chunks; ``n`` sequences of a mean ``kv`` decode in the step."""
    length, first = prices.num_kv, index * prices.num_sequences
    i, t = _span(floats_at(prices.kv_knots), length, step.drafting_kv_tokens if step.num_drafting else kv)
    seconds = _between(_row(prices.draft_alone_s, first + step.num_drafting, length), i, t)
    if step.num_groups:
        late, draft = _row(prices.draft_alone_s, first + n, length), _row(prices.draft_s, first + n, length)
        i, t = _span(floats_at(prices.kv_knots), length, kv)
        seconds += _between(draft, i, t) - _between(late, i, t)
        seconds += (step.num_groups - 1) * floats_at(prices.split_s)[index]
        if step.num_chunks:
            seconds -= draft[0] - late[0]
    return seconds


@jit
def _chunks(prices: Any, index: int, count: float, tokens: float, kv: float) -> float:
    """What chunks of a length add, in one kernel: to the target's pass, and to the first of the draft at ``index``."""
    o, u = _span(floats_at(prices.count_knots), prices.num_counts, count)
    seconds = _of_count(prices, prices.chunk_s, o, u, tokens, kv)
    if index >= 0:
        seconds += _of_count(prices, prices.chunk_first_s, index * prices.num_counts + o, u, tokens, kv)
    return float(seconds)


@jit
def _of_count(prices: Any, table: int, place: int, share: float, tokens: float, kv: float) -> float:
    """``table[place]`` and its neighbour by their shares, at a chunk's length and the tokens before it."""
    seconds = _chunk(prices, table, place, tokens, kv)
    return seconds if share == 0.0 else (1.0 - share) * seconds + share * _chunk(prices, table, place + 1, tokens, kv)


@jit
def _with_chunks(prices: Any, step: Any, index: int, tokens: float) -> float:
    """What chunks and all tokens together take: the target's pass, and the first pass of the draft at ``index``.

    ``tokens`` are those of the decode groups.
    """
    seconds, rows = 0.0, tokens + step.num_emitting - 1.0
    prompts, squares, before, kernels = 0.0, 0.0, 0.0, 0
    for c in range(step.num_chunks):
        chunk = group_at(step.chunks + c * GROUP_BYTES)
        tokens += chunk.query_tokens
        if prices.additive and chunk.query_tokens > WIDEST_NARROW_CHUNK:
            prompts += chunk.query_tokens
            squares += chunk.query_tokens**2
            before += chunk.query_tokens * (chunk.kv_tokens - chunk.query_tokens)
        else:
            seconds += _chunks(prices, index, 1.0, chunk.query_tokens, chunk.kv_tokens)
            kernels += 1
    if prompts:  # in one kernel, see ``cost.forward.one_prompt_kernel``
        length = squares / prompts
        seconds += _chunks(prices, index, prompts / length, length, length + before / prompts)
        kernels += 1
    if index >= 0:
        seconds += (kernels - 1) * floats_at(prices.chunk_split_s)[index]
    m, t = _span(floats_at(prices.token_knots), prices.num_tokens, _padded(prices, tokens))
    seconds += (1.0 - t) * _of_all(prices, step, index, m, rows)
    return seconds + t * _of_all(prices, step, index, m + 1, rows)


@jit
def _of_all(prices: Any, step: Any, index: int, m: int, rows: float) -> float:
    """What all tokens together take at token knot m."""
    some, first = min(step.num_emitting, 1), index * prices.num_tokens + m
    if step.num_groups:
        seconds = _by_rows(prices, m, prices.mixed_s, m, rows)
        if index >= 0:
            seconds += _by_rows(prices, m, prices.first_s, first, rows)
        return seconds
    seconds = floats_at(prices.alone_s)[2 * m + some]
    if step.num_emitting > 1:
        least = _row(prices.row_knots, m, prices.num_rows)[0]
        more = _by_rows(prices, m, prices.mixed_s, m, least + step.num_emitting - 1.0)
        seconds += more - _row(prices.mixed_s, m, prices.num_rows)[0]
    if index >= 0:
        seconds += floats_at(prices.first_alone_s)[2 * first + some]
    return float(seconds)
