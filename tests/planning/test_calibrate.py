"""An engine's constants from runs of it: found again, kept as they are where nothing is gained, read from files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from specsim.assembly import assemble
from specsim.cli.main import main
from specsim.errors import InvalidInput
from specsim.planning.calibrate import Calibration, RunError, calibrate
from specsim.planning.constants_fit import MeasuredRun
from specsim.planning.engine_constants import FRONTEND, KERNELS, default_constants, with_constants
from specsim.planning.measured_runs import measured_runs
from specsim.report.calibrated import verdict
from specsim.scenario import Scenario, load_scenario
from specsim.serving.simulate import simulate

SCENARIO = """
schema: 1
name: tiny
model: {name: tiny, source: made up, num_layers: 4, hidden_size: 1024, num_heads: 8, num_kv_heads: 8, head_dim: 128,
  intermediate_size: 4096, vocab_size: 32000}
gpu: rtx-4090
engine: {kind: vllm, version: "0.24", num_kv_blocks: 2000, max_num_seqs: 32, prefix_caching: false}
cost: {tables: false}
speculation: {program: eagle3, max_draft_tokens: 3, acceptance: {kind: constant, rate: 0.6}}
workload: {kind: synthetic, arrivals: {kind: closed_loop, concurrency: 1}, requests: 24,
  lengths: {kind: fixed, prompt_tokens: 64, output_tokens: 64}}
