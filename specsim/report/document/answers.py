"""What a report is made of, each part answered by the package that answers it for another verb.

The parts do not look at each other, so that processes can share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from specsim.assembly import assemble
from specsim.errors import NoAnswer, SpecsimError
from specsim.interop.engine_config import RealEngineKind
from specsim.planning.compare import Comparison, compare, usual_drafters, with_each
from specsim.planning.decide import Decision, decide
from specsim.planning.engine_text import ScheduleRule, engine_named, rule_of
from specsim.planning.load_curve import Deployed, LoadPoint, Otherwise, load_curve, otherwise
from specsim.planning.longer import with_policy
from specsim.planning.pareto import replica_offers
from specsim.planning.plan.answer import PlanAnswer, plan_answer
from specsim.planning.plan.growth import Growth
from specsim.planning.plan.named import Named
from specsim.planning.sweep.frontier import Offer
from specsim.planning.tune import tune
from specsim.progress import ShareProgress
from specsim.results import Slo
from specsim.scenario import Asked, Scenario, ShortOptions, Speculation, ask
from specsim.serving.uncertainty import FEWEST_RUNS, PredictedInterval, predicted_metrics
from specsim.speculation.policy import FixedPolicy

OFF, ON = "off", "on"
COMPARED = 5  # drafters that are simulated
UNSURE = ("p95_ttft_ms", "p95_tpot_ms", "mean_e2el_ms", "output_throughput")

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class PartAnswer(Generic[_Part]):
    """A part's answer; None: ``why`` there is none."""

    answer: _Part | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """The question's own deployment under load, off and with what is best: by alternative one run under one seed.

    ``decision`` None: there is no drafter. ``unsure``: intervals of the best, of prices, acceptance and the front end.
    """

    decision: Decision | None
    scenarios: Mapping[str, Scenario]
    runs: Mapping[str, Mapping[str, Any]]
    curve: tuple[LoadPoint, ...]
    otherwise: tuple[Otherwise, ...]
    unsure: Mapping[str, PredictedInterval]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    served: PartAnswer[ServedAnswer]
    plan: PartAnswer[PlanAnswer]
    comparison: PartAnswer[Comparison]
    offers: PartAnswer[list[Offer]]


def answers(
    asked: Asked,
    named: Named,
    growth: Growth | None = None,
    *,
    pool: Executor | None = None,
    progress: ShareProgress | None = None,
) -> Answers:
    """Every part. ``named``: what a plan may choose, ``growth``: of its load. ``pool``: of processes."""
    tell = progress or (lambda _, share: None)
    parts: dict[str, tuple[float, Callable[..., Any], tuple[Any, ...]]] = {  # usual share of the time, what is asked
        "served and planned": (0.6, _served_and_planned, (asked, named, growth)),
        "comparison": (0.3, _told, (_compared, asked)),
        "offers": (0.1, _told, (replica_offers, asked.scenario)),
    }
    found: dict[str, Any] = {}
    for name, answer in _each(parts, pool):
        found[name] = answer
        tell(name, sum(parts[done][0] for done in found))
    served, plan = found["served and planned"]
    return Answers(served, plan, found["comparison"], found["offers"])


def _each(
    parts: Mapping[str, tuple[float, Callable[..., Any], tuple[Any, ...]]], pool: Executor | None
) -> Iterator[tuple[str, Any]]:
    """Names and answers as they come."""
    if pool is None:
        for name, (_, ask_for, about) in parts.items():
            yield name, ask_for(*about)
        return
    futures = {pool.submit(ask_for, *about): name for name, (_, ask_for, about) in parts.items()}
    for future in as_completed(futures):
        yield futures[future], future.result()


def _told(ask_for: Callable[..., _Part], *about: Any) -> PartAnswer[_Part]:
    try:
        return PartAnswer(ask_for(*about))
    except SpecsimError as error:
        return PartAnswer(why=str(error))


def _served_and_planned(
    asked: Asked, named: Named, growth: Growth | None
) -> tuple[PartAnswer[ServedAnswer], PartAnswer[PlanAnswer]]:
    """The plan drafts as was found to be best under the load."""
    served = _told(_served, asked.scenario)
    if served.answer is None or ON not in served.answer.scenarios:
        return served, _told(lambda: plan_answer(asked, named, growth=growth))
    best = served.answer.scenarios[ON]
    policy = speculation_of(best).policy
    lengths = (policy.longest,) if isinstance(policy, FixedPolicy) else ()
    drafting, chosen = replace(asked, scenario=best), replace(named, draft_tokens=lengths)
    return served, _told(lambda: plan_answer(drafting, chosen, growth=growth))


def _served(scenario: Scenario) -> ServedAnswer:
    plain = scenario.without_speculation()
    if scenario.speculation is None or not scenario.speculation.max_draft_tokens:
        return _under_load(None, {OFF: plain}, "")
    engine, rule, note = _engine(scenario)
    question = scenario if engine is None else scenario.run_by(engine)
    decision = decide(question, engine, tune(assemble(question), rule=rule))
    confirmation = decision.confirmation
    assert confirmation is not None
    best = confirmation.best_fixed() if confirmation.off else confirmation.chosen
    on = with_policy(question, best.policy)
    return _under_load(decision, {OFF: question.without_speculation(), ON: on}, note)


def _engine(scenario: Scenario) -> tuple[RealEngineKind | None, ScheduleRule, str]:
    """Whose text it is, which schedules that one can follow, and why there is none."""
    engine = engine_named(scenario.engine.kind) or "vllm"
    try:
        return engine, rule_of(engine, scenario.run_by(engine)), ""
    except NoAnswer as error:
        return None, "any", str(error)


def _under_load(decision: Decision | None, scenarios: Mapping[str, Scenario], note: str) -> ServedAnswer:
    deployed = {name: Deployed.of(one) for name, one in scenarios.items()}
    curve, other = load_curve(deployed), otherwise(deployed)
    best = list(scenarios.values())[-1]
    unsure = predicted_metrics(assemble(best), UNSURE, runs=FEWEST_RUNS, vary_acceptance=True)
    return ServedAnswer(decision, scenarios, other[0].runs, curve, other, unsure, note)


def _compared(asked: Asked) -> Comparison:
    """The question's own drafter and those that engines serve with such a model."""
    scenario, fields = asked.scenario, asked.fields
    own = scenario.speculation
    scenarios: dict[str, Scenario] = {} if own is None else {own.drafter_name(): scenario}
    names, left_out = usual_drafters(scenario.model)
    others = [one for one in names if own is None or own.program.name != one or own.program.needs_draft_model]
    asked_with = with_each(
        others, lambda name: ask(None, ShortOptions(drafter=name), start=deepcopy(fields)).scenario, left_out
    )
    for other in asked_with.values():
        scenarios.setdefault(speculation_of(other).drafter_name(), other)
    return compare(scenarios, left_out=left_out, simulated=COMPARED)


def speculation_of(scenario: Scenario) -> Speculation:
    """Of a scenario that has some."""
    assert scenario.speculation is not None
    return scenario.speculation


def bounded(slo: Slo | None) -> Slo | None:
    """The SLO, if it bounds anything."""
    return slo if slo is not None and slo.states_anything else None
