"""A plan with all that was asked about it, as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

from specsim.notebook import html_table
from specsim.planning.plan.choose import Option, Plan, choose
from specsim.planning.plan.fleet import FleetVerdict
from specsim.planning.plan.growth import GrownFleet, Growth, GrowthCurve, grown_fleet
from specsim.planning.plan.load import own_load
from specsim.planning.plan.named import Named
from specsim.planning.plan.sensitivity import Asides, asides
from specsim.planning.plan.size import LargestRate
from specsim.planning.plan.start import replica_command
from specsim.progress import ManyProgress
from specsim.scenario import Asked, Scenario, Speculation
from specsim.units import format_gpus


@dataclass(frozen=True)
class PlanAnswer:
    """``later``: plans made anew at other loads. ``growth``: today's plan as its load grows; None: not asked.

    ``drafters``: all that were tried, each at its longest draft.
    """

    scenario: Scenario
    assumed: tuple[str, ...]
    plan: Plan
    asides: Asides
    later: tuple[Plan, ...] = ()
    growth: GrowthCurve | None = None
    drafters: tuple[Speculation, ...] = ()

    def __repr__(self) -> str:
        best, rate_per_s = self.plan.best, self.plan.load.rate_per_s
        return f"<PlanAnswer at {rate_per_s:g} requests/s: {format_gpus(best.gpus)}, {best.candidate.describe()}>"

    def _repr_html_(self) -> str:
        rows = []
        for one in self.plan.options:
            usd = "-" if one.usd_per_hour is None else f"{one.usd_per_hour:,.2f}"
            rows.append([str(one.gpus), one.candidate.describe(), usd])
        return html_table(repr(self)[1:-1], ("GPUs", "deployment", "USD an hour"), rows)

    def as_json(self) -> dict[str, Any]:
        """What ``specsim plan --json`` prints."""
        asides = self.asides
        return {
            "name": self.scenario.name,
            "rate_per_s": self.plan.load.rate_per_s,
            **plan_json(self.plan),
            "interval": None if asides.interval is None else asdict(asides.interval),
            "largest_rate": None if asides.largest is None else largest_json(asides.largest),
            "what_ifs": [asdict(one) for one in asides.what_ifs],
            "later": [{"rate_per_s": one.load.rate_per_s, **plan_json(one)} for one in self.later],
            "growth": None if self.growth is None else growth_json(self.growth),
            "serving_engine": self.plan.best.candidate.scenario.assumed_engine(),
            "assumed": list(self.assumed),
        }


def plan_answer(
    asked: Asked,
    named: Named,
    later_rates: Sequence[float] = (),
    *,
    growth: Growth | None = None,
    what_if: bool = True,
    pool: Executor | None = None,
    progress: ManyProgress | None = None,
) -> PlanAnswer:
    """The plan of a question, of ``later_rates`` too, as its load grows, and what was asked about it.

    Raises InvalidInput without an SLO or with a closed loop, NoAnswer where nothing meets the SLO.
    """
    tell = progress or (lambda _: lambda done, total: None)
    scenario = asked.scenario
    space, assumed = named.space(scenario)
    load = own_load(scenario)
    found = choose(scenario, space, load, pool=pool, progress=tell("deployments"))
    loads = [replace(load, rate_per_s=rate) for rate in later_rates]
    later = tuple(choose(scenario, space, one, pool=pool, progress=tell("a later load")) for one in loads)
    tell("what if" if what_if else "headroom")
    aside = asides(found.best, what_if=what_if, pool=pool)
    if growth is not None:
        tell("growth")
    curve = None if growth is None else _growth_curve(found, growth, aside, pool)
    return PlanAnswer(scenario, (*asked.assumed, *assumed), found, aside, later, curve, space.speculations())


def _growth_curve(plan: Plan, growth: Growth, aside: Asides, pool: Executor | None) -> GrowthCurve:
    best, now = plan.best, plan.load.rate_per_s
    other = plan.best_of(speculation=not best.candidate.kind.speculation)
    options = [best] if other is None else [best, other]
    rates = repeat(growth.loads(now))
    fleet, *others = (map if pool is None else pool.map)(grown_fleet, options, rates)
    largest = aside.largest
    ends = largest is not None and largest.beyond is not None
    lasts = growth.months_until(largest.rate_per_s / now) if largest is not None and ends else None
    return GrowthCurve(growth, fleet, others[0] if others else None, lasts)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Options by rank, and what is none."""
    return {
        "options": [option_json(one) for one in plan.options],
        "excluded": [asdict(one) for one in plan.excluded],
    }


def option_json(option: Option) -> dict[str, Any]:
    """A deployment, what its runs say and what it costs."""
    candidate, smaller = option.candidate, option.size.smaller
    speculation, start = candidate.scenario.speculation, replica_command(option)
    return {
        "gpus": option.gpus,
        "gpu": candidate.kind.gpu,
        "drafter": candidate.drafter,
        "draft_tokens": candidate.draft_tokens,
        "policy": None if speculation is None else speculation.policy.model_dump(mode="json"),
        "command": None if start is None else start.text,
        "deployment": option.size.deployment.model_dump(mode="json", exclude_none=True),
        "usd_per_hour": option.usd_per_hour,
        "usd_per_month": option.usd_per_month,
        "usd_per_million_output_tokens": option.usd_per_million_output_tokens,
        "verdict": verdict_json(option.size.verdict),
        "smaller": None if smaller is None else verdict_json(smaller),
    }


def verdict_json(verdict: FleetVerdict) -> dict[str, Any]:
    """Each bound: its mean over runs, and what 95 % of further runs stay within."""
    return {
        "met": verdict.met,
        "saturated": verdict.saturated,
        "runs": verdict.runs,
        "requests": verdict.requests,
        "levels": [asdict(level) for level in verdict.levels],
        "mean_batch": verdict.summary["mean_batch"],
        "acceptance_length": verdict.summary["spec_decode_acceptance_length"],
    }


def growth_json(curve: GrowthCurve) -> dict[str, Any]:
    """How long today's GPUs do, and GPUs and cost of each month, with drafts and without."""
    fleets = [curve.fleet] if curve.other is None else [curve.fleet, curve.other]
    return {
        "percent_per_month": curve.growth.percent_per_month,
        "lasts_months": curve.lasts_months,
        "fleets": [grown_json(one) for one in fleets],
    }


def grown_json(fleet: GrownFleet) -> dict[str, Any]:
    """Each month's end."""
    today = fleet.today
    return {
        "gpu": today.candidate.kind.gpu,
        "drafter": today.candidate.drafter,
        "draft_tokens": today.candidate.draft_tokens,
        "usd": fleet.usd,
        "months": [
            {
                "month": month,
                "rate_per_s": one.load.rate_per_s,
                "gpus": one.gpus,
                "replicas": one.replicas,
                "usd_per_month": one.usd_per_month,
            }
            for month, one in enumerate(fleet.months, 1)
        ],
    }


def largest_json(largest: LargestRate) -> dict[str, Any]:
    """The rate, and what ends it."""
    return {
        "rate_per_s": largest.rate_per_s,
        "verdict": verdict_json(largest.verdict),
        "beyond": None if largest.beyond is None else verdict_json(largest.beyond),
    }
