"""Drafters of one model and load side by side: by formula over batch sizes, and simulated at the load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from specsim.analytic.rounds import default_batches, largest_batch, speedup_map
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.assembly import assemble
from specsim.errors import InvalidInput, NoAnswer, SpecsimError
from specsim.interop.acceptance import AcceptanceRecord, law_of_logs
from specsim.notebook import html_table
from specsim.planning.longer import drafting, trying_longer
from specsim.progress import PartProgress
from specsim.scenario import Asked, Scenario, Speculation
from specsim.scenario.drafter import drafter_fields
from specsim.serving.simulate import simulate
from specsim.specs.model import ModelSpec
from specsim.speculation.acceptance.origin import Origin
from specsim.speculation.policy import FixedPolicy

BATCHES = 128  # the largest that is compared unless others are asked for
SIMULATED = 12  # drafters, the best by formula at the load; each costs a second or two
SERVED = ("eagle3", "mtp", "draft-model", "pard", "p-eagle", "dflash", "dspark", "ngram", "suffix")  # by engines
_Question = TypeVar("_Question")


@dataclass(frozen=True, slots=True)
class Compared:
    """One drafter. ``speedups``: of every draft length at every batch size; ``at_load``: a row of it, of its best k.

    ``draft_tokens``: the best k at the load, whose run ``served`` summarises; None: not simulated.
    ``draft_weight_bytes``: on one GPU; ``kv_tokens``: that a replica's cache holds.
    """

    name: str
    scenario: Scenario
    speedups: SpeedupMap
    at_load: Cell
    draft_tokens: int
    served: Mapping[str, Any] | None
    draft_weight_bytes: float
    kv_tokens: int

    def best_drafting(self, batch: int) -> Cell:
        """The best cell of a batch size that drafts at all."""
        return _best_drafting(self.speedups, batch)

    @property
    def speculation(self) -> Speculation:
        assert self.scenario.speculation is not None
        return self.scenario.speculation

    @property
    def basis(self) -> str:
        """What its acceptance rests on: measured, cited or assumed."""
        return self.speculation.acceptance_origin.basis

    def as_json(self, plain_kv_tokens: int) -> dict[str, Any]:
        bests = [self.best_drafting(batch) for batch in self.speedups.batches]
        keys = ("batch", "draft_tokens", "speedup", "low", "high", "output_tokens_per_s", "source")
        return {
            "drafter": self.name,
            "best": [{key: getattr(cell, key) for key in keys} for cell in bests],
            "at_load": {key: getattr(self.at_load, key) for key in keys},
            "draft_tokens": self.draft_tokens,
            "tokens_per_round": self.at_load.tokens_per_round,
            "draft_weight_bytes_per_gpu": self.draft_weight_bytes,
            "kv_tokens": self.kv_tokens,
            "kv_tokens_without": plain_kv_tokens,
            "acceptance": self.speculation.acceptance_origin.model_dump(),
            "served": self.served and dict(self.served),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """``drafters``: best at the load first. ``plain``: the run and ``cells`` of no drafter. ``left_out``: why not."""

    batches: tuple[int, ...]
    load_batch: int
    drafters: tuple[Compared, ...]
    plain: Mapping[str, Any]
    plain_kv_tokens: int
    cells: Mapping[int, Cell]
    price_name: str
    left_out: Mapping[str, str]

    def __repr__(self) -> str:
        best = self.drafters[0]
        return (
            f"<Comparison of {len(self.drafters)} drafters at batch {self.load_batch}: first {best.name} "
            f"k={best.draft_tokens}, {best.at_load.speedup:.2f}x output tokens/s>"
        )

    def _repr_html_(self) -> str:
        rows = []
        for one in self.drafters:
            cells = [one.best_drafting(batch) for batch in one.speedups.batches if batch in self.batches]
            rows.append([one.name, *(f"{cell.speedup:.2f} (k={cell.draft_tokens})" for cell in cells), one.basis])
        header = ["speed-up by batch", *map(str, self.batches), "acceptance"]
        return html_table(repr(self)[1:-1], header, rows, "; ".join(f"{k}: {why}" for k, why in self.left_out.items()))

    def winner(self, batch: int) -> Compared | None:
        """The drafter of the highest speed-up at a batch size that fits beside it; None where all lose to none."""
        fitting = [one for one in self.drafters if batch in one.speedups.batches]
        best = max(fitting, key=lambda one: one.best_drafting(batch).speedup, default=None)
        return best if best is not None and best.best_drafting(batch).speedup > 1.0 else None

    def level(self, batch: int) -> list[Compared]:
        """Drafters that the winner of a batch size is not surely better than: their 90 % intervals overlap."""
        best = self.winner(batch)
        if best is None:
            return []
        others = [one for one in self.drafters if one is not best and batch in one.speedups.batches]
        return [one for one in others if _overlap(one.best_drafting(batch), best.best_drafting(batch))]

    def level_at_load(self) -> list[Compared]:
        """Likewise of the first at the load."""
        best, *others = self.drafters
        return [one for one in others if _overlap(one.at_load, best.at_load)]

    def as_json(self) -> dict[str, Any]:
        level = {batch: [one.name for one in self.level(batch)] for batch in self.batches}
        winners = {batch: self.winner(batch) for batch in self.batches}
        return {
            "load_batch": self.load_batch,
            "prices": self.price_name,
            "drafters": [one.as_json(self.plain_kv_tokens) for one in self.drafters],
            "no_drafter": {"served": dict(self.plain), "kv_tokens": self.plain_kv_tokens},
            "level_at_load": [one.name for one in self.level_at_load()],
            "best": [
                {"batch": batch, "drafter": one and one.name, "level": level[batch]} for batch, one in winners.items()
            ],
            "left_out": dict(self.left_out),
        }


def usual_drafters(model: ModelSpec, named: str | None = None) -> tuple[list[str], dict[str, str]]:
    """The drafter that is named and those that engines serve with such a model; and what is left out, and why."""
    own = None if named is None else drafter_fields(named)
    same = None if own is None or own.get("draft_model") else own["program"]
    names = [*([named] if named is not None and own is not None else []), *(one for one in SERVED if one != same)]
    if model.mtp_layers or same == "mtp":
        return names, {}
    names.remove("mtp")
    return names, {"mtp": f"{model.name} comes without MTP layers; add it with --drafters if you have trained some"}


def with_each(
    names: Sequence[str], ask: Callable[[str], _Question], left_out: dict[str, str] | None
) -> dict[str, _Question]:
    """The question asked with each drafter, by name.

    ``left_out`` gets those that cannot be asked, with the reason; None: the user named them, and the first error
    is raised.
    """
    found: dict[str, _Question] = {}
    for name in names:
        try:
            found[name] = ask(name)
        except SpecsimError as error:
            if left_out is None:
                raise
            left_out[name] = str(error)
    return found


def accepting_as_logged(asked: Asked, records: Sequence[AcceptanceRecord], source: str) -> Asked:
    """The question with the acceptance that logs tell, drafting as far as they reach; as it is without a drafter."""
    before = asked.scenario.speculation
    if before is None:
        return asked
    chosen = law_of_logs(records).chosen
    fitted = Speculation(
        program=before.program,
        draft_model=before.draft_model,
        max_draft_tokens=chosen.draft_tokens,
        acceptance=chosen.law,
        acceptance_origin=Origin(source=source),
        policy=FixedPolicy(k=chosen.draft_tokens),
    )
    return replace(asked, scenario=asked.scenario.model_copy(update={"speculation": fitted}))


def compare(
    scenarios: Mapping[str, Scenario],
    *,
    left_out: Mapping[str, str] | None = None,
    batches: Sequence[int] | None = None,
    simulated: int = SIMULATED,
    progress: PartProgress | None = None,
) -> Comparison:
    """Scenarios that differ in their drafter alone, by name; ``simulated``: how many of them, the best by formula.

    ``left_out``: drafters that could not be asked about, and why.

    Batch sizes are 1, 2, 4, ... up to BATCHES unless given, and the mean batch that the load leads to with no drafter.
    A drafter that cannot be priced or does not fit is left out, with the reason. Raises NoAnswer if the target alone
    does not fit, or no drafter is left.
    """
    tell = progress or (lambda _: None)
    if not scenarios:
        raise _no_drafter(left_out or {})
    first = next(iter(scenarios.values()))
    plain = assemble(first.without_speculation())
    tell("no drafter")
    alone = simulate(plain).summary(first.slo)
    load = max(1, round(alone["mean_batch"] or 1))
    most = min(plain.limits.max_num_seqs, largest_batch(plain, plain.context_tokens))
    sizes = sorted(set(batches)) if batches is not None else default_batches(min(BATCHES, most))
    if sizes[0] < 1:
        raise InvalidInput(f"batch size {sizes[0]} is below 1; give sizes as 1,8,64")
    cells = {cell.batch: cell for cell in speedup_map(plain, batches=[*sizes, load]).cells}
    found, reasons = _all_by_formula(scenarios, [*sizes, load], load, tell)
    reasons = {**(left_out or {}), **reasons}
    if not found:
        raise _no_drafter(reasons)
    served = []
    for one in found[:simulated]:
        tell(f"{one.name}, simulated")
        served.append(_simulated(one, load))
    ranked = [*sorted(served, key=lambda one: one.served["mean_e2el_ms"] if one.served else 0.0), *found[simulated:]]
    return Comparison(tuple(sizes), load, tuple(ranked), alone, plain.longest_cached, cells, plain.price_name, reasons)


def _all_by_formula(
    scenarios: Mapping[str, Scenario], sizes: Sequence[int], load: int, tell: PartProgress
) -> tuple[list[Compared], dict[str, str]]:
    """(those that can be priced and fit, best at the load first; why not the others)."""
    found: list[Compared] = []
    reasons: dict[str, str] = {}
    for name, scenario in scenarios.items():
        tell(name)
        try:
            found.append(_by_formula(name, scenario, sizes, load))
        except SpecsimError as error:
            reasons[name] = str(error)
    return sorted(found, key=lambda one: -one.at_load.speedup), reasons


def _no_drafter(reasons: Mapping[str, str]) -> NoAnswer:
    return NoAnswer(f"no drafter can be compared: {'; '.join(f'{name}: {why}' for name, why in reasons.items())}")


def _by_formula(name: str, scenario: Scenario, sizes: Sequence[int], load: int) -> Compared:
    longer = trying_longer(scenario)
    machine = assemble(longer)
    if not any(machine.choices()):
        raise InvalidInput("it drafts nothing")
    fits = largest_batch(machine, machine.context_tokens)
    speedups = speedup_map(machine, batches=[size for size in sizes if size <= fits])
    best = _best_drafting(speedups, min(load, speedups.batches[-1]))
    chosen = assemble(drafting(longer, best.draft_tokens))
    return Compared(
        name, longer, speedups, best, best.draft_tokens, None, chosen.memory.draft_weights, chosen.longest_cached
    )


def _simulated(one: Compared, load: int) -> Compared:
    """With the best k of the batch without a drafter, or of the batch that this leads to, whichever serves faster."""
    runs: dict[int, dict[str, Any]] = {}
    batch = load
    for _ in range(2):
        near = min(one.speedups.batches, key=lambda size: abs(size - batch))
        k = _best_drafting(one.speedups, near).draft_tokens
        if k in runs:
            break
        machine = assemble(drafting(one.scenario, k))
        runs[k] = simulate(machine).summary(one.scenario.slo)
        batch = max(1, round(runs[k]["mean_batch"] or 1))
    k, served = min(runs.items(), key=lambda run: run[1]["mean_e2el_ms"])
    return replace(one, draft_tokens=k, served=served, at_load=one.speedups.cell(one.at_load.batch, k))


def _overlap(one: Cell, other: Cell) -> bool:
    return one.low <= other.high and other.low <= one.high


def _best_drafting(speedups: SpeedupMap, batch: int) -> Cell:
    cells = [cell for cell in speedups.cells if cell.batch == batch and cell.draft_tokens]
    return max(cells, key=lambda cell: cell.output_tokens_per_s)
