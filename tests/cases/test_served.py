"""A served case from its first prediction to its last measured row, on a model small enough to wait for."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.assembly import assemble  # noqa: E402
from specsim.cases import load_case, load_runs  # noqa: E402
from specsim.cli.main import main  # noqa: E402
from specsim.reference.timing.run import serve  # noqa: E402
from specsim.results.served_rows import load_predictions, load_rows  # noqa: E402
from specsim.scenario import load_scenario  # noqa: E402
from specsim.serving import uncertainty  # noqa: E402
from specsim.serving.simulate import simulate  # noqa: E402
from tests.cases.tiny import write_case  # noqa: E402


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.slow
def test_predict_saturate_predict_measure_and_go_on_after_a_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = functools.partial(uncertainty.predicted_metrics, runs=uncertainty.FEWEST_RUNS)
    monkeypatch.setattr(uncertainty, "predicted_metrics", fewer)
    folder = f"{write_case(tmp_path / 'tiny')}/"
    predict, measure = ["validate", folder, "--predict"], ["measure", folder]
    assert main(predict) == 0
    case = load_case(folder)
    assert {(run.load, run.alternative) for run in load_predictions(case.predicted_saturation)} == {
        ("saturation", "off"),
        ("saturation", "k2"),
    }
    assert "measure it first" in refused(capsys, *measure, "--loads")

    assert main([*measure, "--saturation"]) == 0
    saturation = load_rows(case.saturation)
    assert {(row.repeat, row.alternative) for row in saturation} == {(r, a) for r in (0, 1) for a in ("off", "k2")}
    for row in saturation:
        assert row.metrics["completed"] == 12
        assert 1 < (row.metrics["mean_batch"] or 0) <= 4
        assert row.probe_s > 0
    assert "predict before measuring" in refused(capsys, *measure, "--loads")

    assert main(predict) == 0
    predicted = {(run.load, run.alternative, run.variant): run for run in load_predictions(case.predicted)}
    variants = (("off", "scenario"), ("k2", "scenario"), ("k2", "pooled"))
    assert set(predicted) == {(load, *one) for load in ("light", "swinging") for one in variants}
    for run in predicted.values():
        assert all(
            one.low <= one.value * (1 + 1e-9) and one.value <= one.high * (1 + 1e-9) for one in run.metrics.values()
        )
        assert ("spec_decode_acceptance_length" in run.metrics) is (run.alternative == "k2")
    assert json.loads(case.predicted.read_text())["scenario_sha256"] == case.scenario.sha256()

    assert main([*measure, "--loads"]) == 0
    rows = load_rows(case.measured)
    keys = [(row.repeat, row.load, row.alternative) for row in rows]
    assert set(keys) == {(r, load, a) for r in (0, 1) for load in ("light", "swinging") for a in ("off", "k2")}
    assert [repeat for repeat, *_ in keys] == [0] * 4 + [1] * 4
    asked = {(run.load, run.alternative): run.scenario for run in load_runs(case)}
    for row in rows:
        scenario = asked[row.load, row.alternative]
        last_s = max(r.arrival_s or 0.0 for r in scenario.requests())
        assert (row.metrics["duration"] or 0) > last_s  # it waited for every arrival
        tokens = sum(r.output_tokens for r in scenario.requests())
        assert (row.metrics["output_throughput"] or 0) * (row.metrics["duration"] or 0) == pytest.approx(tokens, 1e-4)
    lengths = {row.metrics["spec_decode_acceptance_length"] for row in rows if row.alternative == "k2"}
    drawn = simulate(assemble(asked["light", "k2"])).summary()["spec_decode_acceptance_length"]
    assert [float(one) for one in lengths if one is not None] == pytest.approx([drawn], rel=1e-5)  # the same draws
    machine = yaml.safe_load((case.folder / "machine.yaml").read_text())
    assert machine["probe"]["before_s"] > 0

    whole = case.measured.read_text()
    case.measured.write_text("".join(whole.splitlines(keepends=True)[:-3]))
    assert main([*measure, "--loads"]) == 0
    assert case.measured.read_text().splitlines()[:6] == whole.splitlines()[:6]
    assert [(row.repeat, row.load, row.alternative) for row in load_rows(case.measured)] == keys
    assert "before the run that tests it" in refused(capsys, *predict)
    assert "--set would measure another case" in refused(capsys, *measure, "--loads", "--set", "seed=3")
    assert "give one of them" in refused(capsys, *measure, "--loads", "--grid")
    (case.folder / "loads.yaml").unlink()
    assert "has no loads.yaml" in refused(capsys, *measure, "--loads")


def test_an_idle_engine_sleeps_until_the_next_arrival(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three requests 0.4 s apart: it sleeps once or twice for each, and for all the time in which nothing runs."""
    slept: list[float] = []

    def sleep(seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    pieces = "workload.arrivals={kind: piecewise, cv: 0.001, pieces: [[0.4, 0], [0.001, 1000]]}"
    settings = [pieces, "workload.requests=3", "speculation=null"]
    folder = write_case(tmp_path / "tiny")
    result = serve(assemble(load_scenario(str(folder / "scenario.yaml"), settings)))
    busy_s = sum(step.duration_s for step in result.steps)
    assert result.duration_s > 1.2
    assert 1 <= len(slept) <= 6  # a busy machine may still be at work when the next comes
    assert sum(slept) == pytest.approx(result.duration_s - busy_s, abs=0.1)