"""
FIGURES = ("output_throughput", "mean_itl_ms", "mean_tpot_ms", "mean_ttft_ms")
TRUTH = {"step": 1.1e-3, "sequence": 35e-6, FRONTEND: 6e-3, KERNELS: 1.15}


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return load_scenario(str(tmp_path / "tiny.yaml"))


def loaded(scenario: Scenario, clients: int) -> Scenario:
    arrivals = scenario.workload.arrivals.model_copy(update={"concurrency": clients})  # type: ignore[union-attr]
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"arrivals": arrivals})})


def short(scenario: Scenario) -> Scenario:
    """Fewer and shorter requests, where any will do."""
    lengths = scenario.workload.lengths.model_copy(update={"output_tokens": 8})  # type: ignore[union-attr]
    workload = scenario.workload.model_copy(update={"requests": 8, "lengths": lengths})
    return scenario.model_copy(update={"workload": workload})


def bench(scenario: Scenario, constants: dict[str, float]) -> dict[str, object]:
    """What an engine of these constants would have measured."""
    served = scenario if not constants else with_constants(scenario, default_constants([scenario]) | constants)
    return simulate(assemble(served)).summary() | {"max_concurrency": scenario.workload.clients.concurrency}  # type: ignore[union-attr]


def run(scenario: Scenario, constants: dict[str, float]) -> MeasuredRun:
    found = bench(scenario, constants)
    return MeasuredRun(f"{scenario.workload.clients}", scenario, {name: float(found[name]) for name in FIGURES})  # type: ignore[arg-type]


def test_an_engine_that_differs_is_found_and_the_runs_held_back_come_out_better(scenario: Scenario) -> None:
    plain = scenario.without_speculation()
    found = calibrate([run(loaded(plain, clients), TRUTH) for clients in (1, 2, 4, 8, 16, 32)])
    assert found.better
    before, after = (found.mean_error(held=True, after=fitted) for fitted in (False, True))
    assert before > 0.15
    assert after < before / 8  # not to nothing: so far from the default, what is known of engines still pulls
    assert {one.held for one in found.figures} == {False, True}
    # Step and kernels move a small model's figures alike; what tells them apart is told.
    assert found.found["sequence"] == pytest.approx(35e-6, abs=3 * found.errors["sequence"])
    assert found.found["step"] == pytest.approx(1.1e-3, abs=3 * found.errors["step"])
    stated = found.fragment(plain, "a test")
    assert stated["engine"]["host"]["sequence"]["source"] == "a test"


def test_defaults_stay_where_runs_held_back_gain_nothing(scenario: Scenario) -> None:
    asked = short(scenario.without_speculation())
    found = calibrate([run(loaded(asked, clients), {}) for clients in (1, 4, 8)])
    assert found.mean_error(held=True, after=False) == 0.0
    assert not found.better
    assert found.fragment(scenario, "a test") == {}


def test_a_gain_that_may_be_luck_leaves_the_defaults(scenario: Scenario) -> None:
    """Each run errs by 10 % before; after: by a point less, or by less and more by turns with as large a mean."""

    def calibration(*after: float) -> Calibration:
        figures = tuple(
            RunError(f"run {number}", "mean_itl_ms", 1.0, 1.10, 1.0 + error, number % 2 == 1, 1.0 + error)
            for number, error in enumerate(after)
        )
        return Calibration({}, {}, {}, figures)

    steady, lucky = calibration(0.089, 0.091, 0.09, 0.09), calibration(0.0, 0.20, 0.0, 0.16)
    assert steady.gains.mean() == pytest.approx(lucky.gains.mean())
    assert steady.mean_error(held=False, after=True) < steady.mean_error(held=False, after=False)
    assert steady.better
    assert not lucky.better
    # Student's t of four: 2.353 standard errors below the mean, one-sided.
    assert lucky.least_gain == pytest.approx(0.01 - 2.353 * lucky.gains.std(ddof=1) / 2, abs=1e-4)
    assert "not surely better, so the defaults stay" in verdict(lucky)
    assert lucky.fragment(scenario, "a test") == {}


def test_a_stated_host_time_leaves_the_engines_others(scenario: Scenario) -> None:
    host = {"sequence": {"seconds": 5e-5, "exposed": 1.0}}
    engine = scenario.stated_engine.model_validate({"kind": "vllm", "version": "0.24", "host": host})
    stated = scenario.model_copy(update={"stated_engine": engine}).engine.host
    assert stated.sequence.seconds == 5e-5
    assert stated.step == scenario.engine.host.step


def test_two_runs_are_too_few(scenario: Scenario) -> None:
    with pytest.raises(InvalidInput, match="2 runs; give at least 3"):
        calibrate([MeasuredRun("a", scenario, {}), MeasuredRun("b", scenario, {})])


def test_runs_of_one_name_count_each(scenario: Scenario) -> None:
    asked = short(scenario.without_speculation())
    found = calibrate([replace(run(loaded(asked, clients), {}), name="bench.json") for clients in (1, 4, 8)])
    assert {one.run for one in found.figures} == {"bench.json", "bench.json #2", "bench.json #3"}
    assert len(found.gains) == 3


def test_results_dumps_and_logs_are_runs(scenario: Scenario, tmp_path: Path) -> None:
    spoken = bench(scenario, {})
    (tmp_path / "on.json").write_text(json.dumps(spoken))
    (tmp_path / "off.json").write_text(json.dumps(bench(loaded(scenario.without_speculation(), 4), {})))
    (on,), (off,) = (measured_runs(tmp_path / name, scenario) for name in ("on.json", "off.json"))
    assert on.scenario.speculation is not None
    assert on.scenario.speculation.acceptance.expected_tokens(3) == pytest.approx(
        spoken["spec_decode_acceptance_length"], abs=1e-6
    )
    assert off.scenario.speculation is None
    assert off.scenario.workload.clients.concurrency == 4  # type: ignore[union-attr]
    dump = 'vllm:time_to_first_token_seconds_sum{a="b"} 4.0\nvllm:time_to_first_token_seconds_count{a="b"} 100.0\n'
    (tmp_path / "metrics.txt").write_text(dump)
    assert measured_runs(tmp_path / "metrics.txt", scenario)[0].figures == {"mean_ttft_ms": pytest.approx(40.0)}
    line = (
        "INFO Avg prompt throughput: 10.0 tokens/s, Avg generation throughput: {} tokens/s, Running: 8 reqs, "
        "Waiting: 0 reqs"
    )
    (tmp_path / "log").write_text("\n".join(line.format(rate) for rate in (1.0, 799.0, 800.0, 801.0)))
    (steady,) = measured_runs(tmp_path / "log", scenario)
    assert steady.figures == {"output_throughput": pytest.approx(800.0)}
    assert steady.scenario.workload.clients.concurrency == 8  # type: ignore[union-attr]


def test_the_command_writes_fields_that_a_scenario_takes(
    scenario: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = scenario.without_speculation()
    paths = [tmp_path / f"{clients}.json" for clients in (1, 2, 8)]
    for path, clients in zip(paths, (1, 2, 8), strict=True):
        path.write_text(json.dumps(bench(loaded(plain, clients), TRUTH)))
    out, whole = tmp_path / "engine.yaml", tmp_path / "calibrated.yaml"
    given = ["calibrate", str(tmp_path / "tiny.yaml"), *map(str, paths), "--out", str(out), "--scenario", str(whole)]
    assert main(given) == 0
    told = capsys.readouterr().out
    assert "held back" in told
    assert "surely better: 1 run held back" in " ".join(told.split())
    calibrated = load_scenario(str(whole))
    assert calibrated.engine.num_kv_blocks == 2000
    assert calibrated.engine.host.sequence.source.startswith("specsim calibrate")
    assert calibrated.engine.host != scenario.engine.host
