"""The first minute: quickstart and validate on what is shipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from specsim.assembly import assemble
from specsim.cases import case_names, cases_folder, load_case
from specsim.cli import here
from specsim.cli.main import main
from specsim.fidelity import read_grid
from specsim.profiles.store import load_profile
from specsim.scenario import load_scenario
from specsim.studies.study import load_study, study_path
from tests.shipped import MAP

CASE, DRAFTER = "cpu-imposed-acceptance", "draft-model"  # whose scenario is bundled


def test_quickstart_answers_first_and_says_where_its_files_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", "--out", str(tmp_path / "q")]) == 0
    out = capsys.readouterr().out
    assert out.split(" ")[0] in ("ON", "OFF")
    assert "90 % interval" in out.splitlines()[0]
    assert "reak-even batch" in out.splitlines()[2]
    assert "measured by others" in out
    assert {path.name for path in (tmp_path / "q").iterdir()} == {"report.html", "prediction.json", "map.csv"}
    assert json.loads((tmp_path / "q" / "prediction.json").read_text())["grid"]


def test_quickstart_shows_published_rows_as_their_studies_hold_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its split; what is predicted is what the study's score says."""
    assert main(["quickstart", "--out", str(tmp_path), "--json"]) == 0
    published = json.loads(capsys.readouterr().out)["published"]
    assert {one["split"] for one in published} == {"calibration", "test"}
    _, rows = load_study(study_path("a100-llama-3.1-8b-eagle3"))
    told = {
        (row.k, row.condition["concurrency"]): row
        for row in rows
        if row.condition["weights"] == row.condition["kv_cache"] == "16-bit"
    }
    for one in published:
        if one["study"] == study_path("a100-llama-3.1-8b-eagle3").stem:
            load = str(one["sequences"])
            on, off = told[5, load].figures["output_throughput"], told[0, load].figures["output_throughput"]
            assert one["measured"] == pytest.approx(on / off)
            assert one["split"] == told[5, load].split
        assert one["predicted"] == pytest.approx(one["measured"], rel=0.25)  # a sane order, not a bar
    assert len(published) == 5


def test_the_bundled_scenario_is_what_its_case_measured() -> None:
    assert load_scenario("cpu-144m").sha256() == load_case(CASE).drafters[DRAFTER].sha256()


def test_the_case_can_prove_something() -> None:
    """A target 8 times the cache, every cell measured in repeats, and shapes that the profile never saw."""
    case = load_case(CASE)
    scenario, rows = case.drafters[DRAFTER], read_grid(case.measured)[DRAFTER]
    cache = scenario.gpu.last_level_cache_bytes
    assert scenario.model.weight_bytes() >= 8 * cache
    measured = {(b, k) for b, k in ((r.batch, r.draft_tokens) for r in rows)}
    assert measured == {(b, k) for b in (1, 2, 4, 8, 16, 32) for k in range(7)}
    assert len({r.repeat for r in rows}) >= 2
    profiled = {row.shape[1:] for row in load_profile(assemble(scenario).price_name).rows["gemm"]}
    models = (scenario.model, scenario.speculation.draft_model) if scenario.speculation else ()
    shapes = [(float(m.n), float(m.k)) for model in models if model for m in model.linears()]
    assert sum(shape in profiled for shape in shapes) <= len(shapes) / 2


def test_the_measured_best_k_changes_with_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", CASE, "--json"]) == 0
    regret = json.loads(capsys.readouterr().out)["cases"][CASE]["drafters"][DRAFTER]["regret"]
    best = {row["batch"]: row["measured_k"] for row in regret}
    assert best[1] >= 2
    assert 0 in best.values()


MAPS = [name for name in case_names() if not (cases_folder() / name / "loads.yaml").exists()]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == MAP else pytest.mark.full) for n in MAPS])
def test_every_map_can_be_repeated_elsewhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile and measurement are stood in for: what is tested is that the case is carried over and predicted."""
    case, measured = load_case(name), []

    def profile(*, out: Path, **_: object) -> None:
        shutil.copytree(load_profile(assemble(load_case(CASE).scenario).price_name).folder, out)

    monkeypatch.setattr(here, "profile_run", profile)
    monkeypatch.setattr(here, "measure_maps", lambda drafters, out, **_: measured.append((drafters, out)))
    copy = load_case(f"{here.repeat_here(case, tmp_path / 'here')}/")
    assert assemble(copy.scenario).price_name == "profile"
    assert copy.scenario.model == case.scenario.model
    assert {name: one.speculation for name, one in copy.drafters.items()} == {
        name: one.speculation for name, one in case.drafters.items()
    }
    assert set(json.loads(copy.predicted.read_text())) == set(case.drafters)
    assert measured == [(copy.drafters, copy.measured)]


def test_a_prediction_cannot_be_written_after_its_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", CASE, "--predict"]) == 2
    assert "before the run that tests it" in capsys.readouterr().err
