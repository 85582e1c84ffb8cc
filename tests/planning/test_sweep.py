"""Sweeps: which points, each answered once whatever dies, the same on every backend, and which nothing beats."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from specsim.cli.main import main
from specsim.errors import InvalidInput, NoAnswer
from specsim.planning.sweep.answers import ANSWERS, SUMMARY, AnswerRow, predicted
from specsim.planning.sweep.frontier import Gain, Offer, cheapness, frontier, gains
from specsim.planning.sweep.kept import KeptRows
from specsim.planning.sweep.points import Point, own_prices, read_sweep, sweep_points
from specsim.planning.sweep.run import Backend, run_points
from specsim.report.frontier import frontier_tables, gain_line
from specsim.scenario import Scenario

SCENARIO = """
schema: 1
name: tiny
model: {name: tiny, source: made up, num_layers: 4, hidden_size: 1024, num_heads: 8, num_kv_heads: 8, head_dim: 128,
  intermediate_size: 4096, vocab_size: 32000}
gpu: rtx-4090
engine: {kind: vllm, version: "0.24", num_kv_blocks: 2000, max_num_seqs: 64}
speculation: {program: eagle3, max_draft_tokens: 3, acceptance: {kind: constant, rate: 0.6}}
workload: {kind: synthetic, arrivals: {kind: closed_loop, concurrency: 1}, requests: 8,
  lengths: {kind: fixed, prompt_tokens: 64, output_tokens: 16}}
"""
SMALL = """
schema: 1
name: small
scenario: tiny.yaml
grid: {speculation.max_draft_tokens: [1, 2, 3], workload.arrivals.concurrency: [1, 8]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def points_of(folder: Path, text: str) -> list[Point]:
    (folder / "asked.yaml").write_text(f"schema: 1\nscenario: tiny.yaml\n{text}")
    return sweep_points(read_sweep(folder / "asked.yaml"))


def test_grids_lists_and_draws_combine_and_off_is_asked_once(folder: Path) -> None:
    points = points_of(
        folder,
        "grid: {speculation.max_draft_tokens: [1, 2, 3]}\n"
        "lists: {workload.arrivals.concurrency: [1, 4], workload.requests: [8, 32]}\n"
        "random: {deployment.replicas: {low: 1, high: 1, whole: true}, seed: {choices: [5]}}\nsamples: 2\n",
    )
    # 3 k by 2 loads; the two draws are alike, so each question is there once; off once a load.
    assert len(points) == 3 * 2 + 2
    plain = [one for one in points if one.scenario is not None and one.scenario.speculation is None]
    assert [one.settings["workload.arrivals.concurrency"] for one in plain] == [1, 4]
    assert all(one.scenario.workload.count() == 8 * one.settings["workload.arrivals.concurrency"] for one in plain)  # type: ignore[union-attr]
    assert all(one.scenario.seed == 5 for one in points if one.scenario is not None)


def test_draws_are_the_files_own(folder: Path) -> None:
    text = "random: {workload.arrivals.concurrency: {low: 1, high: 64, whole: true, log: true}}\nsamples: 20\n"
    text += "off: false\n"
    first, again = ([one.settings for one in points_of(folder, text)] for _ in range(2))
    assert first == again
    assert first != [one.settings for one in points_of(folder, text + "seed: 1\n")]
    drawn = [one["workload.arrivals.concurrency"] for one in first]
    assert min(drawn) >= 1
    assert max(drawn) <= 64
    assert sum(one <= 8 for one in drawn) >= len(drawn) / 4  # half of the logarithms lie below 8


def test_a_key_is_of_all_that_moves_the_answer(folder: Path) -> None:
    """Conditions and the origin of acceptance do not make another scenario, and do make another answer."""
    text = "set: {{conditions.memory: {memory}, speculation.acceptance_origin: {{basis: {basis}}}}}\n"
    one, other, assumed = (
        points_of(folder, text.format(memory=memory, basis=basis))[0].key
        for memory, basis in ((1.0, "measured"), (1.2, "measured"), (1.0, "assumed"))
    )
    assert len({one, other, assumed}) == 3
    assert one == points_of(folder, "name: renamed\n" + text.format(memory=1.0, basis="measured"))[0].key


def test_the_bundled_sweep_has_five_hundred_settings() -> None:
    asked = read_sweep("pareto")
    assert asked.count() + asked.count() // len(asked.grid["speculation.max_draft_tokens"]) == 504
    ends = {path: (values[0], values[-1]) for path, values in asked.grid.items()}
    points = sweep_points(asked.model_copy(update={"grid": ends}))
    assert len(points) == 2**4 + 2**3
    assert all(one.refused is None for one in points)
    with pytest.raises(InvalidInput, match="did you mean pareto"):
        read_sweep("paretto")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("lists: {seed: [1, 2], name: [a]}", "lists move together"),
        ("random: {seed: {low: 1, high: 2}}", "random and samples belong together"),
        ("grid: {seed: [1]}\nlists: {seed: [2]}", "seed varies in two places"),
        ("grid: {nothing.there: [1]}", "no point of the sweep makes a scenario"),
        ("answer: guess", "answer"),
    ],
)
def test_a_malformed_sweep_is_one_line(folder: Path, text: str, rule: str) -> None:
    with pytest.raises(InvalidInput, match=rule) as caught:
        points_of(folder, text)
    assert "\n" not in str(caught.value)


