"""Schedules against brute force, and within what each engine can follow."""

from __future__ import annotations

from itertools import groupby, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.engine_text import ScheduleRule, engine_text, rule_of
from specsim.planning.tune import Tuning, fewest_ranges, tune, weights
from specsim.scenario import CostChoice, Scenario
from specsim.specs.catalog import load_model
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.speculation.policy import FixedPolicy, TablePolicy

VALUES = st.tuples(st.integers(1, 5), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(0.5, 2.0))
)


def scenario(acceptance: Any = 0.7, program: str = "draft-model", **speculation: Any) -> Scenario:
    law = acceptance if isinstance(acceptance, dict) else {"kind": "constant", "rate": acceptance}
    fields = {"program": program, "max_draft_tokens": 5, "acceptance": law}
    draft = {"draft_model": "llama-3.2-1b"} if program == "draft-model" else {}
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": "tuned",
            "model": "llama-3.1-8b",
            "gpu": "h200",
            "engine": {"max_num_seqs": 128},
            "speculation": fields | draft | speculation,
            "cost": {"source": "roofline"},
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
                "requests": 10,
                "lengths": {"kind": "fixed", "prompt_tokens": 512, "output_tokens": 128},
            },
        }
    )


RULES: tuple[ScheduleRule, ScheduleRule] = ("any", "longest_first")


@settings(max_examples=100)
@given(values=VALUES, tolerance=st.sampled_from([0.0, 0.05, 0.3]))
def test_no_schedule_within_the_tolerance_has_fewer_ranges(values: Any, tolerance: float) -> None:
    chosen = fewest_ranges(values, tolerance)
    rows = range(len(values))
    fits = values >= values.max(axis=1, keepdims=True) * (1 - tolerance) * (1 - 1e-9)
    assert all(fits[row, chosen[row]] for row in rows)
    possible = [c for c in product(range(values.shape[1]), repeat=len(values)) if all(fits[r, c[r]] for r in rows)]
    assert len(list(groupby(chosen))) == min(len(list(groupby(option))) for option in possible)


def test_weights_are_alike_for_each_doubling() -> None:
    share = weights(range(1, 64))
    assert share.sum() == pytest.approx(1.0)
    assert share[1:3].sum() == pytest.approx(share[3:7].sum()) == pytest.approx(share[31:63].sum())


def test_without_tolerance_it_is_the_best_at_every_batch() -> None:
    question = scenario()
    found = tune(assemble(question), tolerance=0.0)
    assert [row.batch for row in found.batches] == list(range(1, 129))
    best = {b.batch: b for b in speedup_map(assemble(question), batches=range(1, 129)).best()}
    for row in found.batches:
        assert row.draft_tokens == row.best_draft_tokens == best[row.batch].draft_tokens
        assert row.speedup == pytest.approx(best[row.batch].speedup)
        assert row.speedup >= max(row.fixed_speedup, 1.0) * (1 - 1e-12)
        assert found.policy.draft_tokens(row.batch) == row.draft_tokens
    assert found.gain_over_fixed() >= 1.0
    mean, low, high = found.gain_over_off()
    assert low < mean < high


def test_a_tolerance_costs_no_more_than_it_says() -> None:
    """On measured kernels, whose steps at captured sizes make the best k go back and forth."""
    question = scenario().model_copy(update={"cost": CostChoice()})
    exact, coarse = tune(assemble(question), tolerance=0.0), tune(assemble(question), tolerance=0.05)
    assert all(row.speedup >= row.best_speedup * 0.95 * (1 - 1e-9) for row in coarse.batches)
    assert all(row.speedup >= 1.0 for row in coarse.batches)
    assert len(coarse.ranges()) < len(exact.ranges())


def test_no_tolerance_makes_a_drafter_lose_to_none() -> None:
    """At half the rate speculation stops paying somewhere; a wide tolerance may not carry it beyond."""
    found = tune(assemble(scenario(0.4)), tolerance=0.3)
    exact = tune(assemble(scenario(0.4)), tolerance=0.0)
    assert exact.policy.draft_tokens(1) > 0 == exact.policy.draft_tokens(128)
    assert all(row.speedup >= 1.0 for row in found.batches)


def test_longest_first_starts_with_its_longest_draft() -> None:
    """As TensorRT-LLM asks. Measured kernels make a longer draft best at a larger batch here, which it cannot say."""
    law = {"kind": "hurdle", "hit_rate": 0.3, "runs": {"kind": "geometric", "continue_rate": 0.8}}
    question = scenario(law, "ngram", max_draft_tokens=6)
    question = question.model_copy(update={"cost": CostChoice(), "stated_engine": EngineLimits(max_num_seqs=256)})
    rows = tune(assemble(question), batches=range(1, 256, 8), tolerance=0.0).batches
    pairs = product(rows, rows)
    low, high = next(
        (a.batch, b.batch) for a, b in pairs if a.batch < b.batch and a.best_draft_tokens < b.best_draft_tokens
    )
    free, found = (tune(assemble(question), batches=[low, high], tolerance=0.0, rule=rule) for rule in RULES)
    assert free.policy.draft_tokens(1) < free.policy.longest
    assert found.policy.draft_tokens(1) == found.policy.longest > 0
    assert _mean(found) < _mean(free)
    grid, share = speedup_map(assemble(question), batches=[low, high]), weights([low, high])
    value = {
        (i, j): share @ np.log([grid.cell(low, i).speedup, grid.cell(high, j).speedup])
        for i in range(7)
        for j in range(i + 1)
    }
    assert tuple(row.draft_tokens for row in found.batches) == max(value, key=lambda pair: value[pair])


