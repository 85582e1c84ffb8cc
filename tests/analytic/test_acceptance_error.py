"""What a speed-up's interval owes to acceptance."""

from __future__ import annotations

import math
from typing import Any

import pytest

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import Cell, SpeedupMap
from specsim.assembly import Assembly, assemble
from specsim.scenario import Scenario
from specsim.speculation.acceptance import AcceptanceLaw, GeometricRuns, HurdleAcceptance, UnconditionalAcceptance
from specsim.speculation.acceptance.lengths import accepting_more
from specsim.surfaces.estimates import Z90
from specsim.workload.arrivals import ClosedLoopArrivals


def question(**speculation: Any) -> Scenario:
    fields: dict[str, Any] = {
        "schema": 1,
        "name": "made",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "cost": {"source": "roofline"},
        "speculation": {"program": "eagle3"} | speculation,
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": 4},
            "requests": 10,
            "lengths": {"kind": "fixed", "prompt_tokens": 64, "output_tokens": 256},
        },
    }
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


@pytest.mark.parametrize("clients", [{"concurrency": 4}, {"concurrency": 4, "think_s": 1.0}])
@pytest.mark.parametrize(
    ("program", "law"),
    [
        ("eagle3", UnconditionalAcceptance(rates=(0.7, 0.5, 0.4))),
        ("ngram", HurdleAcceptance(hit_rate=0.3, runs=GeometricRuns(continue_rate=0.8))),
    ],
)
def test_both_errors_add_in_quadrature(program: str, law: AcceptanceLaw, clients: dict[str, float]) -> None:
    """Cited: the accepted tokens are off by a spread, what prices get wrong stays as it is.

    Maps of each law on its own say what the one map of all of them should.
    """
    arrivals = {"kind": "closed_loop", **clients}

    def drawn(law: AcceptanceLaw, basis: str) -> tuple[Cell, Assembly]:
        fields = {"program": program, "max_draft_tokens": 3, "acceptance": law, "acceptance_origin": {"basis": basis}}
        asked = question(**fields)
        workload = asked.workload.model_copy(update={"arrivals": ClosedLoopArrivals.model_validate(arrivals)})
        assembly = assemble(asked.model_copy(update={"workload": workload}))
        return speedup_map(assembly, batches=[1, 4, 64]).cell(64, 3), assembly

    cell, assembly = drawn(law, "cited")
    assert assembly.speculation is not None
    spread = assembly.speculation.acceptance_spread
    less, more = (drawn(accepting_more(law, math.exp(off), 3), "cited")[0].speedup for off in (-spread, spread))
    alone = speedup_map(assembly, batches=[64], acceptance_error=False).cell(64, 3)
    assert alone.speedup == pytest.approx(cell.speedup, rel=1e-9)
    off = Z90 * math.log(more / less) / 2
    assert off > 0
    factors = {name: getattr(alone, name) / cell.speedup for name in ("low", "high")}
    assert cell.low == pytest.approx(cell.speedup * math.exp(-math.hypot(math.log(factors["low"]), off)), rel=1e-9)
    assert cell.high == pytest.approx(cell.speedup * math.exp(math.hypot(math.log(factors["high"]), off)), rel=1e-9)


def test_a_law_that_the_scenario_gives_is_its_own_and_the_programs_is_cited() -> None:
    given, fallen_back = mapped(question(**RATES)), mapped(question())
    assert (given.acceptance.basis, given.acceptance.source) == ("measured", "the scenario")
    assert fallen_back.acceptance.basis == "cited"
    assert "vLLM pull request 26498" in fallen_back.acceptance.sentence()
    assert fallen_back.as_json()["acceptance"]["basis"] == "cited"


def test_an_origin_is_another_scenario_of_the_same_hash() -> None:
    one, other = (question(**RATES, acceptance_origin={"basis": basis}) for basis in ("measured", "assumed"))
    assert one.sha256() == other.sha256()


def test_few_requests_leave_their_luck_open() -> None:
    """A request's own spread over the root of how many there are, in quadrature with how far the law itself is off."""
    runs = [[3, 2, 1, 0, 0, 1, 0, 2], [0, 0, 1, 0, 0, 0, 0, 0], [1, 0, 2, 1, 0, 3, 2, 1]] * 20
    scenario = question(acceptance={"kind": "trace", "cap": 3, "runs": runs}, max_draft_tokens=3)
    assembly = assemble(scenario)
    assert scenario.speculation is not None
    speculation = scenario.speculation

    def off(requests: int | None) -> float:
        """Log of the upper bound over the speed-up, less what prices leave open."""
        sample = None if requests is None else lambda batch: requests
        cell = speedup_map(assembly, batches=[8], sample=sample).cell(8, 3)
        alone = speedup_map(assembly, batches=[8], acceptance_error=False).cell(8, 3)
        return math.sqrt(math.log(cell.high / cell.speedup) ** 2 - math.log(alone.high / alone.speedup) ** 2)

    spread, one = speculation.acceptance_spread, speculation.acceptance.request_spread(3)
    assert spread == pytest.approx(math.hypot(0.02, one / math.sqrt(60)))
    for requests in (1, 16, 10_000):
        expected = math.hypot(1.0, one / math.sqrt(requests) / spread)
        assert off(requests) / off(None) == pytest.approx(expected, rel=1e-6)
