"""A plan with all that was asked about it, as one JSON document."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from specsim.planning.plan.choose import Option, Plan
from specsim.planning.plan.fleet import FleetVerdict
from specsim.planning.plan.sensitivity import Asides
from specsim.planning.plan.size import LargestRate
from specsim.scenario import Scenario


@dataclass(frozen=True)
class PlanAnswer:
    """``grown``: plans of later loads."""

    scenario: Scenario
    assumed: tuple[str, ...]
    plan: Plan
    asides: Asides
    grown: tuple[Plan, ...]

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