def test_rows_are_kept_as_they_come_and_never_answered_again(folder: Path) -> None:
    points, asked = sweep_points(read_sweep(folder / "small.yaml")), list[int]()

    def counting(scenario: Scenario) -> AnswerRow:
        asked.append(scenario.workload.clients.concurrency)  # type: ignore[union-attr]
        if len(asked) == 4:
            raise KeyboardInterrupt
        return predicted(scenario)

    with pytest.raises(KeyboardInterrupt):
        run_points(points, counting, KeptRows(folder / "out"), jobs=1)
    kept = KeptRows(folder / "out")
    assert len(kept.rows) == 3
    assert run_points(points, counting, kept, jobs=1) == len(points) - 3
    kept.gather()
    again = KeptRows(folder / "out")
    assert again.rows.keys() == {point.key for point in points}
    assert run_points(points, counting, again, jobs=1) == 0
    assert len(asked) == len(points) + 1  # the interrupted one twice
    row = again.rows[points[0].key]
    assert row["draft_tokens"] == 1
    assert row["output_tokens_per_s_per_user"] == pytest.approx(row["output_tokens_per_s"] / row["batch"])
    assert 0 < row["speedup_low"] < row["speedup"] < row["speedup_high"]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / "out" / "results.parquet")
    assert sorted(table.column("set workload.arrivals.concurrency").to_pylist()) == [1] * 4 + [8] * 4


