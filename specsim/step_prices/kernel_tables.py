"""Seconds of kernels as tables, and the ranks of their sources beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from specsim.arrays import Floats, Reals
from specsim.cost.forward import SOURCES, Group
from specsim.cost.part_kernels import PartKernels
from specsim.cost.passes import PassCost
from specsim.cost.step_time import WEIGHTY_SHARE, Charge
from specsim.specs.engine import pad_to_graph
from specsim.step_prices.span import Knots

KEPT_PROMPTS = 32  # tables of prompts of other kernels


class Table(Protocol):
    """Made once, when its span is known."""

    def made(self) -> Floats:
        """As ``records.RUN`` has it."""
        ...


class ByCount:
    """Over the whole numbers from 0 to ``most``; of 0 there is nothing to price."""

    def __init__(self, charges: Callable[[Floats], Iterable[Charge]]) -> None:
        self._charges, self.most = charges, 1

    def span(self, most: float) -> ByCount:
        self.most = max(self.most, int(np.ceil(most)))
        return self

    def made(self) -> Floats:
        counts = np.arange(1.0, self.most + 1.0)
        table = np.zeros((self.most + 1, len(SOURCES)))
        table[1:] = _seconds_by_rank(self._charges(counts), counts.shape).T
        return table


class ByGroup:
    """Over (place, sequences, KV length): attention of groups of a number of tokens and of rows of logits."""

    def __init__(self, charges: Callable[[Group], Iterable[Charge]], knots: Knots, keys: Floats) -> None:
        """``keys``: what is read of each KV length, [sequences, KV]."""
        self._charges, self._knots, self._keys = charges, knots, keys
        self._places: dict[tuple[float, float], int] = {}

    @property
    def num_places(self) -> int:
        return len(self._places)

    def place(self, group: Group) -> int:
        """Of groups like this one."""
        return self._places.setdefault((group.query_tokens, group.logit_rows), self.num_places)

    def made(self) -> Floats:
        tables = []
        for width, rows in self._places:
            group = Group(self._knots.sequences[:, None], width, np.maximum(self._keys, width), rows)
            tables.append(_seconds_and_ranks(self._charges(group), self._keys.shape))
        return np.stack(tables, axis=1)


class ByPrompts:
    """Over (chunks in one kernel, tokens of one, tokens before it): attention of prompts.

    ``seen``: the share of the tokens before a chunk that it sees.
    """

    def __init__(self, kernels: PartKernels, knots: Knots, seen: float, *, warm: bool) -> None:
        axes = (knots.counts, knots.chunks, seen * knots.prefixes)
        self._asked = _Prompts(kernels, warm, *(tuple(axis.tolist()) for axis in axes))

    def made(self) -> Floats:
        return _of_prompts(self._asked)


class _Prompts(NamedTuple):
    """All that a table of prompts depends on."""

    kernels: PartKernels
    warm: bool
    counts: tuple[float, ...]
    tokens: tuple[float, ...]
    before: tuple[float, ...]


@lru_cache(maxsize=KEPT_PROMPTS)
def _of_prompts(asked: _Prompts) -> Floats:
    """The same for all engines and draft lengths that run these kernels."""
    counts, before = np.array(asked.counts)[:, None], np.array(asked.before)
    tables = []
    for tokens in asked.tokens:
        charges = asked.kernels.of_attention(Group(counts, tokens, tokens + before, 0), warm=asked.warm)
        tables.append(_seconds_and_ranks(charges, (len(counts), len(before))))
    return np.stack(tables, axis=2)


class KernelTables:
    """Those of all passes, one for each that differs."""

    def __init__(self, knots: Knots, padded_kv: Callable[[Reals, Reals], Reals]) -> None:
        self._knots = knots
        keys = padded_kv(knots.kv, knots.sequences[:, None])
        self._keys = np.broadcast_to(keys, (len(knots.sequences), len(knots.kv)))
        self._by_count: dict[tuple[object, ...], ByCount] = {}
        self._by_group: dict[tuple[object, ...], ByGroup] = {}
        self._by_prompts: dict[tuple[object, ...], ByPrompts] = {}

    def tokens(self, cost: PassCost, *, warm: bool, uniform: bool) -> ByCount:
        """What depends on the tokens of a pass."""

        def charges(tokens: Floats) -> Iterable[Charge]:
            padded, _ = pad_to_graph(tokens, cost.captured_sizes(uniform=uniform))
            return cost.of_tokens(padded, 0, warm=warm)

        return self._by_count.setdefault((cost, warm, uniform), ByCount(charges))

    def rows(self, cost: PassCost, *, warm: bool) -> ByCount:
        """What depends on its rows of logits."""

        def charges(rows: Floats) -> Iterable[Charge]:
            return (one for one in cost.of_tokens(1, rows, warm=warm) if isinstance(one.seconds, np.ndarray))

        return self._by_count.setdefault((cost, warm), ByCount(charges))

    def sampling(self, cost: PassCost, operation: str) -> ByCount:
        """Choosing tokens from rows of logits."""

        def charges(rows: Floats) -> Iterable[Charge]:
            return cost.kernels.sampling(operation, rows)

        return self._by_count.setdefault((cost, operation), ByCount(charges))

    def attention(self, cost: PassCost, *, warm: bool, mask: str, uniform: bool) -> ByGroup:
        """Of groups of sequences."""

        def charges(group: Group) -> Iterable[Charge]:
            return cost.of_attention(group, warm=warm, mask=mask, uniform=uniform)

        return self._by_group.setdefault((cost, warm, mask, uniform), ByGroup(charges, self._knots, self._keys))

    def prompts(self, cost: PassCost, seen: float, *, warm: bool) -> ByPrompts:
        """Attention of prompt chunks."""
        return self._by_prompts.setdefault((cost, warm), ByPrompts(cost.kernels, self._knots, seen, warm=warm))


def _seconds_by_rank(charges: Iterable[Charge], shape: tuple[int, ...]) -> Floats:
    """[sources, *shape]."""
    found = np.zeros((len(SOURCES), *shape))
    for charge in charges:
        for rank in range(len(SOURCES)):
            found[rank] += charge.seconds * np.equal(charge.rank, rank)
    return found


def _seconds_and_ranks(charges: Iterable[Charge], shape: tuple[int, ...]) -> Floats:
    """[2, *shape]: all seconds, and the rank of the worst source behind a WEIGHTY_SHARE of them."""
    by_rank = _seconds_by_rank(charges, shape)
    seconds = by_rank.sum(axis=0)
    ranks = np.zeros(shape)
    for rank, spent in enumerate(by_rank):
        ranks[spent >= WEIGHTY_SHARE * np.maximum(seconds, np.finfo(np.float64).tiny)] = rank
    return np.stack([seconds, ranks])
