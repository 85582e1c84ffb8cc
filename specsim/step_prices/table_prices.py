"""Tables as a price source of their own, and how well they hold the one that they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

import numpy as np

from specsim.arrays import Floats, Integers, Reals
from specsim.cost.forward import SOURCES, Group
from specsim.cost.step_time import StepTime
from specsim.disk_cache import kept, state_of_code
from specsim.jit import address_of
from specsim.speculation.round import RoundCost, StepCost
from specsim.step_prices.price import PriceRecord, Prices
from specsim.step_prices.records import GROUP, WORK
from specsim.step_prices.span import Extent
from specsim.step_prices.tabulate import tabulate
from specsim.step_prices.tabulate_whole import tabulate_whole

MOST_MEDIAN, MOST = 0.003, 0.015  # errors of tried steps, beyond which every step is priced on its own
TRIED, PATTERNS = 128, 8  # steps, and lengths of prompt chunks in half of them
SHORTEST = 16  # tokens of a prompt chunk that is tried
MOST_CHUNKS = 8  # in a step that is tried
KEPT = 16  # tables of other costs
# What prices, tables and their errors are made of.
MADE_OF = ("arrays.py", "cost", "jit.py", "profiles", "specs", "speculation", "step_prices", "surfaces")


def tables_of(cost: StepCost, extent: Extent, kept_as: str | None = None) -> TablePrices | None:
    """A price source as tables; None where they miss it by more than MOST_MEDIAN in the middle or MOST at worst.

    ``kept_as``: all that the source's prices depend on beside the code, under which the verdict is kept between runs;
    None: it is not.
    """
    source = _Source(id(cost), cost)
    return _made(source, extent) if _hold(source, extent, kept_as) else None


@dataclass(frozen=True, slots=True)
class _Source:
    """One price source; as a key it is the object that it is."""

    number: int
    cost: StepCost = field(compare=False)


@lru_cache(maxsize=KEPT)
def _made(source: _Source, extent: Extent) -> TablePrices:
    """Made once for a cost: whoever asks for it under another load or seed gets the same."""
    cost = source.cost
    return TablePrices(tabulate(cost, extent) if isinstance(cost, RoundCost) else tabulate_whole(cost, extent))


@lru_cache(maxsize=KEPT)
def _hold(source: _Source, extent: Extent, kept_as: str | None) -> bool:
    """Whether the tables of a cost hold its prices."""

    def tried() -> bool:
        errors = table_errors(source.cost, _made(source, extent), extent)
        return bool(np.median(errors) <= MOST_MEDIAN and errors.max() <= MOST)

    return tried() if kept_as is None else kept(f"tables {state_of_code(*MADE_OF)} {extent} {kept_as}", tried)


def table_errors(cost: StepCost, prices: TablePrices, extent: Extent, *, tried: int = TRIED, seed: int = 0) -> Floats:
    """|table / price - 1| of random steps that draft, [tried]: half decode alone, half have prompt chunks.

    Steps that draft alike, with chunks of the same lengths, are priced exactly at once: those that decode alone, a
    draft length at a time, and PATTERNS of chunks.
    """
    generator = np.random.default_rng(seed)
    lengths = [k for k in extent.choices if k] or [0]
    found = [(k, _steps(extent, k, tried // 2 // len(lengths), generator)) for k in lengths]
    for _ in range(PATTERNS):
        k = int(generator.choice(lengths))
        found.append((k, _steps(extent, k, tried // 2 // PATTERNS, generator, chunked=True)))
    errors = [steps.tabled_s(prices, k) / steps.exact_s(cost, k) - 1.0 for k, steps in found]
    return np.abs(np.concatenate(errors))


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps that differ in counts and KV lengths, arrays [steps]."""

    groups: Sequence[Group]
    drafting: Integers
    kv_tokens: Floats

    def exact_s(self, cost: StepCost, draft_tokens: int) -> Floats:
        price = cost.step(
            self.groups, drafting=self.drafting, draft_tokens=draft_tokens, drafting_kv_tokens=self.kv_tokens
        )
        return np.asarray(price.seconds, dtype=np.float64)

    def tabled_s(self, prices: TablePrices, draft_tokens: int) -> Floats:
        found = []
        for index, (drafting, kv) in enumerate(zip(self.drafting.tolist(), self.kv_tokens.tolist(), strict=True)):
            groups = [
                replace(one, sequences=_at(one.sequences, index), kv_tokens=_at(one.kv_tokens, index))
                for one in self.groups
            ]
            price = prices.step(groups, drafting=drafting, draft_tokens=draft_tokens, drafting_kv_tokens=kv)
            found.append(float(cast(float, price.seconds)))
        return np.array(found)


