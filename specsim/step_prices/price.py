"""Seconds of a step from tables, put together as its round is.

``tabulate`` makes the list of the runs (``speculation.pricing.Run``) of a round at each draft length: how much
of a step each run carries, and where the tables of its kernels are. A run takes what its tokens take, its rows of
logits, and the attention of each group and chunk, and it may wait for its launches. Host and device overlap, and a
drafter and the target, where ``speculation.round`` says they do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from specsim.arrays import Floats, Integers, Records
from specsim.cost.forward import SOURCES
from specsim.cost.step_time import WEIGHTY_SHARE
from specsim.jit import address_of, compiled, floats_at, integers_at, jit, mixed_record, point, record_at
from specsim.step_prices.kernel_seconds import (
    NUM_SOURCES,
    attention,
    between,
    of_chunks,
    of_count,
    of_prompts,
    span,
)
from specsim.step_prices.records import GROUP_BYTES, RUN_BYTES, WIDTH_FIELDS, group_at, run_at, work_at
from specsim.step_prices.span import Knots

NOTHING = np.zeros((2, 0))
_TOKENS, _ROWS, _PLACE, _KEYS, _MORE_KEYS = range(len(WIDTH_FIELDS))


class Prices(NamedTuple):
    """Axes: s = sequences (all whole numbers from 0), k_index, and those of RUN's tables.

    A plan is a round's list of runs. ``k_index[k]`` is k's place among draft lengths (0 for k = 0), -1 where no plan
    was made; its plans are those at 4 · k_index: without prompts, without and with drafts to verify; with prompts.
    """

    k_index: Integers  # [k]
    first_runs: Integers  # [plans + 1]
    runs: Records  # [runs] of RUN
    tables: list[Floats]  # that RUN's addresses are of
    knots: Knots
    step_host_s: Floats  # [2, s] what the host takes for so many sequences, exposed and hidden
    phase_host_s: Floats  # [plans, 2, s] for the phases in which so many draft
    handing_host_s: Floats | None = None  # [plans, 2, s] for handing over the drafts of so many
    token_host_s: Floats | None = None  # [plans, 2, s] for the draft tokens of so many
    load_s: Floats = NOTHING  # [2, tokens] of loading experts for so many tokens of a step, and of it what is foreseen
    off_tokens: Floats = NOTHING[0]  # [o] log tokens of a step; empty: the prices are as tabulated
    off: Floats | None = None  # [2, k, o] log of what multiplies a step without and with prompt chunks that drafts k
    overlaps_host: bool = False
    whole: bool = False  # steps whose parts nobody knows, see ``_whole_step``
    fixed_s: float = 0.0  # of every step
    lag_s: float = 0.0  # of every step, as ``cost.step_time.StepTime`` has it


_ARRAYS = [
    "k_index",
    "first_runs",
    "runs",
    "step_host_s",
    "phase_host_s",
    "handing_host_s",
    "token_host_s",
    "load_s",
    "off_tokens",
    "off",
]
_NUMBERS = ("overlaps_host", "whole", "fixed_s", "lag_s")
PRICES = mixed_record(
    f"""
    {" ".join(_ARRAYS)}
    kv_knots sequence_knots count_knots chunk_knots prefix_knots
    num_draft_lengths num_kv num_sequence_knots num_counts num_chunks num_prefixes num_host num_loads num_off
    overlaps_host whole spent put_together
    """,
    "fixed_s lag_s",
)
"""Addresses of the tables, how long their axes are, and what puts prices together from them, compiled apart.

