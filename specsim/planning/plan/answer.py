"""A plan with all that was asked about it, as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from typing import Any

from specsim.notebook import html_table
from specsim.planning.plan.choose import Option, Plan, Told, choose
from specsim.planning.plan.fleet import FleetVerdict
from specsim.planning.plan.load import own_load
from specsim.planning.plan.named import Named
from specsim.planning.plan.sensitivity import Asides, asides
from specsim.planning.plan.size import LargestRate
from specsim.scenario import Asked, Scenario

Progress = Callable[[str], Told]  # what is under way, and who hears how far it is


@dataclass(frozen=True)
class PlanAnswer:
    """``grown``: plans of later loads."""

    scenario: Scenario
    assumed: tuple[str, ...]
    plan: Plan
    asides: Asides
    grown: tuple[Plan, ...]

    def __repr__(self) -> str:
        best = self.plan.best
        return (
            f"<PlanAnswer at {self.plan.load.rate_per_s:g} requests/s: {best.gpus} GPUs, {best.candidate.describe()}>"
        )

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
            "name": self.scenario.name, "rate_per_s": self.plan.load.rate_per_s, **plan_json(self.plan),
            "interval": None if asides.interval is None else asdict(asides.interval),
            "largest_rate": None if asides.largest is None else largest_json(asides.largest),
            "what_ifs": [asdict(one) for one in asides.what_ifs],
            "grown": [{"rate_per_s": one.load.rate_per_s, **plan_json(one)} for one in self.grown],
            "serving_engine": self.plan.best.candidate.scenario.assumed_engine(), "assumed": list(self.assumed),
        }  # fmt: skip


def plan_answer(
    asked: Asked, named: Named, later_rates: Sequence[float] = (), *, what_if: bool = True,
    pool: Executor | None = None, progress: Progress | None = None,
) -> PlanAnswer:  # fmt: skip
    """The plan of a question, of ``later_rates`` too, and what was asked about it.

    Raises InvalidInput without an SLO or with a closed loop, NoAnswer where nothing meets the SLO.
    """
    tell = progress or (lambda _: lambda done, total: None)
    scenario = asked.scenario
    space, assumed = named.space(scenario)
    load = own_load(scenario)
    found = choose(scenario, space, load, pool=pool, progress=tell("deployments"))
    later = [replace(load, rate_per_s=rate) for rate in later_rates]
    grown = [choose(scenario, space, one, pool=pool, progress=tell("a later load")) for one in later]
    tell("what if" if what_if else "headroom")
    aside = asides(found.best, what_if=what_if, pool=pool)
    return PlanAnswer(scenario, (*asked.assumed, *assumed), found, aside, tuple(grown))


def plan_json(plan: Plan) -> dict[str, Any]:
    """Options by rank, and what is none."""
    return {
        "options": [option_json(one) for one in plan.options],
        "excluded": [asdict(one) for one in plan.excluded],
    }  # fmt: skip


def option_json(option: Option) -> dict[str, Any]:
    """A deployment, what its runs say and what it costs."""
    candidate, smaller = option.candidate, option.size.smaller
    return {
        "gpus": option.gpus, "gpu": candidate.kind.gpu, "drafter": candidate.drafter,
        "draft_tokens": candidate.draft_tokens,
        "deployment": option.size.deployment.model_dump(mode="json", exclude_none=True),
        "usd_per_hour": option.usd_per_hour, "usd_per_month": option.usd_per_month,
        "usd_per_million_output_tokens": option.usd_per_million_output_tokens,
        "verdict": verdict_json(option.size.verdict), "smaller": None if smaller is None else verdict_json(smaller),
    }  # fmt: skip


def verdict_json(verdict: FleetVerdict) -> dict[str, Any]:
    """Each bound: its mean over runs, and what 95 % of further runs stay within."""
    return {
        "met": verdict.met, "saturated": verdict.saturated, "runs": verdict.runs, "requests": verdict.requests,
        "levels": [asdict(level) for level in verdict.levels], "mean_batch": verdict.summary["mean_batch"],
        "acceptance_length": verdict.summary["spec_decode_acceptance_length"],
    }  # fmt: skip


def largest_json(largest: LargestRate) -> dict[str, Any]:
    """The rate, and what ends it."""
    return {
        "rate_per_s": largest.rate_per_s, "verdict": verdict_json(largest.verdict),
        "beyond": None if largest.beyond is None else verdict_json(largest.beyond),
    }  # fmt: skip
