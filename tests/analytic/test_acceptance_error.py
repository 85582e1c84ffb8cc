"""What a speed-up's interval owes to acceptance."""

from __future__ import annotations

from typing import Any

import pytest

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.assembly import assemble
from specsim.scenario import Scenario
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90


def question(**speculation: Any) -> Scenario:
    fields: dict[str, Any] = {
        "schema": 1, "name": "made", "model": "llama-3.1-8b", "gpu": "h100-sxm", "cost": {"source": "roofline"},
        "speculation": {"program": "eagle3"} | speculation,
        "workload": {
            "kind": "synthetic", "arrivals": {"kind": "closed_loop", "concurrency": 4}, "requests": 10,
            "lengths": {"kind": "fixed", "prompt_tokens": 64, "output_tokens": 256},
        },
    }  # fmt: skip
    return Scenario.model_validate(fields)


def mapped(scenario: Scenario) -> SpeedupMap:
    return speedup_map(assemble(scenario), batches=[1, 64])


RATES = {"acceptance": {"kind": "unconditional", "rates": [0.7, 0.5, 0.4]}}


def with_basis(basis: str) -> SpeedupMap:
    return mapped(question(**RATES, acceptance_origin={"basis": basis, "source": "a test"}))


def half(cell: Cell) -> float:
    return (cell.high - cell.low) / 2


def test_the_less_is_known_of_acceptance_the_wider_the_interval() -> None:
    measured, cited, assumed = (with_basis(basis).cell(1, 3) for basis in ("measured", "cited", "assumed"))
    assert measured.speedup == cited.speedup == assumed.speedup
    assert half(measured) < half(cited) < half(assumed)
    assert with_basis("assumed").cell(1, 0).low == 1.0  # without drafts nothing is accepted


def test_both_errors_add_in_quadrature() -> None:
    """Cited: the accepted tokens are off by a fifth, what prices get wrong stays as it is."""
    scenario = question(**RATES)
    assert scenario.speculation is not None
    law, cells = scenario.speculation.acceptance, with_basis("cited")
    off = [
        mapped(question(acceptance=accepting_more(law, factor, 3))).cell(64, 3).speedup
        for factor in (2.718281828**-0.2, 2.718281828**0.2)
    ]
    priced = half(with_basis("measured").cell(64, 3))
    expected = (priced**2 + (Z90 * (off[1] - off[0]) / 2) ** 2) ** 0.5
    assert half(cells.cell(64, 3)) == pytest.approx(expected, rel=0.01)


def test_a_law_that_the_scenario_gives_is_its_own_and_the_programs_is_cited() -> None:
    given, fallen_back = mapped(question(**RATES)), mapped(question())
    assert (given.acceptance.basis, given.acceptance.source) == ("measured", "the scenario")
    assert fallen_back.acceptance.basis == "cited"
    assert "vLLM pull request 26498" in fallen_back.acceptance.sentence()
    assert fallen_back.as_json()["acceptance"]["basis"] == "cited"


def test_an_origin_is_another_scenario_of_the_same_hash() -> None:
    one, other = (question(**RATES, acceptance_origin={"basis": basis}) for basis in ("measured", "assumed"))
    assert one.sha256() == other.sha256()