``spent``: seconds of a step by the rank of their source.
"""
prices_at = record_at(PRICES)


class PriceRecord:
    """The PRICES record of tables, which it keeps alive."""

    def __init__(self, prices: Prices) -> None:
        knots = prices.knots
        fields = {name: getattr(prices, name) for name in (*_ARRAYS, *_NUMBERS)}
        fields |= {
            "kv_knots": knots.kv,
            "sequence_knots": knots.sequences,
            "count_knots": knots.counts,
            "chunk_knots": knots.chunks,
            "prefix_knots": knots.prefixes,
            "num_draft_lengths": len(prices.k_index),
            "num_kv": len(knots.kv),
            "num_sequence_knots": len(knots.sequences),
            "num_counts": len(knots.counts),
            "num_chunks": len(knots.chunks),
            "num_prefixes": len(knots.prefixes),
            "num_host": prices.step_host_s.shape[1],
            "num_loads": prices.load_s.shape[1],
            "num_off": len(prices.off_tokens),
            "spent": np.zeros(len(SOURCES)),
            "put_together": compiled(put_together).address,
        }
        self.record = np.zeros(1, PRICES)
        self._kept = prices.tables, point(self.record, fields)

    def price(self, work: Records) -> None:
        """Set the seconds of a WORK record, [1], and what else is known of its price."""
        compiled(put_together)(address_of(self.record), address_of(work))


def put_together(prices_address: int, work_address: int) -> int:
    """Set the seconds of a step (a WORK record), the rank of their source, and the step's lag."""
    prices, step = prices_at(prices_address), work_at(work_address)
    k, spent = step.draft_tokens, floats_at(prices.spent)
    for rank in range(NUM_SOURCES):
        spent[rank] = 0.0
    seconds = max(_whole_step(prices, step, k) if prices.whole else _as_tabulated(prices, step, k), 1e-9)
    step.rank = 0
    for rank in range(NUM_SOURCES):
        if spent[rank] >= WEIGHTY_SHARE * seconds:
            step.rank = rank
    if prices.num_off:
        tokens = _tokens(step.groups, step.num_groups) + _tokens(step.chunks, step.num_chunks)
        seconds *= np.exp(_log_off(prices, step.num_chunks, k, tokens))
    step.seconds, step.lag_s = seconds, prices.lag_s
    return 0


@jit
def _tokens(groups: int, count: int) -> float:
    tokens = 0.0
    for g in range(count):
        group = group_at(groups + g * GROUP_BYTES)
        tokens += group.sequences * group.query_tokens
    return tokens


@jit
def _log_off(prices: Any, chunks: int, k: int, tokens: float) -> float:
    """Log of what multiplies a step of so many tokens; beyond the knots that of the nearest one."""
    i, t = span(floats_at(prices.off_tokens), prices.num_off, np.log(max(tokens, 1.0)))
    row = floats_at(prices.off + 8 * ((chunks > 0) * prices.num_draft_lengths + k) * prices.num_off)
    return between(row, i, min(max(t, 0.0), 1.0))


@jit
def _as_tabulated(prices: Any, step: Any, k: int) -> float:
    """Seconds of a step that drafts ``k`` tokens, without what multiplies them."""
    sequences, wide = 0.0, 0
    for g in range(step.num_groups):
        group = group_at(step.groups + g * GROUP_BYTES)
        sequences += group.sequences
        wide = max(wide, int(group.query_tokens > 1))
    prompt_tokens = _tokens(step.chunks, step.num_chunks)
    index = max(0, integers_at(prices.k_index)[k])
    plan = 4 * index + 2 * int(step.num_chunks > 0) + wide
    first = integers_at(prices.first_runs)
    target_s, others = 0.0, (0.0, 0.0, 0.0)
    overlapped = (0.0, 0.0, 0.0)
    for r in range(first[plan], first[plan + 1]):
        run = run_at(prices.runs + r * RUN_BYTES)
        taken = _of_run(prices, run, step, int(sequences), prompt_tokens)
        if run.of_target:
            target_s += taken[0] + taken[1]
        if run.overlapped:
            overlapped = _sum(overlapped, taken)
        else:
            others = _sum(others, taken)
    decoding, drafting = int(sequences), step.num_drafting
    exposed_s, hidden_s = _host(prices, prices.step_host_s, 0, decoding + step.num_chunks)
    if k:
        for table, count in ((prices.handing_host_s, decoding), (prices.token_host_s, drafting)):
            more = _host(prices, table, plan, count)
            exposed_s, hidden_s = exposed_s + more[0], hidden_s + more[1]
        phases = _host(prices, prices.phase_host_s, plan, drafting)
        share = _outlasting(overlapped, phases, target_s)
        exposed_s, hidden_s = exposed_s + share * phases[0], hidden_s + share * phases[1]
        others = _sum(others, (share * overlapped[0], share * overlapped[1], share * overlapped[2]))
    device_s = others[0] + prices.fixed_s
    if prices.num_loads:
        device_s += _loads(prices, _tokens(step.groups, step.num_groups) + prompt_tokens, target_s + prices.fixed_s)
    if prices.overlaps_host:
        return float(exposed_s + max(device_s, others[2] + hidden_s))
    return float(exposed_s + hidden_s + device_s + others[1])


@jit
def _outlasting(overlapped: tuple[float, float, float], phases: tuple[float, float], target_s: float) -> float:
    """The share of drafting that outlasts the target, beside which it runs; all of it where it does not."""
    beside_s = overlapped[0] + overlapped[1]
    if beside_s == 0.0:
        return 1.0
    beside_s += phases[0] + phases[1]
    return float(max(0.0, beside_s - target_s) / beside_s)


