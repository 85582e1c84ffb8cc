"""Rounds under a confidence stop, against drawn ones and against the cases without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from specsim.analytic.rounds import speedup_map
from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.scenario import load_scenario
from specsim.speculation.acceptance import ConfidenceAcceptance
from specsim.speculation.policy import ConfidencePolicy
from specsim.speculation.stopping import stopped_round

LAW = ConfidenceAcceptance.model_validate(
    {"kind": "confidence", "levels": [{"confidence": 0.9, "weight": 0.6}, {"confidence": 0.3, "weight": 0.4}]}
)
PASS_S, TOKEN_S = 3.0, 0.25


class LinearCost:
    """Seconds by draft passes and verified tokens alone, so that a round's mean can be drawn."""

    def step(
        self, groups: Sequence[Group], *, drafting: object, draft_tokens: int, drafting_kv_tokens: object
    ) -> StepTime:
        seconds = np.asarray(PASS_S * draft_tokens + TOKEN_S * sum((group.tokens for group in groups), 0.0))
        return StepTime(seconds, {"draft": seconds}, "roofline", seconds, seconds)


def verified(sizes: Sequence[float], drafted: float) -> tuple[list[Group], Floats]:
    """A step's groups, and who drafts after it."""
    batch = np.array(sizes, dtype=np.float64)
    return [Group(batch, 1.0 + drafted, 100.0 + drafted, 1.0 + drafted)], batch


@pytest.mark.parametrize("keep_last", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 20])
def test_the_mean_of_drawn_rounds(batch: int, keep_last: bool) -> None:
    k, rounds = 5, 40_000
    sure = np.cumprod(np.random.default_rng(batch).random((rounds, batch, k)) < 0.6, axis=2).sum(axis=2)
    computed = np.minimum(sure + 1, k)
    proposed = computed if keep_last else sure
    drawn = (PASS_S * computed.max(axis=1) + TOKEN_S * (proposed + 1).sum(axis=1)).mean()
    stopped = LAW.stopped(k, 0.5, keep_last=keep_last)
    found = stopped_round(LinearCost(), *verified([batch], stopped.drafted), 100.0, stopped)  # type: ignore[arg-type]
    assert float(np.asarray(found.seconds)[0]) == pytest.approx(drawn, rel=0.01)


def test_a_foreseen_stop_wastes_no_pass() -> None:
    wasted, foreseen = (LAW.stopped(4, 0.5, foreseen=known) for known in (False, True))
    assert foreseen.passes == pytest.approx(foreseen.drafted)
    assert wasted.passes > foreseen.passes
    assert wasted.tokens == foreseen.tokens


def test_a_stop_that_never_stops_costs_the_whole_draft() -> None:
    scenario = load_scenario("cpu-144m")
    cost = assemble(scenario).cost
    sizes = np.array([1.0, 4.0, 16.0])
    for k in (1, 3):
        stopped = stopped_round(cost, [Group(sizes, k + 1.0, 192.0 + k, k + 1.0)], sizes, 192.0, LAW.stopped(k, 0.0))
        assert np.allclose(stopped.seconds, cost.decode_round(sizes, k, 192.0).seconds, rtol=1e-12)


def test_the_batch_pays_for_its_surest_sequence() -> None:
    sizes = np.array([1.0, 2.0, 8.0, 64.0])
    stopped = LAW.stopped(8, 0.5)
    found = stopped_round(LinearCost(), *verified(sizes, 0.0), 100.0, stopped)  # type: ignore[arg-type]
    passes = (np.asarray(found.seconds) - TOKEN_S * sizes) / PASS_S
    assert passes[0] == pytest.approx(stopped.passes)
    assert np.all(np.diff(passes) > 0)
    assert np.all(passes <= 8)


def test_a_preset_with_a_stop_rule_stops_by_it() -> None:
    settings = ["speculation={program: swift}", "model=llama-3.1-8b", "gpu=h200", "cost={source: roofline}"]
    scenario = load_scenario("cpu-144m", settings)
    assert scenario.speculation is not None
    policy = scenario.speculation.policy
    assert isinstance(policy, ConfidencePolicy)
    assert policy.threshold == 0.8
    cell = speedup_map(assemble(scenario), batches=[1]).cell(1, 25)
    law = scenario.speculation.acceptance
    assert isinstance(law, ConfidenceAcceptance)
    assert cell.tokens_per_round == pytest.approx(law.stopped(25, 0.8).tokens)
    assert cell.tokens_per_round < law.expected_tokens(25)
