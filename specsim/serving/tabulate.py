"""A price source as tables.

Tabulated by asking the source itself, whatever it is made of: decode and verify steps at every number of sequences,
width and KV length; drafting on top of them; mixed steps over (tokens, rows of logits); the attention of prompt chunks
over (tokens, tokens before). Between KV lengths, token counts and chunk lengths prices are linear. Token counts are
first padded as the engine pads them to its graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Floats
from specsim.cost.forward import SOURCES, Group
from specsim.cost.step_time import StepTime
from specsim.scheduling.price import Prices
from specsim.speculation.round import StepCost

KV_RATIO, CHUNK_RATIO = 1.3, 1.25  # of neighbouring knots
TOKEN_RATIO = 1.03
SMALLEST_STEP = 0.003  # of a step's seconds, from one token to the next: a product has outgrown a round of tiles
REFERENCE_KV = 512.0  # KV length at which what does not depend on it is tabulated
SHORT = 16  # tokens of prompts so short that their attention is next to nothing
WIDEST_NARROW = (64.0, 65.0)  # between them attention changes its kernel, see cost.efficiency.regime
CHUNK_COUNTS = (1, 2, 4, 9)  # of a length, in one kernel
SEQUENCE_SHARES = (0.0, 0.1, 0.35, 1.0)  # of the most sequences that leave room for a chunk; at least 1


@dataclass(frozen=True, slots=True)
class Extent:
    """What the tables must span."""

    max_num_seqs: int
    max_num_batched_tokens: int
    longest_kv: int
    choices: tuple[int, ...] = (0,)  # draft lengths that may be chosen
    verifies: bool = True  # False: drafts are emitted unverified, so every width is 1
    graph_sizes: tuple[int, ...] = ()


def tabulate(cost: StepCost, extent: Extent) -> Prices:
    """The tables of a price source. About 0.1 s, and as much again for each draft length."""
    return _Tabulator(cost, extent).prices()


class _Mixed(NamedTuple):
    """As the fields of Prices."""

    rows: Floats
    mixed_s: Floats
    alone_s: Floats
    first_s: Floats
    first_alone_s: Floats
    rank: NDArray[np.int64]


class _Chunks(NamedTuple):
    """As the fields of Prices."""

    counts: Floats
    tokens: Floats
    before: Floats
    own_s: Floats
    first_s: Floats


class _Tabulator:
    def __init__(self, cost: StepCost, extent: Extent) -> None:
        self.cost, self.extent = cost, extent
        self.ks = tuple(k for k in extent.choices if k > 0)
        self.width = 1 + (max(extent.choices) if extent.verifies else 0)
        self.kv = _knots(1.0, max(64.0, float(extent.longest_kv)), KV_RATIO)
        self.n = np.arange(1.0, extent.max_num_seqs + 1)[:, None]
        self.size = (extent.max_num_seqs + 1, len(self.kv))
        probe = cost.step([Group(1, 1, REFERENCE_KV, 1)], drafting=0, draft_tokens=0, drafting_kv_tokens=0.0)
        self.additive, self.lag_s = "attention" in probe.parts, probe.lag_s

    def prices(self) -> Prices:
        verify, own, beside, rank = self._verify()
        draft, late = self._draft(verify)
        tokens = self._token_knots()
        reading = draft - late
        reading -= reading[:, :, :1]
        chunks = self._chunks()
        mixed = self._mixed(tokens, late, reading, (chunks.tokens, chunks.first_s[:, 0, :, 0]))
        k_index = np.full(max(self.extent.choices) + 1, -1, dtype=np.int64)
        for index, k in enumerate(self.ks):
            k_index[k] = index
        sizes = np.array(self.extent.graph_sizes, dtype=np.int64)
        return Prices(
            self.kv, verify, own, beside, rank, self.additive, k_index, draft, late, sizes, tokens, mixed.rows,
            mixed.mixed_s, mixed.alone_s, mixed.first_s, mixed.first_alone_s, mixed.rank.max(keepdims=True), *chunks,
            self._splitting(), self._splitting_chunks(), np.zeros(0), np.zeros((2, len(k_index), 0)), self.lag_s,
        )  # fmt: skip

    def _own(self, price: StepTime) -> Floats:
        """What adds up over groups: attention, or the whole where the source does not tell it apart."""
        return np.asarray(price.parts["attention"] if self.additive else price.seconds, dtype=np.float64)

    def _step(self, groups: Sequence[Group], drafting: object, k: int, kv: object) -> StepTime:
        return self.cost.step(groups, drafting=drafting, draft_tokens=k, drafting_kv_tokens=kv)  # type: ignore[arg-type]

    def _plane(self, values: object) -> Floats:
        """[n, c] with a row of zeros for n = 0."""
        plane = np.zeros(self.size)
        plane[1:] = np.broadcast_to(cast(Floats, values), (self.size[0] - 1, self.size[1]))
        return plane

    def _verify(self) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        seconds, own, beside, rank = [], [], [], []
        chunk = self._own(self._step([_short(SHORT)], 0, 0, 0.0))
        for width in range(1, self.width + 1):
            group = Group(self.n, width, np.maximum(self.kv, width), width)
            price = self._step([group], 0, 0, 0.0)
            seconds.append(self._plane(price.seconds))
            own.append(self._plane(self._own(price)))
            mixed = self._own(self._step([group, _short(SHORT)], 0, 0, 0.0)) - chunk
            beside.append(self._plane(mixed) if self.additive else own[-1])
            rank.append(self._plane(_ranks(price)).astype(np.int64))
        return np.stack(seconds), np.stack(own), np.stack(beside), np.stack(rank)

    def _draft(self, verify: Floats) -> tuple[Floats, Floats]:
        draft = np.zeros((len(self.ks), *self.size))
        late = np.zeros((len(self.ks), *self.size))
        for index, k in enumerate(self.ks):
            width = k + 1 if self.extent.verifies else 1
            group = Group(self.n, width, np.maximum(self.kv, width), width)
            draft[index] = self._plane(self._step([group], self.n, k, self.kv).seconds) - verify[width - 1]
            one = Group(1, 1, self.kv, 1)
            alone = self._step([one], 0, 0, 0.0).seconds
            late[index] = self._plane(self._step([one], self.n, k, self.kv).seconds - alone)
            late[index, 0] = self._step([one], 0, k, self.kv).seconds - alone
        return draft, late

    def _splitting(self) -> Floats:
        """What drafting takes longer for each further group, [k_index]: its first pass reads them apart."""
        extra = np.zeros(len(self.ks))
        for index, k in enumerate(self.ks):
            for sign, sizes in ((1.0, (4, 4)), (-1.0, (8,))):
                groups = [Group(n, self.width, max(REFERENCE_KV, self.width), self.width) for n in sizes]
                drafted, plain = self._step(groups, 8, k, REFERENCE_KV), self._step(groups, 0, 0, 0.0)
                extra[index] += sign * (float(drafted.seconds) - float(plain.seconds))
        return extra

    def _splitting_chunks(self) -> Floats:
        """What drafting takes longer for each further kernel of prompt chunks, [k_index]."""
        beside, chunk = Group(1, 1, REFERENCE_KV, 1), Group(1, 2 * SHORT, 2 * SHORT, 0)
        extra = np.zeros(len(self.ks))
        for index, k in enumerate(self.ks):
            first = self._drafting_s([beside, chunk], k) - self._drafting_s([beside, _short(2 * SHORT)], k)
            both = self._drafting_s([beside, chunk, chunk], k) - self._drafting_s([beside, _short(4 * SHORT)], k)
            extra[index] = both - 2.0 * first
        return extra

    def _token_knots(self) -> Floats:
        """Geometric, and on both sides of each step; on captured sizes up to the largest of them, where one token more
        begins the eager part.
        """
        most = max(4, self.extent.max_num_batched_tokens)
        steps = self._token_steps(most)
        knots = np.sort(np.concatenate([_knots(2.0, float(most), TOKEN_RATIO).round(), steps, steps + 1.0]))
        sizes = np.array([size for size in self.extent.graph_sizes if size <= most], dtype=np.float64)
        if len(self.extent.graph_sizes) and len(sizes) < len(self.extent.graph_sizes):
            sizes = np.array(self.extent.graph_sizes, dtype=np.float64)[: len(sizes) + 1]
        if len(sizes):
            captured = sizes[np.minimum(np.searchsorted(sizes, knots), len(sizes) - 1)]
            above = knots[knots > sizes[-1] + 1]
            eager = [sizes[-1] + 1.0] if most > sizes[-1] else []
            knots = np.concatenate([captured, eager, above])
        knots = np.unique(np.maximum(knots, 2.0))
        return knots if len(knots) > 1 else np.array([knots[0], knots[0] + 1.0])

    def _token_steps(self, most: int) -> Floats:
        """Token counts at which one more takes much longer."""
        tokens = np.arange(2.0, most + 1.0)
        price = self._step([_short(tokens)], 0, 0, 0.0)
        seconds: Any = price.seconds - price.parts["attention"] if self.additive else price.seconds
        rises = np.abs(np.diff(np.log(np.broadcast_to(seconds, tokens.shape))))
        usual = np.minimum(np.roll(rises, 1), np.roll(rises, -1))
        return np.asarray(tokens[:-1][(rises > SMALLEST_STEP) & (rises > 3.0 * usual)])

    def _mixed(self, tokens: Floats, late: Floats, reading: Floats, own_first: tuple[Floats, Floats]) -> _Mixed:
        """Steps that one chunk fills up to each token count; alone, and beside several numbers of decodes.

        ``own_first``: chunk lengths, and what the draft's first pass takes longer for one of them, [k_index, q].
        """
        shape = (len(tokens), len(SEQUENCE_SHARES))
        found = _Mixed(
            np.zeros(shape), np.zeros(shape), np.zeros((shape[0], 2)), np.zeros((len(self.ks), *shape)),
            np.zeros((len(self.ks), shape[0], 2)), np.zeros(shape[0], dtype=np.int64),
        )  # fmt: skip
        for m, total in enumerate(tokens.astype(int).tolist()):
            for emits in (0, 1):
                chunk = Group(1, total, total, emits)
                price = self._step([chunk], 0, 0, 0.0)
                found.alone_s[m, emits], found.rank[m] = self._beside_own(price, None, total), _ranks(price)
                for index, k in enumerate(self.ks):
                    drafted = self._step([chunk], 0, k, REFERENCE_KV)
                    later = float(np.interp(REFERENCE_KV, self.kv, late[index, 0]))
                    later += float(np.interp(total, own_first[0], own_first[1][index]))
                    found.first_alone_s[index, m, emits] = float(drafted.seconds) - float(price.seconds) - later
            self._beside_decodes(found, m, max(total, 3), late + reading, own_first)
        return found

    def _beside_decodes(
        self, found: _Mixed, m: int, total: int, later_s: Floats, own_first: tuple[Floats, Floats]
    ) -> None:  # fmt: skip
        width = min(self.width, total - 2)
        most = min(self.extent.max_num_seqs, (total - 2) // width)
        counts = np.unique(np.maximum(1, np.round(np.array(SEQUENCE_SHARES) * most))).astype(int).tolist()
        for f, n in enumerate(counts):
            chunk = total - n * width
            decodes = Group(n, width, max(REFERENCE_KV, width), width)
            groups = [decodes, Group(1, chunk, chunk, 1)]
            price = self._step(groups, 0, 0, 0.0)
            found.rows[m, f], found.mixed_s[m, f] = n * width, self._beside_own(price, decodes, chunk)
            for index, k in enumerate(self.ks):
                drafted = self._step(groups, n, k, REFERENCE_KV)
                later = float(np.interp(REFERENCE_KV, self.kv, later_s[index, n]))
                later += float(np.interp(chunk, own_first[0], own_first[1][index]))
                found.first_s[index, m, f] = float(drafted.seconds) - float(price.seconds) - later
        for f in range(len(counts), len(SEQUENCE_SHARES)):
            found.rows[m, f] = found.rows[m, f - 1] + 1.0
            found.mixed_s[m, f], found.first_s[:, m, f] = found.mixed_s[m, f - 1], found.first_s[:, m, f - 1]

    def _beside_own(self, price: StepTime, decodes: Group | None, chunk: int) -> float:
        """A mixed step without what its decode group and its chunk add of their own."""
        if self.additive:
            return float(price.seconds) - float(price.parts["attention"])
        own = float(self._of_chunks(1, chunk, np.array([float(chunk)]))[0])
        if decodes is not None:
            own += float(self._step([decodes], 0, 0, 0.0).seconds)
        return float(price.seconds) - own

    def _of_chunks(self, count: int, tokens: int, kv: Floats) -> Floats:
        """What chunks of ``tokens`` add of their own to a step, by their KV length."""
        if self.additive:
            return np.broadcast_to(self._own(self._step([Group(count, tokens, kv, 1)], 0, 0, 0.0)), kv.shape)
        beside = Group(1, 1, REFERENCE_KV, 1)
        alone = self._own(self._step([beside], 0, 0, 0.0))
        chunks = self._step([beside, Group(count, tokens, kv, 1)], 0, 0, 0.0)
        return np.broadcast_to(self._own(chunks) - alone, kv.shape)

    def _chunks(self) -> _Chunks:
        most = max(4.0, float(self.extent.max_num_batched_tokens))
        narrow = [width for width in WIDEST_NARROW if width < most]
        tokens = np.unique(np.concatenate([_knots(2.0, most - 1.0, CHUNK_RATIO).round(), narrow]))  # one beside it
        before = np.concatenate([[0.0], _knots(32.0, max(64.0, float(self.extent.longest_kv)), CHUNK_RATIO**2)])
        own = np.zeros((len(CHUNK_COUNTS), len(tokens), len(before)))
        first = np.zeros((len(self.ks), *own.shape))
        for row, q in enumerate(tokens.astype(int).tolist()):
            for place, count in enumerate(CHUNK_COUNTS):
                own[place, row] = self._of_chunks(count, q, q + before)
            for index, k in enumerate(self.ks):
                first[index, :, row] = self._first_pass(k, q, before, (most - 1.0) / q)
        return _Chunks(np.array(CHUNK_COUNTS, dtype=np.float64), tokens, before, own, first)

    def _first_pass(self, k: int, tokens: int, before: Floats, most: float) -> Floats:
        """What the draft's first pass takes longer for what lies before chunks of a length, [o, p].

        ``most`` of them fit a step: a larger step, which no budget lets be, may lie beyond the captured sizes. Up to
        there the counts' values are right, beyond they go on as they come.
        """
        beside, found = Group(1, 1, REFERENCE_KV, 1), np.zeros((len(CHUNK_COUNTS), len(before)))
        for place, count in enumerate(CHUNK_COUNTS):
            low = CHUNK_COUNTS[place - 1] if place else 0
            if place and most <= low:
                found[place] = found[place - 1]
                continue
            tried = min(float(count), most) if place else 1.0
            chunks = self._drafting_s([beside, Group(tried, tokens, tokens + before, 0)], k)
            value = chunks - self._drafting_s([beside, _short(tried * tokens)], k)
            share = (count - low) / (tried - low)
            found[place] = value if share == 1.0 else found[place - 1] + (value - found[place - 1]) * share
        return found

    def _drafting_s(self, groups: Sequence[Group], k: int) -> Any:
        """What drafting ``k`` tokens for one sequence adds to a step."""
        drafted = self._step(groups, 1, k, REFERENCE_KV).seconds
        return drafted - self._step(groups, 0, 0, 0.0).seconds


def _short(tokens: Any) -> Group:
    """So many tokens of short prompts."""
    return Group(tokens / SHORT, SHORT, SHORT, 0)


def _knots(first: float, last: float, ratio: float) -> Floats:
    count = max(2, int(np.ceil(np.log(last / first) / np.log(ratio))) + 1)
    return np.geomspace(first, last, count)


def _ranks(price: StepTime) -> NDArray[np.int64]:
    """Indices into SOURCES."""
    source = np.asarray(price.source)
    return np.asarray(sum(index * (source == name) for index, name in enumerate(SOURCES)), dtype=np.int64)
