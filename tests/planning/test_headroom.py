"""The oracle's distance, on draws that leave nothing to choose and on draws that do."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.planning.headroom import headroom
from specsim.scenario import Scenario
from specsim.speculation.policy import FixedPolicy, PlusMinusPolicy, ProfiledPolicy, ThroughputPolicy


def scenario(acceptance: dict[str, Any], prompt: int = 512) -> Scenario:
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": "alone",
            "model": "llama-3.1-8b",
            "gpu": "h200",
            "cost": {"source": "roofline"},
            "speculation": {
                "program": "draft-model",
                "draft_model": "llama-3.2-1b",
                "max_draft_tokens": 5,
                "acceptance": acceptance,
            },
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
                "requests": 10,
                "lengths": {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": 193},
            },
        }
    )


@pytest.mark.parametrize("policy", [FixedPolicy(k=2), ProfiledPolicy(), PlusMinusPolicy(), ThroughputPolicy()])
def test_no_rule_is_beyond_the_oracle(policy: Any) -> None:
    found = headroom(assemble(scenario({"kind": "constant", "rate": 0.6})), policy)
    assert found is not None
    assert found.oracle > found.policy > 0.5


def test_where_all_drafts_are_right_the_longest_is_the_oracle() -> None:
    """192 tokens after the first are 32 rounds of 5 drafts and a bonus, behind a prompt whose keys cost time too."""
    question = scenario({"kind": "constant", "rate": 1.0}, prompt=100_000)
    found = headroom(assemble(question), FixedPolicy(k=5))
    assert found is not None
    assert found.policy == pytest.approx(found.oracle)
    cell = speedup_map(assemble(question), batches=[1], context_tokens=100_000 + 97).cell(1, 5)
    assert found.policy == pytest.approx(cell.speedup, rel=0.001)


def test_where_no_draft_is_right_the_oracle_never_drafts() -> None:
    found = headroom(assemble(scenario({"kind": "constant", "rate": 0.0})), FixedPolicy(k=5))
    assert found is not None
    assert found.oracle == pytest.approx(1.0)
    assert found.policy < 1.0


def test_a_fixed_length_alone_is_what_the_closed_form_says() -> None:
    """Over 64 requests, the speed-up at batch 1 and the mean KV length; the draws differ from the mean by chance."""
    question = scenario({"kind": "constant", "rate": 0.7})
    found = headroom(assemble(question), FixedPolicy(k=3), requests=64)
    assert found is not None
    cell = speedup_map(assemble(question), batches=[1], context_tokens=512 + 97).cell(1, 3)
    assert found.policy == pytest.approx(cell.speedup, rel=0.02)


def test_without_speculation_there_is_nothing_to_gain() -> None:
    with pytest.raises(InvalidInput, match="add a drafter"):
        headroom(assemble(scenario({"kind": "constant", "rate": 0.7}).without_speculation()), FixedPolicy(k=3))