@jit
def _whole_step(prices: Any, step: Any, k: int) -> float:
    """A step of one group of the mean width and KV length, what each chunk adds to it, and drafting.

    The one run's ``attention_s`` is the step of such a group, at the place of its width; ``prompts_s`` of a chunk;
    ``fixed_s`` is that of a step without a group; ``phase_host_s`` of drafting.
    """
    run = run_at(prices.runs)
    tokens, keys, sequences = _tokens(step.groups, step.num_groups), 0.0, 0.0
    for g in range(step.num_groups):
        group = group_at(step.groups + g * GROUP_BYTES)
        sequences += group.sequences
        keys += group.sequences * group.kv_tokens
    seconds = prices.fixed_s
    if step.num_groups:
        place = min(int(tokens / sequences), run.num_places) - 1
        seconds = attention(prices, run, place, sequences, keys / sequences, 1.0)
        share = tokens / sequences - 1.0 - place
        if share > 0.0 and place + 1 < run.num_places:
            seconds += share * (attention(prices, run, place + 1, sequences, keys / sequences, 0.0) - seconds)
    for c in range(step.num_chunks):
        chunk = group_at(step.chunks + c * GROUP_BYTES)
        seconds += of_chunks(prices, run, 1.0, chunk.query_tokens, chunk.kv_tokens - chunk.query_tokens, 1.0)
    if k:
        plan = 4 * max(0, integers_at(prices.k_index)[k])
        seconds += _host(prices, prices.phase_host_s, plan, step.num_drafting)[0]
    return float(seconds)


@jit
def _loads(prices: Any, tokens: float, target_s: float) -> float:
    """Loading of experts, as far as it is not foreseen and hidden behind the target's pass."""
    at = min(int(tokens), prices.num_loads - 1)
    rows = floats_at(prices.load_s)
    return float(rows[at] - min(rows[prices.num_loads + at], target_s))


@jit
def _sum(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


@jit
def _host(prices: Any, table: int, plan: int, count: int) -> tuple[float, float]:
    """Exposed and hidden seconds of the host for so many sequences."""
    size = prices.num_host
    rows = floats_at(table + 16 * plan * size)
    at = min(count, size - 1)
    return float(rows[at]), float(rows[size + at])


@jit
def _of_run(prices: Any, run: Any, step: Any, decoding: int, prompt_tokens: float) -> tuple[float, float, float]:
    """Seconds of the device, that it waits for the launches of the run, and of the host for them."""
    tokens, rows, attention_s, kernels = 0.0, 0.0, 0.0, 0
    share = floats_at(run.shares)[decoding]
    times = floats_at(run.times)[decoding]
    for g in range(step.num_groups):
        group = group_at(step.groups + g * GROUP_BYTES)
        width = int(group.query_tokens)
        here = floats_at(run.widths + 8 * width * len(WIDTH_FIELDS))
        sequences = share * group.sequences
        tokens += sequences * here[_TOKENS]
        rows += sequences * here[_ROWS]
        if here[_PLACE] >= 0.0:
            keys = here[_KEYS] * group.kv_tokens + here[_MORE_KEYS]
            attention_s += attention(prices, run, int(here[_PLACE]), sequences, keys, times)
            kernels += 1
    if step.num_drafting and run.own_tokens:
        tokens += step.num_drafting * run.own_tokens
        rows += step.num_drafting * run.own_rows
        if run.own_place >= 0:
            keys = run.own_keys * step.drafting_kv_tokens + run.own_more_keys
            attention_s += attention(prices, run, run.own_place, step.num_drafting, keys, times)
            kernels += 1
    if step.num_chunks:
        tokens += run.prompt_tokens * prompt_tokens + run.emitting_tokens * step.num_emitting
        rows += run.emitting_rows * step.num_emitting
        if run.prompts_s:
            own = of_prompts(prices, run, step, times)
            attention_s, kernels = attention_s + own[0], kernels + own[1]
    if tokens == 0.0:
        return 0.0, 0.0, 0.0
    kernels_s = of_count(prices, run.tokens_s, run.last_token, tokens, run.captured, times) + attention_s
    kernels_s += of_count(prices, run.rows_s, run.last_row, rows, 0.0, times)
    busy_s, idle_s = run.captured_busy_s, run.captured_idle_s
    if tokens > run.captured:
        busy_s, idle_s = run.eager_busy_s + kernels * run.eager_group_busy_s, run.eager_idle_s
    waiting_s = max(0.0, busy_s - kernels_s - idle_s)
    return times * (kernels_s + idle_s), times * waiting_s, times * busy_s
