"""Which source prices a scenario: kernels, a real engine's steps, or the roofline."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.profiles.store import load_profile, profile_names
from specsim.scenario import Scenario, load_scenario

STEPS = next(name for name in profile_names() if load_profile(name).rows["steps"])
VLLM = (
    f"gpu={STEPS}",
    f"cost.profile={STEPS}",
    "cost.source=steps",
    "speculation.program=ngram",
    "speculation.draft_model=null",
)


def scenario(gpu: str, **fields: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "test",
            "model": "llama-3.1-8b",
            "gpu": gpu,
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
                "requests": 1,
                "lengths": {"kind": "fixed", "prompt_tokens": 100, "output_tokens": 10},
            },
        }
        | fields
    )


def test_steps_of_a_real_engine_price_its_own_model() -> None:
    """Every cell comes from the table, and a measured step comes back as measured within the table's own error."""
    asked = load_scenario("cpu-144m", VLLM)
    found = speedup_map(assemble(asked), batches=[1, 8, 32])
    assert found.price_name == STEPS
    assert {cell.source for cell in found.cells} <= {"measured", "interpolated"}
    rows = [row for row in load_profile(STEPS).rows["steps"] if row.operation == "total" and row.shape[3] == 0]
    cost = assemble(asked.without_speculation()).cost
    for row in rows:
        sequences, width, keys, _, prefill = row.shape
        if width == 1 and not prefill and row.kernel.endswith("/none"):
            step = cost.decode_round(int(sequences), 0, keys)
            assert step.seconds == pytest.approx(row.median_s, rel=0.25)
            assert step.bound in ("memory", "compute")


def test_steps_of_another_model_or_drafter_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"holds llama-144m, not steps of Llama-3.1-8B"):
        assert assemble(load_scenario("cpu-144m", (*VLLM, "model=llama-3.1-8b"))).cost
    with pytest.raises(InvalidInput, match=r"not llama-6m|holds drafters"):
        assert assemble(load_scenario("cpu-144m", VLLM[:3])).cost
    with pytest.raises(InvalidInput, match="no profile of RTX-4090 is known"):
        assert assemble(scenario("rtx-4090", cost={"source": "steps"})).cost


def test_hardware_without_a_profile_is_a_roofline_and_says_so() -> None:
    assert assemble(scenario("rtx-4090")).price_name == "roofline"
    assert assemble(scenario("rtx-4090")).cost.decode_round(1, 0, 100.0).source == "roofline"


@pytest.mark.parametrize("gpu", ["h200", "h100-sxm", "a100-80gb", "l40s", "b200"])
def test_profiled_gpus_are_priced_by_measurements(gpu: str) -> None:
    """GEMM and decode attention are measured; verification, of which no table has any, says extrapolated."""
    cost = assemble(scenario(gpu)).cost
    assert assemble(scenario(gpu)).price_name != "roofline"
    plain, verify = cost.decode_round(64, 0, 8000.0), cost.decode_round(64, 3, 8000.0)
    assert plain.parts["gemm"] > 0
    assert verify.seconds > plain.seconds
    assert verify.source in ("extrapolated", "roofline")
    assert assemble(scenario(gpu, cost={"source": "roofline"})).price_name == "roofline"


def test_a_profile_of_other_hardware_is_refused() -> None:
    with pytest.raises(InvalidInput, match="was measured on"):
        assert assemble(scenario("h200", cost={"profile": STEPS})).cost
