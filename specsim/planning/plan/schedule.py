"""Draft lengths by batch size as a choice of a plan."""

from __future__ import annotations

from specsim.assembly import Assembly
from specsim.errors import NoAnswer
from specsim.planning.engine_text import ScheduleRule, engine_named, rule_of
from specsim.planning.tune import tune
from specsim.scenario import Scenario
from specsim.speculation.policy import TablePolicy


def schedule_of(scenario: Scenario) -> TablePolicy | None:
    """What ``tune`` finds by formula, and the scenario's engine can follow; None: one k, or off, is as good."""
    policy = tune(Assembly(scenario), rule=_rule(scenario)).policy
    return policy if isinstance(policy, TablePolicy) else None


def _rule(scenario: Scenario) -> ScheduleRule:
    engine = engine_named(scenario.engine.kind)
    try:
        return "any" if engine is None else rule_of(engine, scenario)
    except NoAnswer:  # the engine has no such drafter: what it would do is asked all the same
        return "any"
