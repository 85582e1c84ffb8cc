"""Policies as a scenario's YAML has them: read back, and refused in one line where the rest does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from specsim.errors import InvalidInput
from specsim.scenario import Scenario, Speculation
from specsim.speculation.policy import (
    ConfidencePolicy,
    Policy,
    ProfiledPolicy,
    ThroughputPolicy,
    TieredPolicy,
    VerifyBudgetPolicy,
)

CONFIDENCE = {"kind": "confidence", "levels": [{"confidence": 0.9, "weight": 1}, {"confidence": 0.3, "weight": 1}]}
TREE = {"kind": "recall", "table": {"recall": [[0.6, 0.2], [0.5, 0.2], [0.5, 0.2], [0.5, 0.2]]}, "tree": "optimal"}
RATE = {"kind": "constant", "rate": 0.7}

POLICIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "fixed", "k": 3}, RATE),
    ({"kind": "off_above", "k": 3, "max_batch": 8}, RATE),
    ({"kind": "table", "ranges": [[1, 8, 4], [9, 64, 0]]}, RATE),
    ({"kind": "profiled", "contexts": [1000, 8000], "hold_steps": 4, "stay_captured": True}, TREE),
    ({"kind": "throughput", "explore": 0.1, "margin": 0.05, "acceptance": RATE, "choices": [1, 4]}, RATE),
    ({"kind": "tiers", "tiers": [{"first_batch": 1, "choices": [1, 3]}, {"first_batch": 32, "choices": [0]}]}, RATE),
    ({"kind": "plus_minus", "initial": 2}, RATE),
    ({"kind": "confidence", "threshold": 0.6, "adapt": {}}, CONFIDENCE),
    ({"kind": "verify_budget", "k": 4}, CONFIDENCE),
]


def speculation(policy: dict[str, Any], acceptance: dict[str, Any], longest: int = 4) -> Speculation:
    fields = {"program": "ngram", "max_draft_tokens": longest, "acceptance": acceptance, "policy": policy}
    return Speculation.model_validate(fields)


@pytest.mark.parametrize(("policy", "acceptance"), POLICIES, ids=lambda data: str(data.get("kind")))
def test_every_kind_is_read_and_written_back(policy: dict[str, Any], acceptance: dict[str, Any]) -> None:
    read = speculation(policy, acceptance).policy
    assert read.kind == policy["kind"]
    assert TypeAdapter(Policy).validate_python(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("policy", "acceptance", "line"),
    [
        ({"kind": "confidence", "threshold": 0.6}, RATE, "acceptance 'constant' has none; give"),
        ({"kind": "verify_budget", "k": 4}, RATE, "acceptance 'constant' has none; give"),
        ({"kind": "throughput"}, TREE, "k counts a tree's nodes; take kind profiled"),
        ({"kind": "plus_minus"}, TREE, "k counts a tree's nodes; take kind profiled"),
        ({"kind": "tiers", "tiers": [{"first_batch": 1, "choices": [1]}]}, TREE, "take kind profiled"),
        ({"kind": "fixed", "k": 7}, RATE, "drafts up to 7 tokens and max_draft_tokens is 4; raise it"),
        ({"kind": "throughput", "choices": [9]}, RATE, "drafts up to 9 tokens and max_draft_tokens is 4; raise it"),
        ({"kind": "verify_budget", "k": 4, "choices": [2]}, CONFIDENCE, "k is 4 and the choices are"),
        ({"kind": "profiled", "contexts": []}, RATE, "contexts is empty"),
        ({"kind": "confidence", "threshold": 1.6}, CONFIDENCE, "less than or equal to 1"),
        ({"kind": "throughput", "epsilon": 0.1}, RATE, "Extra inputs are not permitted"),
        ({"kind": "greedy"}, RATE, "does not match any of the expected tags"),
    ],
)
def test_what_does_not_fit_is_refused(policy: dict[str, Any], acceptance: dict[str, Any], line: str) -> None:
    with pytest.raises((InvalidInput, ValidationError), match=line):
        speculation(policy, acceptance)


def test_which_policies_draft_all_sequences_alike(machine: Any, setting: Any) -> None:
    """Only those may skip ``lengths``; a table is for batch size alone."""
    made = setting(machine)
    tiers = TieredPolicy.model_validate({"tiers": [{"first_batch": 1, "choices": [1, 3]}]})
    uniform = [ProfiledPolicy(), ThroughputPolicy(), tiers]
    single = [ConfidencePolicy(threshold=0.5), VerifyBudgetPolicy(k=2)]
    assert [p.start(made).uniform for p in (*uniform, *single)] == [True, True, True, False, False]
    assert [p.start(made).table() is None for p in (*uniform, *single)] == [False, True, True, True, True]


def test_a_class_with_an_acceptance_of_its_own_must_fit_too() -> None:
    """Chat has confidences, code has not: told when the scenario is read, not in the middle of a run."""
    lengths = {"kind": "fixed", "prompt_tokens": 64, "output_tokens": 16}
    scenario = {
        "schema": 1,
        "name": "classes",
        "model": "llama-3.1-8b",
        "gpu": "h200",
        "speculation": {
            "program": "ngram",
            "max_draft_tokens": 4,
            "acceptance": CONFIDENCE,
            "policy": {"kind": "confidence", "threshold": 0.5},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "poisson", "rate_per_s": 2.0},
            "requests": 4,
            "classes": [
                {"name": "chat", "lengths": lengths},
                {"name": "code", "lengths": lengths, "acceptance": RATE},
            ],
        },
    }
    with pytest.raises(InvalidInput, match="acceptance 'constant' has none; give"):
        Scenario.model_validate(scenario)
    scenario["workload"]["classes"][1]["acceptance"] = CONFIDENCE  # type: ignore[index]
    Scenario.model_validate(scenario)