def test_a_speed_up_has_the_interval_that_predict_states(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "grid: {speculation.acceptance_origin.basis: [assumed, measured], speculation.max_draft_tokens: [2]}\n"
    assumed, off, measured = (predicted(one.scenario) for one in points_of(folder, text) if one.scenario is not None)
    assert off["speedup"] == off["speedup_low"] == off["speedup_high"] == 1.0
    assert assumed["speedup_low"] < measured["speedup_low"] < measured["speedup_high"] < assumed["speedup_high"]
    changes = ["--set", "speculation.acceptance_origin.basis=assumed", "--set", "speculation.max_draft_tokens=2"]
    assert main(["predict", str(folder / "tiny.yaml"), *changes, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["grid"]
    (cell,) = (one for one in cells if (one["batch"], one["draft_tokens"]) == (1, 2))
    told = [assumed[name] for name in ("speedup", "speedup_low", "speedup_high")]
    assert told == pytest.approx([cell[name] for name in ("speedup", "low", "high")])


def test_every_column_is_on_the_page(folder: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "sweep.md").read_text(encoding="utf-8")
    (point, *_) = sweep_points(read_sweep(folder / "small.yaml"))
    assert point.scenario is not None
    for row in (predicted(point.scenario), ANSWERS["simulate"](point.scenario)):
        told = {name for name in row if name not in SUMMARY}
        assert {name for name in told if f"`{name}`" not in page} == set()


def test_a_point_without_an_answer_says_why(folder: Path) -> None:
    points = points_of(
        folder, "grid: {engine.num_kv_blocks: [2, 2000], deployment.tensor_parallel: [1, 3]}\noff: false\n"
    )
    kept = KeptRows(folder / "out")
    run_points(points, predicted, kept, jobs=1)
    errors = [kept.rows[point.key]["error"] for point in points]
    assert "does not fit" in errors[0]
    assert "does not divide" in errors[1]
    assert errors[2] is None


@pytest.mark.full
def test_a_plan_is_a_point_too(folder: Path) -> None:
    text = "answer: plan\nset: {usd_per_gpu_hour: 0.5, slo.tpot_s.p95: 0.02, "
    text += "workload.arrivals: {kind: poisson, rate_per_s: 20}}\n"
    points, kept = points_of(folder, text), KeptRows(folder / "out")
    run_points(points, ANSWERS["plan"], kept, jobs=1)
    on, off = (kept.rows[point.key] for point in points)
    assert (on["draft_tokens"], off["drafter"]) == (3, "off")
    for row in (on, off):
        assert row["error"] is None
        assert row["output_tokens_per_s"] == pytest.approx(20 * 16)
        assert row["binds_used"] <= 1 or row["replicas"] > 1
    assert own_prices(points) == {"RTX-4090": 0.5}
    (unbounded,) = points_of(folder, "answer: plan\noff: false\n")
    run_points([unbounded], ANSWERS["plan"], kept, jobs=1)
    assert kept.rows[unbounded.key]["error"]


def skip_without(package: str, backend: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install specsim's extra [{backend}]")


class Killing:
    """Answers, but the first worker that gets to some point kills itself there."""

    def __init__(self, mark: Path, always: bool = False) -> None:
        self.mark, self.always = mark, always

    def __call__(self, scenario: Scenario) -> AnswerRow:
        if scenario.speculation is None and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return predicted(scenario)


@pytest.mark.parametrize(
    ("backend", "package"),
    [
        ("loky", "joblib"),
        pytest.param("dask", "distributed", marks=pytest.mark.full),
        pytest.param("ray", "ray", marks=pytest.mark.full),
    ],
)
def test_a_killed_worker_loses_only_its_points(folder: Path, backend: Backend, package: str) -> None:
    skip_without(package, backend)
    points, kept = sweep_points(read_sweep(folder / "small.yaml")), KeptRows(folder / "out")
    assert run_points(points, Killing(folder / "mark"), kept, backend=backend, jobs=2) == len(points)
    assert (folder / "mark").exists()
    alone = KeptRows(folder / "alone")
    run_points(points, predicted, alone, jobs=1)
    assert kept.rows == alone.rows


@pytest.mark.full
def test_a_running_cluster_is_used_by_its_address(folder: Path) -> None:
    skip_without("distributed", "dask")
    from distributed import LocalCluster

    points, kept = sweep_points(read_sweep(folder / "small.yaml")), KeptRows(folder / "out")
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        found = run_points(points, predicted, kept, backend="dask", address=cluster.scheduler_address)
    assert found == len(points)


@pytest.mark.full
def test_workers_that_keep_dying_end_the_command_and_leave_the_rest(folder: Path) -> None:
    points, kept = sweep_points(read_sweep(folder / "small.yaml")), KeptRows(folder / "out")
    with pytest.raises(NoAnswer, match="workers died 3 times"):
        run_points(points, Killing(folder / "mark", always=True), kept, jobs=2)
    assert run_points(points, predicted, KeptRows(folder / "out"), jobs=1) <= len(points) - len(kept.rows)


def test_a_killed_command_goes_on_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "specsim.cli.main", "sweep", "small.yaml", "--out", "out", "--jobs", "1"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list((folder / "out").glob("parts/*.parquet"))) < 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = len(KeptRows(folder / "out").rows)
    assert done >= 2
    assert main(["sweep", str(folder / "small.yaml"), "--out", str(folder / "out"), "--jobs", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answered_now"] == 8 - done
    keys = [row["key"] for row in found["points"]]
    assert len(keys) == len(set(keys)) == 8
    assert "speculation on, frontier" in (folder / "out" / "pareto.html").read_text(encoding="utf-8")


def offer(per_user: float, per_gpu: float, *, usd: float | None = None) -> Offer:
    return Offer(f"{per_user} {per_gpu}", "eagle3", 3, "H200", 1, 1, 1, 1.0, per_gpu, per_user, usd)


def test_the_frontier_holds_what_no_other_beats_in_both() -> None:
    points = [offer(10, 100), offer(20, 90), offer(15, 80), offer(30, 90), offer(30, 50), offer(40, 10)]
    assert [(one.per_user, one.per_gpu) for one in frontier(points)] == [(10, 100), (30, 90), (40, 10)]
    priced = [offer(10, 100, usd=2.0), offer(12, 50, usd=1.0), offer(5, 70, usd=1.5)]
    assert [one.per_user for one in frontier(priced, cheapness)] == [12]


def without_drafts(*points: tuple[float, float]) -> list[Offer]:
    return [replace(offer(*point), drafter="off", draft_tokens=0) for point in points]


def test_frontiers_compare_at_equal_speed_where_both_reach_it() -> None:
    on, off = [offer(20, 300), offer(40, 200)], without_drafts((10, 200), (30, 100))
    assert gains(on, off) == [Gain(20, 300 / 150), Gain(30, 250 / 100)]  # 150 and 250 lie halfway on the lines
    assert gain_line([*on, *off]) == (
        "at equal output tokens/s a user, straight lines between the points of a frontier, speculation on gives 2.00x "
        "(at 20.0) to 2.50x (at 30.0) the output tokens/s/GPU of off; speculation on reaches up to 40.0 output "
        "tokens/s a user, which off does not reach at all (at most 30.0)"
    )
    assert gains(off, [offer(10, 100), offer(20, 75), offer(30, 10)]) == [Gain(10, 2), Gain(20, 2), Gain(30, 10)]


def test_no_ratio_where_frontiers_share_no_speed() -> None:
    on, off = [offer(255, 2044), offer(322, 322)], without_drafts((129, 1037), (152, 152))
    assert gains(on, off) == gains(on, []) == gains([], off) == []
    told = gain_line([*on, *off])
    assert told is not None
    assert "x (at" not in told
    assert "(speculation on 255.0 to 322.0, off 129.0 to 152.0)" in told
    assert "up to 322.0 output tokens/s a user, which off does not reach at all (at most 152.0)" in told
    assert gain_line(on) is None


def test_a_narrow_frontier_folds_names_and_keeps_figures_whole() -> None:
    long = replace(offer(1234.5, 98765.4, usd=1234.567), drafter="a-drafter-" * 9, gpus=64, batch=4096.0)
    screen = Console(file=StringIO(), width=80)
    for table in frontier_tables([long]):
        screen.print(table)
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert all(text.count(figure) == 2 for figure in (" 64 ", " 4096 ", " 1,234.5 ", " 98,765.4 ", " 1234.567 "))


def test_a_price_by_gpu_makes_a_second_frontier(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "small.yaml").write_text(SMALL + "usd_per_gpu_hour: {rtx-4090: 0.36}\n")
    assert main(["sweep", str(folder / "small.yaml"), "--out", str(folder / "out"), "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert "cost against output tokens/s a user" in told
    assert "output tokens/s a user, which off does not reach at all" in " ".join(told.split())
    most = max(row["output_tokens_per_s_per_gpu"] for row in KeptRows(folder / "out").rows.values())
    assert f"{0.36e6 / 3600 / most:.3f}" in told  # 0.36 USD an hour are 100 USD a million seconds


FIELDS = """speculation.max_draft_tokens: [1, 2, 3, 4, 5]
  workload.arrivals.concurrency: [1, 2, 4, 8, 16, 24, 32, 40, 48, 64]"""
FIVE_HUNDRED = f"""
schema: 1
scenario: tiny.yaml
off: false
grid:
  {FIELDS}
  workload.lengths.prompt_tokens: [16, 32, 48, 64, 96, 128, 160, 192, 224, 256]
"""
FIFTY = f"schema: 1\nscenario: tiny.yaml\nanswer: simulate\noff: false\ngrid:\n  {FIELDS}\n"


@pytest.fixture(scope="module", params=[(FIVE_HUNDRED, 500), (FIFTY, 50)], ids=["closed forms", "simulations"])
def on_this_machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder with a sweep, its number of points, and their rows by processes of this machine under loky/."""
    text, count = request.param
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.yaml").write_text(SCENARIO)
    (folder / "many.yaml").write_text(text)
    assert answered_on("loky", folder) == count
    return folder, count


def answered_on(backend: Backend, folder: Path) -> int:
    asked = read_sweep(folder / "many.yaml")
    return run_points(sweep_points(asked), ANSWERS[asked.answer], KeptRows(folder / backend), backend=backend, jobs=2)


@pytest.mark.full
@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_clusters_answer_as_this_machine_does(
    on_this_machine: tuple[Path, int], backend: Backend, package: str
) -> None:
    skip_without(package, backend)
    folder, count = on_this_machine
    assert answered_on(backend, folder) == count
    assert KeptRows(folder / backend).rows == KeptRows(folder / "loky").rows
