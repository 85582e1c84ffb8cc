"""Steps priced by the source itself, where tables do not hold its prices."""

from __future__ import annotations

from typing import Any, cast

from specsim.arrays import Records
from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES, Group, Source
from specsim.jit import array_at
from specsim.scheduling.records import GROUP
from specsim.scheduling.replica import ReplicaArrays


def price_step(assembly: Assembly, replica: ReplicaArrays, work: Records) -> None:
    """Put the price of a replica's step into its WORK record."""
    decodes = array_at(int(work["groups"][0]), int(work["num_widths"][0]), GROUP)
    groups = [Group(int(n), int(width), kv, int(width)) for n, width, kv, _ in decodes.tolist()]
    shares = replica.shares[: replica.record["num_shares"][0]]
    chunks = shares[shares["prefill"] == 1]
    for tokens, position, emits in zip(*(chunks[name].tolist() for name in _CHUNK), strict=True):
        groups.append(Group(1, tokens, position, emits))
    price = assembly.cost.step(
        groups,
        drafting=int(work["num_drafting"][0]),
        draft_tokens=int(work["draft_tokens"][0]),
        drafting_kv_tokens=float(work["drafting_kv_tokens"][0]),
    )
    work["seconds"], work["rank"] = float(cast(Any, price.seconds)), SOURCES.index(cast(Source, price.source))
    work["lag_s"] = price.lag_s


_CHUNK = ("tokens", "kv_tokens", "emits")
