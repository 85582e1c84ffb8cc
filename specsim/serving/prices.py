"""What a replica's steps are charged: from tables where these hold its prices, else by the source itself."""

from __future__ import annotations

from typing import Any, cast

from specsim.arrays import Records
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES, Group, Source
from specsim.jit import array_at
from specsim.scheduling.replica import ReplicaArrays
from specsim.step_prices.records import GROUP
from specsim.step_prices.span import Extent
from specsim.step_prices.table_prices import TablePrices, tables_of

LONGEST_KV = 262_144  # longer caches are priced by extrapolation


def priced_replicas(assembly: Assembly) -> list[Assembly]:
    """A scenario's replicas, priced as it asks."""
    tables = assembly.scenario.cost.tables
    made = {one: tabled(one) if tables else one for one in dict.fromkeys(assembly.replicas)}
    return [made[one] for one in assembly.replicas]


def tabled(assembly: Assembly) -> Assembly:
    """The same replicas, priced from tables; their policy still believes what it did.

    As they are where they are priced from tables already, or where tables do not hold their prices.
    """
    if isinstance(assembly.cost, TablePrices):
        return assembly
    prices = tables_of(assembly.cost, extent_of(assembly))
    return assembly if prices is None else assembly.priced_by(prices)


def extent_of(assembly: Assembly) -> Extent:
    """What the tables of these replicas must span."""
    limits, choices = assembly.limits, assembly.choices()
    decider = assembly.decider()
    by_batch = None if decider is None else decider.table()
    if by_batch is not None:
        choices = tuple(sorted({0, *(min(k, assembly.longest) for k in by_batch)}))
    longest_kv = min(LONGEST_KV, assembly.longest_cached)
    verifies = assembly.verifies_drafts
    return Extent(limits.max_num_seqs, limits.max_num_batched_tokens, longest_kv, choices, verifies)


def price_step(assembly: Assembly, replica: ReplicaArrays, work: Records) -> None:
    """Put the price of a replica's step into its WORK record."""
    decodes = array_at(int(work["groups"][0]), int(work["num_widths"][0]), GROUP)
    groups = [Group(int(n), int(width), kv, int(width)) for n, width, kv, _ in decodes.tolist()]
    shares = replica.shares[: replica.record["num_shares"][0]]
    chunks = shares[shares["prefill"] == 1]
    groups += [Group(1, *chunk) for chunk in chunks[["tokens", "kv_tokens", "emits"]].tolist()]
    price = assembly.cost.step(
        groups,
        drafting=int(work["num_drafting"][0]),
        draft_tokens=int(work["draft_tokens"][0]),
        drafting_kv_tokens=float(work["drafting_kv_tokens"][0]),
    )
    work["seconds"], work["rank"] = float(cast(Any, price.seconds)), SOURCES.index(cast(Source, price.source))
    work["lag_s"] = price.lag_s
