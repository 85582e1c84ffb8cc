"""``specsim validate`` on served cases whose measurements are made up from their own simulation, errors planted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from specsim.assembly import assemble
from specsim.cases import load_case, load_runs, saturation_runs, scores
from specsim.cli.main import main
from specsim.results.served_rows import (
    METRICS,
    SCENARIO,
    PredictedMetric,
    PredictedRun,
    ServedRow,
    append_row,
    write_predictions,
)
from specsim.serving.simulate import simulate
from tests.cases.tiny import write_case

BIAS = 1.1  # predictions are the simulation, "measurements" the simulation divided by this


def pretend(folder: Path, *, width: float) -> None:
    """Predict with intervals of ± ``width`` and write repeats that are 1 % apart."""
    case = load_case(f"{folder}/")
    _pretend(saturation_runs(case), case.saturation, case.predicted_saturation, width)
    _pretend(load_runs(case, variants=True), case.measured, case.predicted, width)


def _pretend(runs: list[Any], rows: Path, prediction: Path, width: float) -> None:
    predicted = []
    for run in runs:
        summary = simulate(assemble(run.scenario)).summary()
        values = {name: summary.get(name) for name in METRICS}
        found = {n: PredictedMetric(v, v * (1 - width), v * (1 + width)) for n, v in values.items() if v is not None}
        sha = run.scenario.sha256()
        predicted.append(PredictedRun(run.load, run.alternative, run.variant, found, sha))
        if run.variant == SCENARIO:
            for repeat, factor in enumerate((0.995, 1.005)):
                measured = {n: None if v is None else v / BIAS * factor for n, v in values.items()}
                append_row(rows, ServedRow(repeat, run.load, run.alternative, 0.002, measured, sha))
    write_predictions(prediction, {"prices": "made up"}, predicted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pooled = {"pooled": ["speculation.acceptance={kind: constant, rate: 0.42}"]}
    made = write_case(tmp_path_factory.mktemp("served") / "planted", saturation_of="off", variants=pooled)
    pretend(made, width=0.05)
    return made


def test_a_planted_bias_is_what_validate_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten percent too high everywhere, outside intervals of 5 %: no row covered, every bar of 5 and 8 % missed."""
    assert main(["validate", f"{folder}/", "--json"]) == 0
    case = json.loads(capsys.readouterr().out)["cases"]["planted"]
    assert (case["kind"], case["acceptance"], case["source"]) == ("served", "imposed", "kernels")
    for name in ("output_throughput", "median_ttft_ms", "median_tpot_ms"):
        found = case["metrics"][name]
        assert found["mean_error"] == pytest.approx(BIAS - 1, abs=1e-4)
        assert (found["rows"], found["judged"]) == (6, 4)
    assert case["metrics"]["output_throughput"]["within"] == 0
    assert case["metrics"]["p99_tpot_ms"]["within"] == 4  # 10 % is inside 25
    assert case["interval_coverage"] == 0.0
    assert case["now"]["median_tpot_ms"] == pytest.approx(BIAS - 1, abs=1e-4)
    assert {row["source"] for row in case["rows"]} == {"kernels"}
    assert case["worst_regret"] == pytest.approx(0.0, abs=1e-4)  # a common factor changes no decision
    pooled = {one["metric"]: one for one in case["ablation"]}
    assert pooled["spec_decode_acceptance_length"]["rows"] == 2
    assert pooled["spec_decode_acceptance_length"]["own"] == pytest.approx(BIAS - 1, abs=1e-4)


def test_the_page_and_the_report_hold_what_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "plots.html"
    assert main(["validate", f"{folder}/", "--report", "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert "missed" in printed
    verdict = next(line for line in printed.splitlines() if line.startswith("intervals: 0 of "))
    assert verdict in (folder / "report.md").read_text()
    page = plot.read_text()
    assert verdict in page
    assert "<script src=" not in page  # nothing to fetch


def test_an_ablation_that_is_no_worse_is_said_to_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0.42 a token gives AL 1.596 for k = 2, 0.5 gives 1.75; 1.75 / 1.1 = 1.591 is what was "measured"."""
    assert main(["validate", f"{folder}/"]) == 0
    printed = capsys.readouterr().out
    line = next(one for one in printed.splitlines() if "is NOT worse than the case's law" in one)
    assert "AL" in line.split("law for ")[1].split(", ")


def document(case: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["validate", f"{case}/", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["cases"]["planted"]
    return found


def test_a_case_of_another_profile_keeps_its_score_and_asks_no_code(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "planted"
    shutil.copytree(folder, gone)
    for name in ("predicted.json", "predicted-saturation.json"):
        pinned = json.loads((gone / name).read_text()) | {"profile": {"name": "a-machine", "sha256": "0123" * 16}}
        (gone / name).write_text(json.dumps(pinned))
    before = document(folder, capsys)
    monkeypatch.setattr(scores, "simulate", lambda _: pytest.fail("today's code was asked"))
    after = document(gone, capsys)
    assert after["metrics"] == before["metrics"]
    assert (before["retired"], after["now"]) == (None, None)
    assert after["retired"] == "predicted with a-machine 012301230123, and priced by a roofline now"
    assert main(["validate", f"{gone}/"]) == 0
    assert f"retired from today's code: {after['retired']}" in capsys.readouterr().out


def test_a_case_without_a_measurement_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = write_case(tmp_path / "bare")
    assert main(["validate", f"{bare}/"]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert "measure it first" in message
