"""Scenarios with other drafts than they name: longer ones that are worth trying, one length, a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.speculation.policy import FixedPolicy, TablePolicy

LONGEST = 7  # drafts of a chain that are tried: the longest that engines' own guides offer (SGLang's 1, 3, 7)


def trying_longer(scenario: Scenario, longest: int = LONGEST) -> Scenario:
    """The scenario with the longest drafts worth trying: up to ``longest`` where its acceptance law reaches so far.

    A tree keeps its size, and a program that drafts more by default keeps that. Without a drafter it stays as it is.
    """
    speculation = scenario.speculation
    if speculation is None or not speculation.program.drafts or speculation.program.proposal.tree:
        return scenario
    law, least = speculation.acceptance, speculation.max_draft_tokens
    reached = least
    for k in range(least + 1, longest + 1):
        try:
            law.conditional_rates(k)
        except InvalidInput:
            break
        if k in speculation.program.choices(k):
            reached = k
    return drafting(scenario, reached)


def longest_worth_trying(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    """The scenario with longer drafts than its drafter's own where its ``fields`` do not say how long they may be."""
    stated = fields.get("speculation")
    if isinstance(stated, dict) and "max_draft_tokens" not in stated:
        return trying_longer(scenario)
    return scenario


def drafting(scenario: Scenario, draft_tokens: int) -> Scenario:
    """The scenario with so many drafts in every round; 0: with no drafter loaded."""
    if scenario.speculation is None or not draft_tokens:
        return scenario.without_speculation()
    fields = {"max_draft_tokens": draft_tokens, "policy": FixedPolicy(k=draft_tokens)}
    changed: Scenario = scenario.model_copy(update={"speculation": scenario.speculation.model_copy(update=fields)})
    return changed


def with_policy(scenario: Scenario, policy: FixedPolicy | TablePolicy) -> Scenario:
    """An engine started for the policy: its longest draft is the longest that it may draft."""
    started = drafting(scenario, policy.longest)
    if started.speculation is None or isinstance(policy, FixedPolicy):
        return started
    changed: Scenario = started.model_copy(
        update={"speculation": started.speculation.model_copy(update={"policy": policy})}
    )
    return changed
