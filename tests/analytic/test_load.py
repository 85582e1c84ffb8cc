"""The batch that a load leads to: limits that are known in closed form, and the simulator's mean running requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from specsim.analytic.load import answered_map, load_batch, mean_running
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate


def scenario(arrivals: dict[str, Any], **changes: Any) -> Scenario:
    fields: dict[str, Any] = {
        "name": "loaded",
        "model": "llama-3.1-8b",
        "gpu": "h200",
        "speculation": {
            "program": "eagle3",
            "max_draft_tokens": 3,
            "acceptance": {"kind": "constant", "rate": 0.7},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": arrivals,
            "requests": 1500,
            "lengths": {
                "kind": "lognormal",
                "prompt_mean": 512,
                "prompt_cv": 0.5,
                "output_mean": 256,
                "output_cv": 0.5,
            },
        },
    }
    return Scenario.model_validate(fields | changes)


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_one_server_of_constant_speed(load: float) -> None:
    """M/M/1: 1/(1 - ρ) in the system while it is busy."""
    speed = np.full(4000, 20.0)
    assert mean_running(20.0 * load, speed) == round(1 / (1 - load))


@pytest.mark.parametrize("load", [0.5, 3.0, 40.0])
def test_speed_that_grows_with_the_batch(load: float) -> None:
    """As many servers as requests: Poisson, here while there are any."""
    speed = np.arange(1.0, 400.0)
    assert mean_running(load, speed) == max(1, round(load / -np.expm1(-load)))


def test_a_closed_loop_runs_its_clients_as_far_as_they_fit() -> None:
    asked = assemble(scenario({"kind": "closed_loop", "concurrency": 24}))
    found, chosen = answered_map(asked, batches=[1, 32])
    assert chosen.batch == 24
    assert found.batches == [1, 24, 32]
    few = assemble(scenario({"kind": "closed_loop", "concurrency": 24}, engine={"max_num_seqs": 16}))
    assert load_batch(few).batch == 16
    assert "max_num_seqs is 16" in load_batch(few).why
    shared = assemble(scenario({"kind": "closed_loop", "concurrency": 24}, deployment={"replicas": 4}))
    assert load_batch(shared).batch == 6
    thinking = assemble(scenario({"kind": "closed_loop", "concurrency": 24, "think_s": 1000.0}))
    assert load_batch(thinking).batch == 1


def test_a_given_batch_is_the_one_that_is_answered() -> None:
    asked = assemble(scenario({"kind": "closed_loop", "concurrency": 4}, engine={"max_num_seqs": 256}))
    found, chosen = answered_map(asked, batch=24)
    assert chosen.batch == 24
    assert found.cell(24, 3).batch == 24
    with pytest.raises(InvalidInput, match="the engine runs 1 to max_num_seqs, 256"):
        answered_map(asked, batch=257)


def test_a_rate_beyond_all_speed_fills_the_batch() -> None:
    asked = assemble(scenario({"kind": "poisson", "rate_per_s": 1e4}, engine={"max_num_seqs": 48}))
    assert load_batch(asked).batch == 48
    assert "exceed" in load_batch(asked).why


@pytest.mark.parametrize("rate", [4.0, 20.0])
def test_the_batch_of_a_rate_is_what_the_simulator_runs(rate: float) -> None:
    """Time-weighted running requests while there are any. Arrivals of one run: 1,500 requests, a few per cent."""
    machine = assemble(scenario({"kind": "poisson", "rate_per_s": rate}))
    steps = simulate(machine, keep=True).steps
    seconds = np.array([step.duration_s for step in steps])
    running = float(seconds @ np.array([step.sequences for step in steps]) / seconds.sum())
    assert load_batch(machine).batch == pytest.approx(running, rel=0.15, abs=0.6)
