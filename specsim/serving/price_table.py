"""A server's prices from tables: how well they hold, and the tables as a price source of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from specsim.arrays import Reals
from specsim.cost.forward import SOURCES, Group
from specsim.cost.step_time import StepTime
from specsim.scheduling.jit import address_of
from specsim.scheduling.price import PriceRecord, Prices
from specsim.scheduling.records import GROUP, WORK
from specsim.serving.entry import PRICE, compiled
from specsim.serving.server import Server
from specsim.serving.tabulate import Shape, tabulate
from specsim.speculation.round import StepCost

Floats = NDArray[np.float64]

MOST_MEDIAN, MOST_P90 = 0.005, 0.02  # errors of the tables beyond which every step is priced on its own
LONGEST_KV = 262_144  # longer caches are priced by extrapolation


def tabled(server: Server) -> Server:
    """The same server, priced from tables; its policy still believes what it did.

    One that is priced from tables already is returned as it is.

    Raises InexactTables where they miss the price source by more than MOST_MEDIAN or MOST_P90.
    """
    if isinstance(server.cost, TablePrices):
        return server
    longest_kv = min(LONGEST_KV, server.num_kv_blocks * server.limits.block_size)
    decider, choices = server.decider(), server.choices()
    by_batch = None if decider is None else decider.table()
    if by_batch is not None:
        choices = tuple(sorted({0, *(min(k, server.longest) for k in by_batch)}))
    shape = Shape(
        server.limits.max_num_seqs, server.limits.max_num_batched_tokens, longest_kv, choices, server.verifies_drafts,
        server.graph_sizes,
    )  # fmt: skip
    prices = TablePrices(tabulate(server.cost, shape))
    errors = table_errors(server.cost, prices, shape)
    median, p90 = float(np.median(errors)), float(np.quantile(errors, 0.9))
    if median > MOST_MEDIAN or p90 > MOST_P90:
        raise InexactTables(f"prices that tables miss by {median:.1%} (median), {p90:.1%} (every tenth step)")
    return replace(server, cost=prices, policy_cost=server.policy_cost or server.cost)


class InexactTables(Exception):
    """Tables do not hold these prices: they do not add up as they should."""


def table_errors(cost: StepCost, prices: TablePrices, shape: Shape, *, steps: int = 48, seed: int = 0) -> Floats:
    """|table / price - 1| of random steps, [steps]: half of them with a prompt chunk, all drafting."""
    generator = np.random.default_rng(seed)
    errors = []
    for number in range(steps):
        k = int(generator.choice([k for k in shape.choices if k] or [0]))
        width = 1 + k if shape.verifies else 1
        most = max(1, min(shape.max_num_seqs, (shape.max_num_batched_tokens - 2) // width))
        n = int(np.exp(generator.uniform(0.0, np.log(most))))
        kv = float(np.exp(generator.uniform(np.log(width + 50), np.log(min(8000, shape.longest_kv) + width + 51))))
        groups, drafting = [Group(n, width, kv, width)], n
        room = shape.max_num_batched_tokens - n * width
        if number % 2 and room > 1:
            tokens = room if generator.random() < 0.5 else int(generator.integers(2, room + 1))
            emits = int(generator.integers(2))
            before = int(generator.integers(2)) * int(generator.integers(max(1, min(4000, shape.longest_kv))))
            groups.append(Group(1, tokens, tokens + before, emits))
            drafting += emits
        asked = {"drafting": drafting, "draft_tokens": k, "drafting_kv_tokens": kv}
        exact = float(cost.step(groups, **asked).seconds)  # type: ignore[arg-type]
        errors.append(abs(float(prices.step(groups, **asked).seconds) / exact - 1.0))  # type: ignore[arg-type]
    return np.array(errors)


class TablePrices:
    """The tables as a price source: what the compiled loop reads, for the loop that asks step by step."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self._record = PriceRecord(prices)

    def step(
        self, groups: Sequence[Group], *, drafting: Reals, draft_tokens: int, drafting_kv_tokens: Reals
    ) -> StepTime:
        """As StepCost; single numbers only."""
        rows = [(one.sequences, one.query_tokens, one.kv_tokens) for one in groups if not one.is_prefill]
        chunks = [(one.sequences, one.query_tokens, one.kv_tokens) for one in groups if one.is_prefill]
        records, work = np.array([*rows, *chunks], dtype=GROUP), np.zeros(1, WORK)
        work["groups"], work["num_groups"] = address_of(records), len(rows)
        work["chunks"], work["num_chunks"] = address_of(records) + GROUP.itemsize * len(rows), len(chunks)
        work["num_emitting"] = sum(int(one.logit_rows) for one in groups if one.is_prefill)
        work["num_drafting"], work["drafting_kv_tokens"] = int(cast(int, drafting)), drafting_kv_tokens
        compiled()(PRICE, address_of(self._record.record), address_of(work), draft_tokens)
        seconds = float(work["seconds"][0])
        return StepTime(seconds, {}, SOURCES[int(work["rank"][0])], seconds, seconds)

    def decode_round(self, batch: Reals, draft_tokens: int, context_tokens: Reals) -> StepTime:
        """As StepCost."""

        def seconds_of(sequences: float, context: float) -> float:
            group = Group(sequences, draft_tokens + 1, context + draft_tokens, draft_tokens + 1)
            price = self.step([group], drafting=sequences, draft_tokens=draft_tokens, drafting_kv_tokens=context)
            return float(price.seconds)

        seconds = np.vectorize(seconds_of, otypes=[np.float64])(batch, context_tokens)
        return StepTime(seconds, {}, SOURCES[-1], seconds, seconds)
