"""The Spec-Bench case: its arithmetic, its split, and that the page is what its command writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.speculation.policy import PlusMinusPolicy
from specsim.speculation.policy.protocol import Rounds, Setting

FOLDER = Path(__file__).parents[1] / "validation" / "studies" / "spec-bench"
sys.path.insert(0, str(FOLDER))

import spec_bench_corner as corner  # noqa: E402
import spec_bench_data as data  # noqa: E402
import spec_bench_page as page_module  # noqa: E402
import spec_bench_splits as splits  # noqa: E402
import spec_bench_study as study  # noqa: E402

sys.path.remove(str(FOLDER))


def test_draft_lengths_are_those_of_the_policy_itself() -> None:
    """100,000 rounds of the bundled rise and fall against the stationary law. Rounds depend on each other over a few
    dozen, so that a share of 0.2 has a standard error of about 0.004.
    """
    rate, generator = 0.65, np.random.default_rng(5)
    asked = study.scenario("SpS", "rtx-3090", "vicuna-7b")
    assert asked.speculation is not None
    setting = Setting(
        cost=assemble(asked).cost,
        acceptance=asked.speculation.acceptance,
        choices=tuple(range(study.LONGEST + 1)),
        max_num_seqs=1,
        context_tokens=512.0,
    )
    decider = PlusMinusPolicy(rise=study.RISE, fall=study.FALL).start(setting)
    sequence, count = np.zeros(1, dtype=np.int64), np.zeros(study.LONGEST)
    for _ in range(100_000):
        k = int(decider.lengths(sequence, study.LONGEST, None).lengths[0])
        count[k - 1] += 1
        accepted = min(int(generator.geometric(1 - rate)) - 1, k)
        decider.observe(Rounds(sequence, np.array([k]), np.array([accepted]), 1))
    np.testing.assert_allclose(count / count.sum(), study.length_shares(rate), atol=0.01)


@pytest.mark.parametrize("tokens", [1.5, 2.28, 3.5])
def test_the_rate_gives_the_tokens_a_round_that_were_counted(tokens: float) -> None:
    rate = study.rate_of(tokens)
    shares = study.length_shares(rate)
    assert shares.sum() == pytest.approx(1.0)
    drafted = np.arange(1, study.LONGEST + 1)
    assert shares @ (1 + rate * (1 - rate**drafted) / (1 - rate)) == pytest.approx(tokens)


def test_the_halves_are_halves() -> None:
    rows = data.measured()
    fitted, scored = data.split(rows)
    assert sorted(map(str, fitted + scored)) == sorted(map(str, rows))
    for gpu in data.GPUS:
        difference = sum(row.gpu == gpu for row in fitted) - sum(row.gpu == gpu for row in scored)
        assert difference in (0, 1)
    assert data.split(rows) == (fitted, scored)


def test_no_constant_is_better_than_the_best() -> None:
    rows = data.measured()
    guess, error = study.best_constant(rows)
    ratios = np.array([row.ratio for row in rows])
    assert error == pytest.approx(np.abs(guess / ratios - 1).mean())
    assert all(np.abs(other / ratios - 1).mean() >= error - 1e-12 for other in np.linspace(0.5, 3, 2501))


def test_the_prompt_and_the_choosing_add_what_they_say() -> None:
    """With p the prompt's share of plain decoding: (r + tokens·p)/(1 + p); accepting adds one host time."""
    row = next(r for r in data.measured() if (r.method, r.gpu) == ("EAGLE", "rtx-3090"))
    bare = study.predict(row, "roofline", "pass", 3e-3, study.Reading())
    twice = study.predict(row, "roofline", "pass", 3e-3, study.Reading(accept=True))
    both = study.predict(row, "roofline", "pass", 3e-3, study.Reading(prompt=True))
    weights_s = 13e9 / (0.8 * 936e9)  # a plain step streams 13 GB
    assert twice - bare == pytest.approx(3e-3 / (weights_s + 3e-3), rel=0.1)
    share = (both - bare) / (row.tokens_per_round - both)
    prompt_s = 2 * 6.6e9 * study.PROMPT_TOKENS / (0.7 * 71e12)
    assert share == pytest.approx(prompt_s / (study.OUTPUT_TOKENS * (weights_s + 3e-3)), rel=0.15)


def test_three_predictions_give_the_whole_curve() -> None:
    """Of a way with prompt and accepting, at host times between and beyond the three."""
    row = next(r for r in data.measured() if (r.method, r.gpu) == ("EAGLE", "rtx-3090"))
    reading = study.Reading(prompt=True, accept=True)
    probes = [study.predict(row, "roofline", "pass", h, reading) for h in splits.PROBES_S]
    (curve,) = splits.curves(np.array([probes]))
    for index in (0, 150, 900, 2000):
        again = study.predict(row, "roofline", "pass", float(splits.GRID_S[index]), reading)
        assert curve[index] == pytest.approx(again, rel=1e-9)


def test_the_tables_are_what_the_code_predicts() -> None:
    """At the fitted host times as they are written, a quarter of all rows."""
    rows = {(row.gpu, row.method, row.target): row for row in data.measured()}
    ways = {way.name: way for way in study.WAYS}
    for one in study.read():
        for (method, target), r in list(one.predicted.items())[::4]:
            way, row = ways[one.way], rows[one.gpu, method, target]
            again = study.predict(row, one.prices, way.host, one.host_s or 0.0, way.reading)
            assert again == pytest.approx(r, rel=2e-3)


def test_the_page_is_what_its_tables_say() -> None:
    assert (FOLDER / "README.md").read_text() == page_module.page(
        data.measured(), study.read(), corner.read(), splits.read()
    )
