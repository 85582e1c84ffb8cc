"""Policies in the simulator: the table beside every fixed length, steady and under traffic that changes."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.assembly import assemble
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.speculation.acceptance import ConfidenceAcceptance

LENGTHS = (0, 1, 2, 4, 6)
RATE = {"kind": "constant", "rate": 0.7}


def serve(
    policy: dict[str, Any],
    arrivals: dict[str, Any],
    requests: int,
    acceptance: Any = RATE,
    *,
    prompt: int = 128,
    output: int = 64,
) -> Any:
    scenario = Scenario.model_validate(
        {
            "schema": 1,
            "name": "adaptive",
            "model": "llama-3.1-8b",
            "gpu": "h200",
            "cost": {"source": "roofline"},
            "engine": {"kind": "reference"},
            "speculation": {
                "program": "draft-model",
                "draft_model": "llama-3.2-1b",
                "max_draft_tokens": 6,
                "acceptance": acceptance,
                "policy": policy,
            },
            "workload": {
                "kind": "synthetic",
                "arrivals": arrivals,
                "requests": requests,
                "lengths": {"kind": "fixed", "prompt_tokens": prompt, "output_tokens": output},
            },
        }
    )
    result = simulate(assemble(scenario))
    assert result.summary(None)["completed"] == requests
    return result


def fixed(k: int) -> dict[str, Any]:
    return {"kind": "fixed", "k": k}


@pytest.mark.parametrize("batch", [1, 32, 192])
def test_the_table_is_as_good_as_every_fixed_length_at_a_steady_batch(batch: int) -> None:
    """Within 1 %: the run begins with prompts and ends with ever fewer requests, which no steady round knows."""
    arrivals = {"kind": "closed_loop", "concurrency": batch}

    def duration_s(policy: dict[str, Any]) -> float:
        return float(serve(policy, arrivals, 2 * batch, prompt=32, output=200).duration_s)

    durations = {k: duration_s(fixed(k)) for k in LENGTHS}
    assert duration_s({"kind": "profiled"}) <= min(durations.values()) * 1.01
    assert max(durations.values()) > min(durations.values()) * 1.1  # or the choice would not matter


def test_no_fixed_length_fits_traffic_that_comes_in_bursts() -> None:
    arrivals = {"kind": "piecewise", "pieces": [[10.0, 10.0], [1.0, 200.0]]}  # a dozen sequences, then two hundred

    def mean_latency_s(policy: dict[str, Any]) -> float:
        found = serve(policy, arrivals, 600).summary(None)["mean_e2el_ms"]
        return float(found)

    adaptive = mean_latency_s({"kind": "profiled"})
    best_fixed = min(mean_latency_s(fixed(k)) for k in LENGTHS)
    assert adaptive < best_fixed
    assert mean_latency_s({"kind": "throughput", "explore": 0.02, "margin": 0.02}) < best_fixed * 1.02


CONFIDENT = {
    "kind": "confidence",
    "levels": [
        {"confidence": 0.95, "weight": 6, "rate": 0.95},
        {"confidence": 0.6, "weight": 2, "rate": 0.6},
        {"confidence": 0.2, "weight": 2, "rate": 0.15},
    ],
    "persistence": 0.5,
}


def test_a_confidence_stop_drafts_less_and_is_right_more_often() -> None:
    """At threshold 0 it is the fixed policy; at 0.5 it proposes what its closed form says."""
    arrivals = {"kind": "closed_loop", "concurrency": 4}
    whole = serve(fixed(6), arrivals, 80, CONFIDENT)
    never = serve({"kind": "confidence", "threshold": 0.0}, arrivals, 80, CONFIDENT)
    assert never.acceptance.as_table() == whole.acceptance.as_table()
    assert never.duration_s == pytest.approx(whole.duration_s)
    stopping = serve({"kind": "confidence", "threshold": 0.5}, arrivals, 80, CONFIDENT).acceptance
    assert stopping.acceptance_rate() > whole.acceptance.acceptance_rate()
    law = ConfidenceAcceptance.model_validate(CONFIDENT)
    rounds = sum(sum(row.values()) for row in stopping.rounds.values())
    assert stopping.drafted() / rounds == pytest.approx(law.stopped(6, 0.5).drafted, rel=0.04)


def test_the_simulator_and_the_draws_alone_agree_on_each_request() -> None:
    """Plus-minus lengths depend on a request's own rounds only, so batch size changes no round of it."""
    alone = serve({"kind": "plus_minus"}, {"kind": "closed_loop", "concurrency": 1}, 24)
    together = serve({"kind": "plus_minus"}, {"kind": "closed_loop", "concurrency": 24}, 24)
    assert alone.acceptance.as_table() == together.acceptance.as_table()
    assert together.duration_s < alone.duration_s