def _at(values: Reals, index: int) -> Reals:
    return values[index].item() if isinstance(values, np.ndarray) else values


def _steps(
    extent: Extent, draft_tokens: int, count: int, generator: np.random.Generator, *, chunked: bool = False
) -> _Steps:
    width = 1 + draft_tokens if extent.verifies else 1
    most = max(1, min(extent.max_num_seqs, (extent.max_num_batched_tokens - 2) // width))
    sequences = np.exp(generator.uniform(0.0, np.log(most), count)).astype(int)
    longest = min(8000, extent.longest_kv) + width + 51
    kv = np.exp(generator.uniform(np.log(width + 50), np.log(longest), count))
    chunks: list[Group] = []
    room, seats = extent.max_num_batched_tokens - sequences.max() * width, extent.max_num_seqs - sequences.max()
    for tokens in _chunk_lengths(int(room), generator) if chunked and room > 1 else ():
        furthest = max(1, min(4000, extent.longest_kv))
        before = generator.integers(2, size=count) * generator.integers(furthest, size=count)
        emits = int(generator.integers(2)) if sum(int(one.logit_rows) for one in chunks) < seats else 0
        chunks.append(Group(1, tokens, tokens + before, emits))
    drafting = sequences + sum(int(one.logit_rows) for one in chunks)
    return _Steps([Group(sequences, width, kv, width), *chunks], drafting, kv)


def _chunk_lengths(room: int, generator: np.random.Generator) -> list[int]:
    """Of up to MOST_CHUNKS prompt chunks that together fill the room, or some of it."""
    tokens = room if generator.random() < 0.5 else int(generator.integers(2, room + 1))
    cuts = np.sort(generator.integers(0, tokens + 1, int(generator.integers(MOST_CHUNKS))))
    lengths = np.diff(np.concatenate([[0], cuts, [tokens]])).tolist()
    return [length for length in lengths if length >= SHORTEST] or [tokens]


class TablePrices:
    """The tables as a price source, for whoever asks step by step."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._record = PriceRecord(prices)

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """As StepCost; single numbers only."""
        decoding, chunks = ([one for one in groups if one.is_prefill == prompts] for prompts in (False, True))
        fields = [(one.sequences, one.query_tokens, one.kv_tokens, one.logit_rows) for one in (*decoding, *chunks)]
        records, work = np.array(fields, dtype=GROUP), np.zeros(1, WORK)
        work["groups"], work["num_groups"] = address_of(records), len(decoding)
        work["chunks"], work["num_chunks"] = address_of(records) + GROUP.itemsize * len(decoding), len(chunks)
        work["num_emitting"] = sum(int(one.logit_rows) for one in chunks)
        work["num_drafting"], work["drafting_kv_tokens"] = int(cast(int, drafting)), drafting_kv_tokens
        work["draft_tokens"] = draft_tokens
        self._record.price(work)
        seconds = float(work["seconds"][0])
        return StepTime(seconds, {}, SOURCES[int(work["rank"][0])], seconds, seconds, lag_s=self.prices.lag_s)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """As StepCost."""

        def seconds_of(sequences: float, context: float) -> float:
            group = Group(sequences, draft_tokens + 1, context + draft_tokens, draft_tokens + 1)
            price = self.step([group], drafting=sequences, draft_tokens=draft_tokens, drafting_kv_tokens=context)
            return float(price.seconds)

        seconds = np.vectorize(seconds_of, otypes=[np.float64])(batch, context_tokens)
        return StepTime(seconds, {}, SOURCES[-1], seconds, seconds, lag_s=self.prices.lag_s)
