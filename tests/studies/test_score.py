"""A study's rows against predictions: planted errors come out as they went in."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.serving.simulate import simulate
from specsim.studies.predict import accepting, scenario_of_row
from specsim.studies.score import MeasuredFigure, StudyScore, score_study
from specsim.studies.study import load_study
from tests.studies.tiny import write_study

SERVED = "split,drafter,blocks,k,concurrency,acceptance_length,output_throughput,median_itl_ms\n"
LINES = ("calibration,none,16,0,1,,{},{}", "test,none,16,0,4,,{},{}")
DRAFTING = ("calibration,eagle3,16,3,1,2.5,{},{}", "test,eagle3,16,3,4,2.0,{},{}")


def scored(path: Path) -> StudyScore:
    return score_study(path.stem, *load_study(path))


def planted(folder: Path, factors: list[tuple[float, float]]) -> StudyScore:
    """Figures that are the predictions, acceptance as measured, times a factor each."""
    lines = (*LINES, *DRAFTING)
    study, rows = load_study(write_study(folder, SERVED + "\n".join(line.format(1, 1) for line in lines)))
    made = []
    for line, row, (fast, slow) in zip(lines, rows, factors, strict=True):
        scenario = accepting(scenario_of_row(study, row), row.acceptance_length)
        summary = simulate(assemble(scenario)).summary()
        made.append(line.format(summary["output_throughput"] * fast, summary["median_itl_ms"] * slow))
    return scored(write_study(folder, SERVED + "\n".join(made)))


def figure(score: StudyScore, drafter: str, concurrency: int, quantity: str) -> MeasuredFigure:
    found = [
        one
        for one in score.figures
        if (one.row.condition["drafter"], one.row.condition["concurrency"]) == (drafter, str(concurrency))
        and one.quantity == quantity
    ]
    assert len(found) == 1
    return found[0]


def error(one: MeasuredFigure, acceptance: str) -> float:
    compared = one.comparison("measured" if acceptance == "measured" else "smallest")
    assert compared is not None
    return compared.error


def test_planted_errors_come_out(tmp_path: Path) -> None:
    score = planted(tmp_path, [(1.0, 1.0), (1.25, 1.0), (1.0, 0.8), (1.0, 1.0)])
    assert error(figure(score, "none", 1, "output_throughput"), "measured") == pytest.approx(0.0, abs=1e-9)
    assert error(figure(score, "none", 4, "output_throughput"), "measured") == pytest.approx(-0.2)
    assert error(figure(score, "eagle3", 1, "median_itl_ms"), "measured") == pytest.approx(0.25)
    # The plain run is 25 % faster than predicted, the drafting one as predicted: so is the speed-up 25 % too good.
    assert error(figure(score, "eagle3", 4, "speedup"), "measured") == pytest.approx(0.25)
    assert [one.row.split for one in score.part("test")] == ["test"] * 5


def test_acceptance_as_at_the_smallest_load_is_the_other_error(tmp_path: Path) -> None:
    """Acceptance length 2.5 at one client, 2.0 at four: what was known from one client is 25 % too good at four."""
    score = planted(tmp_path, [(1.0, 1.0)] * 4)
    four = figure(score, "eagle3", 4, "output_throughput")
    assert error(four, "measured") == pytest.approx(0.0, abs=1e-9)
    assert 0.15 < error(four, "smallest") < 0.3
    one = figure(score, "eagle3", 1, "output_throughput")
    assert error(one, "smallest") == error(one, "measured")


def test_naive_predictors_know_the_plain_run_or_the_smallest_load(tmp_path: Path) -> None:
    score = planted(tmp_path, [(1.0, 1.0)] * 4)
    plain, four = figure(score, "none", 4, "output_throughput"), figure(score, "eagle3", 4, "output_throughput")
    assert four.by_length == pytest.approx(2.0 * plain.value)
    assert figure(score, "eagle3", 4, "median_itl_ms").by_length == figure(score, "none", 4, "median_itl_ms").value
    assert figure(score, "eagle3", 4, "speedup").by_length == 2.0
    one = figure(score, "eagle3", 1, "output_throughput")
    assert four.by_smallest == pytest.approx(4 * one.value)
    assert one.by_smallest is None
    assert plain.by_length is None


def test_a_pass_is_a_step_without_sampling_and_a_forward_pass_without_logits(tmp_path: Path) -> None:
    header = "split,drafter,blocks,sequences,query_tokens,context_tokens,pass_ms,forward_ms,attention_ms\n"
    score = scored(write_study(tmp_path, header + "test,none,16,8,4,128,1,1,1\n"))
    told = {one.quantity: one.smallest.value for one in score.figures}
    study, (row,) = load_study(tmp_path / "tiny.yaml")
    model = assemble(scenario_of_row(study, row)).scenario.model
    head_ms = model.vocab_size * model.hidden_size * 2 / 1008e9 * 1e3  # its bytes at the datasheet's bandwidth
    assert head_ms < told["pass_ms"] - told["forward_ms"] < 2 * head_ms
    assert told["attention_ms"] < told["forward_ms"]


def test_kv_tokens_are_blocks_of_tokens(tmp_path: Path) -> None:
    score = scored(write_study(tmp_path, "split,drafter,blocks,kv_tokens\ntest,none,32,32000\n"))
    assert [error(one, "measured") for one in score.figures] == [0.0]


def test_a_speedup_without_a_plain_run_is_asked_of_the_map(tmp_path: Path) -> None:
    header = "split,drafter,blocks,k,sequences,acceptance_length,speedup\n"
    score = scored(write_study(tmp_path, header + "test,eagle3,16,3,1,2.5,2.0\ntest,eagle3,16,3,64,,1.0\n"))
    one, many = score.figures
    study, (row, _) = load_study(tmp_path / "tiny.yaml")
    asked = assemble(accepting(scenario_of_row(study, row), 2.5))
    assert one.measured is not None
    assert one.measured.value == speedup_map(asked, batches=[1]).cell(1, 3).speedup
    assert one.by_length == 2.5
    assert many.measured is None  # nobody measured its acceptance, which is then that of the smallest batch
    assert many.smallest.value == speedup_map(asked, batches=[64]).cell(64, 3).speedup


def test_hardware_that_nobody_described_is_not_predicted(tmp_path: Path) -> None:
    score = scored(write_study(tmp_path, SERVED + LINES[0].format(1, 1), gpu="rtx-9090"))
    assert not score.figures
    assert [why for _, why in score.unpredicted] == ["no hardware file of rtx-9090"]
