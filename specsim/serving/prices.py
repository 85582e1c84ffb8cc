"""What a replica's steps are charged: from tables where these hold its prices, else by the source itself."""

from __future__ import annotations

from specsim.assembly import Assembly
from specsim.step_prices.span import Extent

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
    from specsim.step_prices.table_prices import TablePrices, tables_of  # numba comes with it

    if isinstance(assembly.cost, TablePrices):
        return assembly
    prices = tables_of(assembly.cost, extent_of(assembly), assembly.cost_content)
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
