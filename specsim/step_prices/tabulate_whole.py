"""A source of whole steps as tables: a step of one group, what a chunk adds to it, and what drafting does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specsim.arrays import Floats, Reals
from specsim.cost.forward import SOURCES, Group
from specsim.cost.step_time import StepTime
from specsim.jit import point
from specsim.speculation.round import StepCost
from specsim.step_prices.price import Prices
from specsim.step_prices.records import RUN
from specsim.step_prices.span import Extent, Knots

BESIDE = Group(1, 1, 512.0, 1)


def tabulate_whole(cost: StepCost, extent: Extent) -> Prices:
    """The tables of a price source that does not tell the parts of a step apart."""
    knots = Knots.spanning(extent.max_num_seqs, extent.max_num_batched_tokens, extent.longest_kv)
    groups = _groups(cost, extent, knots)
    prompts = _prompts(cost, knots)
    run = np.zeros(1, RUN)
    point(run, {"attention_s": groups, "num_places": extent.widest, "prompts_s": prompts})
    ks, sequences = extent.draft_lengths, extent.sequences
    drafting = np.zeros((4 * len(ks), 2, len(sequences)))
    for index, k in enumerate(ks):
        drafting[4 * index, 0] = _seconds(cost, [BESIDE], sequences, k) - _seconds(cost, [BESIDE])
    chunk = Group(1, 128, 128, 1)
    alone_s = _seconds(cost, [chunk]) - (_seconds(cost, [BESIDE, chunk]) - _seconds(cost, [BESIDE]))
    return Prices(
        k_index=extent.k_index(),
        first_runs=np.array([0, 1]),
        runs=run,
        tables=[groups, prompts],
        knots=knots,
        step_host_s=np.zeros((2, len(sequences))),
        phase_host_s=drafting,
        whole=True,
        fixed_s=float(alone_s),
        lag_s=_step(cost, [BESIDE]).lag_s,
    )


def _groups(cost: StepCost, extent: Extent, knots: Knots) -> Floats:
    """[2, width, sequences, KV]: seconds and ranks."""
    found, n = [], knots.sequences[:, None]
    for width in range(1, extent.widest + 1):
        price = _step(cost, [Group(n, width, np.maximum(knots.kv, width), width)])
        found.append(
            np.stack([np.broadcast_to(one, (len(n), len(knots.kv))) for one in (price.seconds, _rank(price))])
        )
    return np.ascontiguousarray(np.stack(found, axis=1), dtype=np.float64)


def _prompts(cost: StepCost, knots: Knots) -> Floats:
    """[2, chunks, tokens of one, tokens before it]: of one chunk, for any number of them."""
    beside_s, found = _seconds(cost, [BESIDE]), []
    for tokens in knots.chunks.tolist():
        price = _step(cost, [BESIDE, Group(1, tokens, tokens + knots.prefixes, 1)])
        each = np.broadcast_to(price.seconds - beside_s, knots.prefixes.shape)
        found.append(np.stack([each, np.broadcast_to(_rank(price), each.shape)]))
    one = np.stack(found, axis=1)[:, None]
    return np.ascontiguousarray(np.repeat(one, len(knots.counts), axis=1), dtype=np.float64)


def _step(cost: StepCost, groups: Sequence[Group], drafting: Reals = 0, k: int = 0) -> StepTime:
    return cost.step(groups, drafting=drafting, draft_tokens=k, drafting_kv_tokens=512.0)


def _seconds(cost: StepCost, groups: Sequence[Group], drafting: Reals = 0, k: int = 0) -> Reals:
    return _step(cost, groups, drafting, k).seconds


def _rank(price: StepTime) -> Reals:
    """Of its source, in SOURCES."""
    return np.asarray(sum(rank * (np.asarray(price.source) == name) for rank, name in enumerate(SOURCES)))
