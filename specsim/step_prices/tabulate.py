"""A price source as tables: the runs of its rounds, and the seconds of their kernels.

What a run carries of a step is found by asking the source for the runs of steps that have one sequence of each width,
any number of them, and prompts. The kernels of a pass are tabulated once, whatever rounds run it: over every number of
tokens and of rows of logits, so that neither captured graphs nor tiles fall between two knots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from specsim.arrays import Floats, Reals
from specsim.cost.forward import Group
from specsim.jit import address_of
from specsim.speculation.draft_phase import PhaseCost
from specsim.speculation.host_work import HostWork
from specsim.speculation.pricing import Run
from specsim.speculation.round import RoundCost
from specsim.step_prices.kernel_tables import ByCount, ByGroup, KernelTables, Table
from specsim.step_prices.price import Prices
from specsim.step_prices.records import RUN, WIDTH_FIELDS
from specsim.step_prices.span import Extent, Knots

KV = np.array([1e4, 2e4])  # two lengths, to see what a run makes of them
PROMPT = 128  # tokens
PROMPTS = tuple(Group(1, PROMPT, PROMPT + KV, rows) for rows in (0, 0, 1))


def tabulate(cost: RoundCost, extent: Extent) -> Prices:
    """The tables of a price source."""
    return _Tabulator(cost, extent).prices()


class _Plan(NamedTuple):
    """Steps that have a list of runs of their own, as ``price.Prices`` orders them."""

    draft_tokens: int
    mixed: bool  # with prompts
    wide: bool  # with drafts to verify

    @property
    def narrowest(self) -> int:
        return 2 if self.wide else 1


class _Part(NamedTuple):
    """A run, and what of a step is in it."""

    run: Run
    phase: PhaseCost | None  # None of the target
    decoding: Group | None
    prompts: Sequence[Group]

    @property
    def uniform(self) -> bool:
        """Whether its pass is captured as one without prompts."""
        groups = self.run.groups if self.run.drafting is None else [self.run.drafting, *self.run.groups]
        return not any(group.is_prefill for group in groups)


class _Tabulator:
    def __init__(self, cost: RoundCost, extent: Extent) -> None:
        self.cost, self.extent, self.sequences = cost, extent, extent.sequences
        beams = [part.decoding for part in self._parts(_Plan(0, False, False), Group(1, 1, KV, 1))]
        most = extent.max_num_seqs * max(float(np.max(group.sequences)) for group in beams if group)
        self.knots = Knots.spanning(most, extent.max_num_batched_tokens, extent.longest_kv)
        self.tables = KernelTables(self.knots, cost.padded_kv)

    def prices(self) -> Prices:
        plans = [
            _Plan(k, mixed, wide)
            for k, mixed, wide in product(self.extent.draft_lengths, (False, True), (False, True))
        ]
        runs = [self._runs(plan) for plan in plans]
        records, made = _records([run for one in runs for run in one])
        handing, tokens, phases = (np.stack(works) for works in zip(*map(self._host_works, plans), strict=True))
        unpacking = [charge for entry in self.cost.target.unpacking() for charge in entry.charges]
        return Prices(
            k_index=self.extent.k_index(),
            first_runs=np.cumsum([0, *map(len, runs)]),
            runs=records,
            tables=made,
            knots=self.knots,
            step_host_s=self._summed(self.cost.host.step(self.sequences)),
            phase_host_s=phases,
            handing_host_s=handing,
            token_host_s=tokens,
            load_s=self._loads(),
            overlaps_host=self.cost.overlaps_host,
            fixed_s=float(np.sum([charge.seconds for charge in unpacking])),
        )

    def _parts(self, plan: _Plan, group: Group, drafting: Reals = 1) -> list[_Part]:
        """What the source runs in a step of a plan that has this group of sequences."""
        decoding = [Group(1, 2, KV, 2), group] if plan.wide else [group]
        prompts = PROMPTS if plan.mixed else ()
        groups = [*decoding, *prompts]
        found = [_part(run, None, decoding, prompts) for run in self.cost.target.runs(groups, plan.draft_tokens)]
        for phase in self.cost.phases if plan.draft_tokens else ():
            runs = phase.runs(groups, drafting, plan.draft_tokens, KV)
            found += [_part(run, phase, decoding, prompts) for run in runs]
        return found

    def _runs(self, plan: _Plan) -> list[dict[str, Any]]:
        """Fields of RUN records; tables in place of their addresses."""
        if plan.narrowest > self.extent.widest:
            return []
        widths = range(1, (self.extent.widest if plan.wide else 1) + 1)
        by_width = zip(*(self._parts(plan, Group(1, width, KV, width)) for width in widths), strict=True)
        n = np.maximum(self.sequences, 1.0)[:, None]
        by_number = self._parts(plan, Group(n, plan.narrowest, KV, plan.narrowest), n)
        return [
            self._run(plan, place, found, many)
            for place, (found, many) in enumerate(zip(by_width, by_number, strict=True))
        ]

    def _run(self, plan: _Plan, place: int, by_width: Sequence[_Part], many: _Part) -> dict[str, Any]:
        """``place``: the run's, in the plan."""
        widest = by_width[-1]
        run, attention = widest.run, self._attention(widest)
        widths = [_as_in_run(part.decoding, attention) for part in by_width]
        own = _as_in_run(run.drafting, attention)
        fields: dict[str, Any] = {
            "widths": _Array(np.array([np.zeros(len(WIDTH_FIELDS)), *widths])),
            "shares": _Array(self._shares(many)),
            "times": _Array(self._by_number(many.run.times)),
            "of_target": widest.phase is None,
            "overlapped": widest.phase is not None and widest.phase.overlapped,
            "attention_s": attention,
            **{f"own_{name}": value for name, value in zip(WIDTH_FIELDS, own, strict=True)},
        }
        if widest.prompts:
            first, last = widest.prompts[0], widest.prompts[-1]
            fields["prompt_tokens"] = first.query_tokens / PROMPT
            fields["emitting_tokens"] = last.query_tokens - first.query_tokens
            fields["emitting_rows"] = last.logit_rows - first.logit_rows
            if attention is not None:
                fields["prompts_s"] = self.tables.prompts(run.cost, _seen(first)[0], warm=run.warm)
        return fields | self._by_count(widest, fields, widths) | _launching(widest)

    def _attention(self, part: _Part) -> ByGroup | None:
        """None where the run has none."""
        run = part.run
        if run.operation or not run.cost.of_attention(Group(1, 1, KV[0], 1), warm=False, mask="", uniform=True):
            return None
        return self.tables.attention(run.cost, warm=run.warm, mask=run.mask, uniform=part.uniform)

    def _by_count(self, part: _Part, fields: dict[str, Any], widths: Sequence[Sequence[float]]) -> dict[str, ByCount]:
        """Tables over the tokens and the rows that the run may have."""
        run, most = part.run, [self.extent.max_num_batched_tokens * fields.get("prompt_tokens", 0.0), 0.0]
        for axis, name in enumerate(("tokens", "rows")):
            decoding = 0.0
            for width, one in enumerate(widths, start=1):
                sequences = min(self.extent.max_num_seqs, self.extent.max_num_batched_tokens // width)
                decoding = max(decoding, sequences * float(fields["shares"].made().max()) * one[axis])
            each = fields[f"own_{name}"] + fields.get(f"emitting_{name}", 0.0)
            most[axis] += decoding + self.extent.max_num_seqs * each
        if run.operation:
            return {"rows_s": self.tables.sampling(run.cost, run.operation).span(most[1])}
        return {
            "tokens_s": self.tables.tokens(run.cost, warm=run.warm, uniform=part.uniform).span(most[0]),
            "rows_s": self.tables.rows(run.cost, warm=run.warm).span(most[1]),
        }

    def _shares(self, many: _Part) -> Floats:
        """How many of a decoding sequence are in the run, by how many decode."""
        if many.decoding is None:
            return np.zeros(self.sequences.shape)
        return self._by_number(many.decoding.sequences / np.maximum(self.sequences, 1.0)[:, None])

    def _by_number(self, values: Reals) -> Floats:
        """[sequences], of one value or of [sequences, 1]."""
        return np.broadcast_to(np.asarray(values, dtype=np.float64).reshape(-1), self.sequences.shape)

    def _host_works(self, plan: _Plan) -> tuple[Floats, Floats, Floats]:
        """Of a plan's steps that draft: handing drafts over, their tokens, and the phases."""
        k, n, none = plan.draft_tokens, self.sequences, np.zeros(self.sequences.shape)
        if not k:
            return self._summed([]), self._summed([]), self._summed([])
        groups = [Group(1, 1, KV[0], 1), *(PROMPTS if plan.mixed else ())]
        phases = self._summed([])
        for phase in self.cost.phases:
            works = self._summed(self.cost.draft_works(phase, np.maximum(n, 1.0), k, any_runs=True))
            runs = phase.runs(groups, 0, k, KV[0])
            idle = self._summed(self.cost.draft_works(phase, 0, k, any_runs=bool(runs)))
            phases += np.where(n > 0, works, idle)
        return self._summed(self.cost.host.drafts(n, none)), self._summed(self.cost.host.drafts(none, n * k)), phases

    def _loads(self) -> Floats:
        """[2, tokens]; no tokens where no experts are loaded."""
        tokens = np.arange(self.extent.max_num_batched_tokens + 1.0)
        found = [np.broadcast_to(seconds, tokens.shape) for seconds in self.cost.target.load_s(tokens)]
        return np.stack(found) if np.any(found) else np.zeros((2, 0))

    def _summed(self, works: Iterable[HostWork]) -> Floats:
        """[2, sequences]: exposed and hidden seconds."""
        found = np.zeros((2, len(self.sequences)))
        for work in works:
            found += np.multiply.outer([work.exposed, 1.0 - work.exposed], work.seconds * np.ones(len(self.sequences)))
        return found


class _Array(NamedTuple):
    """A table that is there already."""

    values: Floats

    def made(self) -> Floats:
        return self.values


def _part(run: Run, phase: PhaseCost | None, decoding: Sequence[Group], prompts: Sequence[Group]) -> _Part:
    """``decoding``, ``prompts``: of the step; their numbers differ, so a run's number of groups tells what it has."""
    here, whole = len(run.groups), len(decoding) + len(prompts)
    has_decoding = here in (whole, len(decoding))
    has_prompts = bool(prompts) and here in (whole, len(prompts))
    group = run.groups[len(decoding) - 1] if has_decoding else None
    return _Part(run, phase, group, run.groups[-len(prompts) :] if has_prompts else ())


def _as_in_run(group: Group | None, attention: ByGroup | None) -> tuple[float, ...]:
    """WIDTH_FIELDS of what a sequence is in a run."""
    if group is None:
        return 0.0, 0.0, -1.0, 0.0, 0.0
    place = -1.0 if attention is None else float(attention.place(group))
    return group.query_tokens, group.logit_rows, place, *_seen(group)


def _seen(group: Group) -> tuple[float, float]:
    """Keys that a sequence sees in a run for each of the KV lengths that were asked about, and how many more."""
    low, high = np.broadcast_to(group.kv_tokens, KV.shape).tolist()
    keys = (high - low) / (KV[1] - KV[0])
    return float(keys), float(low - keys * KV[0])


def _launching(part: _Part) -> dict[str, float]:
    """When a graph runs the pass, and what launching it takes."""
    run, uniform, cost = part.run, part.uniform, part.run.cost
    if run.operation:
        return {}
    captured = {"captured": max(cost.captured_sizes(uniform=uniform), default=0.0)}
    if not cost.launches:
        return captured
    alone = sum(float(np.max(charge.launches)) for charge in cost.of_tokens(1, 1, warm=run.warm))
    group = cost.of_attention(Group(1, 1, KV[0], 1), warm=run.warm, mask="", uniform=uniform)
    each = sum(float(np.max(charge.launches)) for charge in group)
    busy_s, idle_s = cost.launching_s(0.0, True, uniform=uniform)
    eager_busy_s, eager_idle_s = cost.launching_s(alone, False, uniform=uniform)
    more_busy_s, _ = cost.launching_s(alone + each, False, uniform=uniform)
    return captured | {
        "captured_busy_s": float(busy_s),
        "captured_idle_s": float(idle_s),
        "eager_busy_s": float(eager_busy_s),
        "eager_idle_s": float(eager_idle_s),
        "eager_group_busy_s": float(more_busy_s - eager_busy_s),
    }


def _records(runs: Sequence[dict[str, Any]]) -> tuple[Any, list[Floats]]:
    """RUN records, and the tables that they point into."""
    made: dict[int, Floats] = {}
    records = np.zeros(len(runs), RUN)
    for record, fields in zip(records, runs, strict=True):
        for name, value in fields.items():
            if value is None:
                continue
            if isinstance(value, int | float):
                record[name] = value
                continue
            table: Table = value
            if id(table) not in made:
                made[id(table)] = np.ascontiguousarray(table.made(), dtype=np.float64)
            record[name] = address_of(made[id(table)])
        for name, last in (("tokens_s", "last_token"), ("rows_s", "last_row")):
            record[last] = fields[name].most if name in fields else 0
        record["num_places"] = 0 if fields["attention_s"] is None else fields["attention_s"].num_places
    return records, list(made.values())
