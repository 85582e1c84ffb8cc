"""What a served case asks for, and what it refuses; nothing is run here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from specsim.assembly import Assembly
from specsim.cases import (
    Case,
    load_case,
    load_runs,
    rows_to_extend,
    runs_to_measure,
    saturation_runs,
    score,
    still_to_run,
    write_prediction,
)
from specsim.cli import here
from specsim.errors import InvalidInput
from specsim.profiles.store import load_profile
from specsim.results.served_rows import (
    METRICS,
    SATURATION,
    SCENARIO,
    PredictedMetric,
    ServedRow,
    append_row,
    load_predictions,
    load_rows,
)
from specsim.serving import uncertainty
from specsim.serving.uncertainty import PredictedInterval
from specsim.workload.arrivals import ClosedLoopArrivals
from tests.cases.tiny import LOADS, write_case


def case_in(folder: Path, **loads: Any) -> Case:
    return load_case(f"{write_case(folder, **loads)}/")


def saturate(case: Case, rates: Mapping[str, list[float]]) -> None:
    """Stand in for the measurement: these requests per second, repeat by repeat."""
    for run in saturation_runs(case):
        for repeat, rate in enumerate(rates[run.alternative]):
            metrics = dict.fromkeys(METRICS, 1.0) | {"request_throughput": rate}
            append_row(
                case.saturation, ServedRow(repeat, SATURATION, run.alternative, 0.5, metrics, run.scenario.sha256())
            )


def test_saturation_is_a_closed_loop_of_every_seat_under_every_alternative(tmp_path: Path) -> None:
    runs = saturation_runs(case_in(tmp_path))
    assert [run.alternative for run in runs] == ["off", "k2"]
    assert all(run.scenario.workload.arrivals == ClosedLoopArrivals(concurrency=4) for run in runs)
    assert [run.scenario.speculation is None for run in runs] == [True, False]


@pytest.mark.parametrize(("base", "expected"), [("own", {"off": 8.0, "k2": 12.0}), ("off", {"off": 8.0, "k2": 8.0})])
def test_rates_are_shares_of_the_median_saturation(tmp_path: Path, base: str, expected: dict[str, float]) -> None:
    case = case_in(tmp_path, saturation_of=base, repeats=3)
    saturate(case, {"off": [7.0, 9.5, 8.0], "k2": [12.0, 1.0, 30.0]})
    runs = {(run.load, run.alternative): run.scenario for run in load_runs(case)}
    assert set(runs) == {(load, name) for load in ("light", "swinging") for name in ("off", "k2")}
    for name, rate in expected.items():
        assert runs["light", name].workload.arrivals.rate_per_s == 0.75 * rate
        assert runs["swinging", name].workload.arrivals.pieces == ((0.05, 0.5 * rate), (0.05, 2.0 * rate))
        drawn = [r.arrival_s for r in runs["light", name].requests()]
        unit = case.scenario.model_copy(
            update={"workload": case.scenario.workload.model_copy(update={"arrivals": case.loads.loads["light"]})}
        )  # type: ignore[union-attr]
        np.testing.assert_allclose(drawn, [r.arrival_s / rate for r in unit.requests()], rtol=1e-12)


def test_variants_change_the_acceptance_and_nothing_else_and_off_has_none(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0, 8.0], "k2": [8.0, 8.0]})
    runs = {(run.load, run.alternative, run.variant): run.scenario for run in load_runs(case, variants=True)}
    assert {key[1:] for key in runs} == {("off", SCENARIO), ("k2", SCENARIO), ("k2", "pooled")}
    own, pooled = runs["light", "k2", SCENARIO], runs["light", "k2", "pooled"]
    assert pooled.speculation is not None
    assert own.speculation is not None
    assert pooled.speculation.acceptance.conditional_rates(2) == pytest.approx([0.3, 0.3])
    changed = own.speculation.model_copy(update={"acceptance": pooled.speculation.acceptance})
    assert own.model_copy(update={"speculation": changed}) == pooled


def test_a_variant_may_be_of_some_alternatives_with_laws_of_their_own(tmp_path: Path) -> None:
    alternatives = {f"k{k}": [f"speculation.policy={{kind: fixed, k: {k}}}"] for k in (0, 1, 2)}
    laws = {f"k{k}": [f"speculation.acceptance={{kind: constant, rate: 0.{k}}}"] for k in (1, 2)}
    case = case_in(tmp_path, alternatives=alternatives, variants={"pooled": laws})
    saturate(case, {name: [8.0, 8.0] for name in alternatives})
    runs = {(run.load, run.alternative, run.variant): run.scenario for run in load_runs(case, variants=True)}
    assert {name for _, name, variant in runs if variant == "pooled"} == {"k1", "k2"}
    for k in (1, 2):
        speculation = runs["light", f"k{k}", "pooled"].speculation
        assert speculation is not None
        assert speculation.acceptance.conditional_rates(1) == pytest.approx([k / 10])


def test_paths_in_settings_count_from_the_case(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(case.scenario.model.model_dump() | {"name": "other"}))
    case = case_in(tmp_path, alternatives={"other": ["model=other.yaml", "speculation=null"]})
    assert saturation_runs(case)[0].scenario.model.name == "other"


def test_repeats_are_interleaved_in_orders_of_their_own_and_what_is_done_is_left_out(tmp_path: Path) -> None:
    case = case_in(tmp_path, alternatives={f"k{k}": [f"speculation.max_draft_tokens={k}"] for k in range(1, 9)})
    runs = saturation_runs(case)
    whole = list(still_to_run(runs, [], repeats=4, seed=1))
    orders = [[run.alternative for repeat, run in whole if repeat == r] for r in range(4)]
    assert [repeat for repeat, _ in whole] == sorted(repeat for repeat, _ in whole)
    assert all(sorted(order) == sorted(run.alternative for run in runs) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    done = [ServedRow(repeat, run.load, run.alternative, 1.0, {}) for repeat, run in (whole[0], whole[5], whole[20])]
    rest = list(still_to_run(runs, done, repeats=4, seed=1))
    assert rest == [one for number, one in enumerate(whole) if number not in (0, 5, 20)]


def test_a_row_survives_its_file(tmp_path: Path) -> None:
    rows = [
        ServedRow(
            0, "light", "off", 0.0123456, dict.fromkeys(METRICS, 1.25) | {"spec_decode_acceptance_length": None}
        ),
        ServedRow(1, "light", "k2", 1.0, dict.fromkeys(METRICS, 31.0), "ab12"),
    ]
    for row in rows:
        append_row(tmp_path / "rows.csv", row)
    assert load_rows(tmp_path / "rows.csv") == rows


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"loads": {"a": {"kind": "closed_loop", "concurrency": 3}}}, "'a' is a closed loop"),
        ({"loads": {"a": {"kind": "poisson", "rate_per_s": 0}}}, "greater than 0"),
        ({"loads": {"a": {"kind": "gamma", "rate_per_s": -0.3, "cv": 2}}}, "greater than 0"),
        ({"loads": {"a": {"kind": "piecewise", "pieces": [[1, 0], [2, 0]]}}}, "at least one must be positive"),
        ({"loads": {}}, "loads is {}"),
        ({"loads": {"saturation": LOADS["loads"]["light"]}}, "'saturation' has a name with a meaning"),
        ({"alternatives": {"own": []}}, "'own' has a name with a meaning"),
        ({"variants": {"scenario": []}}, "'scenario' has a name with a meaning"),
        (
            {"saturation_of": "k3"},
            "saturation_of is 'k3', which is neither own nor an alternative; choose of own, off, k2",
        ),
        ({"repeats": 0}, "repeats is 0"),
        ({"variants": {"pooled": {"k3": []}}}, "'pooled' is of 'k3', which is no alternative; choose of off, k2"),
        ({"speed": 2}, "unknown field speed"),
    ],
)
def test_faults_of_the_file_are_one_line(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidInput) as error:
        case_in(tmp_path, **change)
    assert fault in str(error.value)
    assert "loads.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_setting_that_does_not_fit_names_its_alternative(tmp_path: Path) -> None:
    case = case_in(tmp_path, alternatives={"long": ["speculation.policy={kind: fixed, k: 9}"]})
    with pytest.raises(InvalidInput, match=r"loads.yaml: alternative 'long': .*drafts up to 9 tokens"):
        saturation_runs(case)


def test_saturation_comes_first_and_whole(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    with pytest.raises(InvalidInput, match=r"saturation.csv has no run of off; measure it first: .* --saturation"):
        load_runs(case)
    saturate(case, {"off": [8.0, 8.0], "k2": [8.0]})
    with pytest.raises(InvalidInput, match="lacks 1 runs of 2 repeats"):
        write_prediction(case)


def test_repeats_can_be_added_to_loads_and_not_to_the_saturation_under_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncertainty, "predicted_metrics", lambda *_, **__: {})
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0, 8.0], "k2": [8.0, 9.0]})
    write_prediction(case)
    assert runs_to_measure(case, "saturation")[1] == case.saturation  # nothing is left to measure
    more = case_in(tmp_path, repeats=5)
    assert runs_to_measure(more, "loads") == runs_to_measure(case, "loads")
    with pytest.raises(InvalidInput, match="more of it would move the loads"):
        runs_to_measure(more, "saturation")


def test_rows_of_another_scenario_are_not_added_to(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0, 8.0], "k2": [8.0, 8.0]})
    assert len(rows_to_extend(case.saturation, saturation_runs(case))) == 4
    changed = case_in(
        tmp_path, alternatives=LOADS["alternatives"] | {"k2": ["speculation.policy={kind: fixed, k: 1}"]}
    )
    with pytest.raises(InvalidInput, match="saturation under k2 ran another scenario"):
        rows_to_extend(changed.saturation, saturation_runs(changed))
    gone = case_in(tmp_path, alternatives={"off": ["speculation=null"]})
    with pytest.raises(InvalidInput, match=r"saturation under k2, which loads\.yaml does not name"):
        load_runs(gone)


def test_loads_are_predicted_before_they_are_measured(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0, 8.0], "k2": [8.0, 8.0]})
    with pytest.raises(InvalidInput, match="predict before measuring"):
        runs_to_measure(case, "loads")


def test_acceptance_varies_where_the_engine_does_not_draw_what_the_simulator_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, Assembly]] = []

    def metrics(assembly: Assembly, names: Sequence[str], *, vary_acceptance: bool) -> dict[str, PredictedInterval]:
        assert set(names) == set(METRICS)
        asked.append((vary_acceptance, assembly))
        return {"duration": PredictedInterval(2.0, 1.0, 4.0)}

    monkeypatch.setattr(uncertainty, "predicted_metrics", metrics)
    weights = "weights={target: t, drafter: d, prompts: p.jsonl}"  # a prediction needs none of the files
    own = {"off": ["speculation=null"], "imposed": [], "real": [weights], "real-off": [weights, "speculation=null"]}
    case = case_in(tmp_path, alternatives=own, loads={"light": LOADS["loads"]["light"]})
    saturate(case, {name: [8.0, 8.0] for name in own})
    assert write_prediction(case) == case.predicted
    found = load_predictions(case.predicted)
    varied = {(run.alternative, run.variant): vary for run, (vary, _) in zip(found, asked, strict=True)}
    assert varied == {
        ("off", SCENARIO): False,
        ("imposed", SCENARIO): False,
        ("imposed", "pooled"): True,
        ("real", SCENARIO): True,
        ("real", "pooled"): True,
        ("real-off", SCENARIO): False,
    }
    assert [run.scenario_sha256 for run in found] == [assembly.scenario.sha256() for _, assembly in asked]
    assert all(run.metrics == {"duration": PredictedMetric(2.0, 1.0, 4.0)} for run in found)


def test_a_served_case_is_repeated_elsewhere_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile, prices and measurement are stood in for: what is tested is the order, and what is carried over."""
    case, steps = case_in(tmp_path / "case"), list[str]()
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(case.scenario.model.model_dump()))
    fields = yaml.safe_load((case.folder / "scenario.yaml").read_text()) | {"model": "../model.yaml"}
    (case.folder / "scenario.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))

    def profile(*, out: Path, **_: object) -> None:
        shutil.copytree(load_profile("cpu-amd-epyc-family-25-model-17-2-threads").folder, out)

    def measure(copy: Case, what: str, **_: object) -> None:
        steps.append(what)
        if what == "saturation":
            saturate(copy, {"off": [8.0, 8.0], "k2": [8.0, 8.0]})

    def metrics(assembly: Assembly, *_: object, **__: object) -> dict[str, PredictedInterval]:
        steps.append(assembly.price_name)
        return {}

    monkeypatch.setattr(uncertainty, "predicted_metrics", metrics)
    monkeypatch.setattr(here, "profile_run", profile)
    monkeypatch.setattr(here, "measure_served", measure)
    copy = load_case(f"{here.repeat_here(case, tmp_path / 'here')}/")
    assert steps == [*["profile"] * 2, "saturation", *["profile"] * 6, "loads"]
    shutil.rmtree(tmp_path / "here" / "profile")
    here.repeat_here(case, tmp_path / "here")
    assert steps[10:] == ["loads"]  # it goes on where it stopped
    assert copy.loads == case.loads
    assert copy.scenario.model == case.scenario.model
    assert {run.load for run in load_predictions(copy.predicted_saturation)} == {SATURATION}
    assert {run.load for run in load_predictions(copy.predicted)} == set(LOADS["loads"])


def test_a_served_case_is_no_map(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no map of draft-model; score what it holds with specsim validate"):
        score(case_in(tmp_path), "draft-model")


def test_a_row_that_a_kill_cut_off_is_measured_again(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0], "k2": [8.0]})
    text = case.saturation.read_text()
    case.saturation.write_text(text[: -len(text.splitlines()[-1]) + 30])
    assert [row.alternative for row in load_rows(case.saturation)] == ["off"]


def test_a_row_of_fewer_cells_is_told(tmp_path: Path) -> None:
    case = case_in(tmp_path)
    saturate(case, {"off": [8.0], "k2": [8.0]})
    text = case.saturation.read_text()
    case.saturation.write_text(text[: -len(text.splitlines()[-1]) + 30] + "\n")
    with pytest.raises(InvalidInput, match=r"saturation.csv, line 3: .* remove the row, it is measured again"):
        load_rows(case.saturation)


@pytest.mark.parametrize("text", ["{}", "[1]", '{"rows": [{"load": "a"}]}', "no json"])
def test_a_file_that_is_no_prediction_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "predicted.json").write_text(text)
    with pytest.raises(InvalidInput, match=r"a prediction of served loads|is no prediction"):
        load_predictions(tmp_path / "predicted.json")