def _mean(found: Tuning) -> float:
    return float(weights([row.batch for row in found.batches]) @ np.log([row.speedup for row in found.batches]))


def test_one_length_is_the_best_of_all_single_ones() -> None:
    found = tune(assemble(scenario()), rule="one")
    assert len({row.draft_tokens for row in found.batches}) == 1
    assert found.policy.longest == found.fixed_draft_tokens
    grid = speedup_map(assemble(scenario()), batches=range(1, 129))
    share = weights(range(1, 129))
    means = [share @ np.log([grid.cell(b, k).speedup for b in range(1, 129)]) for k in range(6)]
    assert found.fixed_draft_tokens == int(np.argmax(means))


def test_sure_takes_only_what_is_almost_certain_to_pay() -> None:
    sure = tune(assemble(scenario(0.5)), prefer="sure", tolerance=0.0)
    grid = speedup_map(assemble(scenario(0.5)), batches=range(1, 129))
    for row in sure.batches:
        lows = [1.0] + [grid.cell(row.batch, k).low for k in range(1, 6)]
        assert lows[row.draft_tokens] == pytest.approx(max(lows))
    bold = tune(assemble(scenario(0.5)), tolerance=0.0)
    assert any(row.draft_tokens > sure.policy.draft_tokens(row.batch) == 0 for row in bold.batches)


def test_a_schedule_ends_at_the_most_sequences_that_the_engine_runs() -> None:
    """Though fewer are priced: the table, the policy and the engine's own text say the same ranges."""
    question = scenario()
    found = tune(assemble(question), batches=[1, 16, 100], tolerance=0.0)
    assert isinstance(found.policy, TablePolicy)
    assert found.ranges()[-1][1] == question.engine.max_num_seqs == 128
    assert list(found.policy.ranges) == found.ranges()
    text = engine_text(question, found.policy, "vllm", "org/drafter").text
    assert str([list(one) for one in found.ranges()]) in text


def test_chosen_batches_are_inherited_by_those_between() -> None:
    found = tune(assemble(scenario()), batches=[1, 16, 128], tolerance=0.0)
    assert [row.batch for row in found.batches] == [1, 16, 128]
    ks = {row.batch: row.draft_tokens for row in found.batches}
    assert [found.policy.draft_tokens(b) for b in (1, 15, 16, 127, 128, 999)] == [
        ks[1],
        ks[1],
        ks[16],
        ks[16],
        ks[128],
        ks[128],
    ]


def test_a_hopeless_drafter_is_off_everywhere() -> None:
    found = tune(assemble(scenario(0.0)))
    assert not found.pays
    assert found.gain_over_off() == (1.0, 1.0, 1.0)
    with pytest.raises(NoAnswer, match="start vllm without --speculative-config"):
        engine_text(scenario(0.0), found.policy, "vllm")


def test_each_engine_has_its_rule() -> None:
    assert [rule_of(engine, scenario()) for engine in ("vllm", "sglang", "tensorrt-llm")] == [
        "any",
        "one",
        "longest_first",
    ]


def test_vllm_repeats_mtp_layers_only_as_a_whole() -> None:
    """``num_speculative_tokens`` above ``n_predict`` must be divisible by it (``vllm/config/speculative.py``)."""
    update = {"model": load_model("minimax-m2"), "deployment": Deployment(tensor_parallel=8)}
    question = scenario(0.8, program="mtp", max_draft_tokens=6).model_copy(update=update)
    assert question.model.mtp_layers == 3
    for k in (1, 2, 3, 6):
        assert f'"num_speculative_tokens": {k}' in engine_text(question, FixedPolicy(k=k), "vllm").text
    for k in (4, 5):
        with pytest.raises(NoAnswer, match="--draft-tokens 3"):
            engine_text(question, FixedPolicy(k=k), "vllm")


def test_malformed_questions_are_one_line() -> None:
    with pytest.raises(InvalidInput, match="give a share of throughput"):
        tune(assemble(scenario()), tolerance=1.0)
    with pytest.raises(InvalidInput, match="nothing to tune"):
        tune(assemble(scenario().without_speculation()))


def test_the_document_holds_only_plain_values() -> None:
    document = tune(assemble(scenario()), batches=[1, 8]).as_json()
    assert document["batches"][0].keys() >= {"batch", "draft_tokens", "speedup", "low", "high"}
    assert all(type(value) in (int, float) for row in document["batches"] for value in row.values())
    assert isinstance(Tuning.ranges(tune(assemble(scenario()), batches=[1, 8])), list)
