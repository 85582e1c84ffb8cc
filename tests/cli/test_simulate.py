"""``specsim simulate`` from the command line."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import specsim
from specsim.assembly import Assembly, assemble
from specsim.cli.main import main
from specsim.report.served import number
from specsim.results.files import read_run
from specsim.results.intervals import student_interval
from specsim.scenario import load_scenario
from specsim.serving.simulate import simulate
from specsim.serving.uncertainty import predicted_metrics

SIZE = [
    "workload.requests=16",
    "workload.lengths={kind: fixed, prompt_tokens: 32, output_tokens: 12}",
    "cost.source=roofline",  # no profile to load
]
SMALL = ["cpu-144m", *(part for setting in SIZE for part in ("--set", setting))]
OPEN = ["--set", "workload.arrivals={kind: poisson, rate_per_s: 20}"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["simulate", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    status, out, err = run(capsys, *SMALL, *arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_replications_are_the_seeds_own_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *OPEN, "--replications", 3, "--alone")
    own = []
    for seed in (0, 1, 2):
        changes = [*SIZE, OPEN[1], f"seed={seed}"]
        own.append(simulate(assemble(load_scenario("cpu-144m", changes))).summary()["mean_ttft_ms"])
    assert len(set(own)) == 3
    assert found["replications"]["intervals"]["speculation on"]["mean_ttft_ms"] == student_interval(own).as_json()
    assert found["mean_ttft_ms"] == own[0]


def test_paired_differences_are_narrower_than_what_they_compare(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *OPEN, "--replications", 4, "--compare", "engine.max_num_seqs=16")["replications"]
    other = "engine.max_num_seqs=16"
    assert set(found["differences"]) == {"speculation on minus speculation off", f"{other} minus speculation on"}
    means = {name: found["intervals"][name]["output_throughput"]["mean"] for name in found["intervals"]}
    against = found["differences"][f"{other} minus speculation on"]
    assert against["output_throughput"]["mean"] == pytest.approx(means[other] - means["speculation on"])
    for metric in ("duration", "mean_e2el_ms"):
        difference, alone = against[metric], found["intervals"][other][metric]
        assert difference["high"] - difference["low"] < 0.5 * (alone["high"] - alone["low"])


def test_alternatives_face_the_same_requests(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *OPEN)["alternatives"]
    assert found["speculation off"]["total_output_tokens"] == found["speculation on"]["total_output_tokens"]
    assert found["speculation off"]["num_prompts"] == 16


def test_folders_hold_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "--replications", 2, "--out", tmp_path)
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == [
        "speculation-off-seed0",
        "speculation-off-seed1",
        "speculation-on-seed0",
        "speculation-on-seed1",
    ]
    result = read_run(tmp_path / "speculation-on-seed0")
    assert result.summary()["mean_ttft_ms"] == found["mean_ttft_ms"]
    assert json.loads((tmp_path / "speculation-on-seed1" / "summary.json").read_text())["model_id"] == "llama-144m"


def test_one_run_is_written_into_the_folder_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "--alone", "--out", tmp_path)
    assert read_run(tmp_path).summary()["output_throughput"] == found["output_throughput"]


def test_timeline_and_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timeline, table = tmp_path / "t.json.gz", tmp_path / "s.csv"
    found = document(capsys, "--alone", "--timeline", timeline, "--series", table)
    with gzip.open(timeline, "rt") as file:
        assert sum(event["ph"] == "X" for event in json.load(file)["traceEvents"]) == found["steps"]
    lines = table.read_text().splitlines()
    assert lines[0].startswith("start_s,running,waiting,kv_blocks")
    assert 400 < len(lines) < 520


def test_the_load_is_told_as_vllm_does(capsys: pytest.CaptureFixture[str]) -> None:
    closed = document(capsys, "--alone")
    assert (closed["request_rate"], closed["max_concurrency"], closed["burstiness"]) == ("inf", 8, None)
    gamma = "workload.arrivals={kind: gamma, rate_per_s: 3, cv: 2}"
    found = document(capsys, "--alone", "--set", gamma)
    assert (found["request_rate"], found["max_concurrency"], found["burstiness"]) == (3, None, 0.25)


@pytest.mark.parametrize(("option", "kept"), [("50%", 8), ("0.15", 13)])
def test_warmup_drops_early_arrivals(capsys: pytest.CaptureFixture[str], option: str, kept: int) -> None:
    """Sixteen arrivals, 50 ms apart on average."""
    found = document(capsys, *OPEN, "--alone", "--warmup", option)
    assert abs(found["completed"] - kept) <= 3
    assert found["trimmed"]["dropped"] == 16 - found["completed"]
    both = document(capsys, *OPEN, "--alone", "--warmup", option, "--cooldown", "10%")
    assert both["completed"] < found["completed"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--warmup", "soon"], "--warmup 'soon' is neither seconds nor a share below 100 %"),
        (["--warmup", "100%"], "--warmup '100%'"),
        (["--cooldown", "-3"], "--cooldown '-3'"),
        ([*OPEN, "--warmup", "1e9"], "--warmup '1e9'"),
        ([*OPEN, "--warmup", "1000000"], "no finished request arrived"),
        (["--timeline", "t.txt"], "must end in .json.gz"),
        (["--compare", "engine.max_nm_seqs=3"], "unknown field engine.max_nm_seqs"),
        (["--replications", "0"], "replications"),
        (["--set", "workload={kind: trace, path: absent.csv}"], "there is no trace absent.csv"),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str) -> None:
    status, out, err = run(capsys, *SMALL, *arguments)
    assert status == 2
    assert out == ""
    assert fault in err
    assert len(err.strip().splitlines()) == 1


def test_a_trace_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,20,8\n2,40,16\n")
    status, _, err = run(capsys, "cpu-144m", "--set", f"workload={{kind: trace, path: {path}}}", "--alone")
    assert status == 0
    assert "(plain): 2 requests over 2 s, mean 30 tokens in, 12 out" in err
    path.write_text('[{"conversations": [{"from": "human", "value": "12345678"}, {"from": "gpt", "value": "1234"}]}]')
    changes = ("--set", f"workload.lengths={{kind: trace, path: {path}}}", "--set", SIZE[0], "--set", SIZE[2])
    status, _, err = run(capsys, "cpu-144m", *changes, "--alone")
    assert status == 0
    assert "(sharegpt): 1 requests, mean 2 tokens in, 1 out, lengths estimated at 4 characters a token" in err


def test_replications_that_cannot_differ_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,20,8\n2,40,16\n")
    changes = ("--set", f"workload={{kind: trace, path: {path}}}", "--set", "speculation=null", "--set", SIZE[2])
    status, out, err = run(capsys, "cpu-144m", *changes, "--replications", 2)
    assert status == 0
    assert re.search(r"\d ± \d", out) is None  # intervals of no width
    assert "nothing in this scenario is drawn by the seed" in err


def test_ctrl_c_between_runs_prints_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third replication of the second alternative is stopped; two whole pairs are left."""
    calls = []

    def stopped(assembly: Assembly, **options: Any) -> Any:
        calls.append(assembly.seed)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return simulate(assembly, **options)

    monkeypatch.setattr("specsim.serving.simulate.simulate", stopped)
    status, out, err = run(capsys, *SMALL, "--replications", 5, "--json")
    assert status == 0
    assert calls == [0, 0, 1, 1, 2, 2]
    assert json.loads(out)["replications"]["intervals"]["speculation on"]["duration"]["count"] == 2
    assert "stopped by Ctrl-C" in err


def test_ctrl_c_within_the_only_run_prints_what_it_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(assembly: Assembly, **options: Any) -> Any:
        result = simulate(assembly, **options)
        result.requests, result.truncated, result.interrupted = result.requests[:3], True, True
        return result

    monkeypatch.setattr("specsim.serving.simulate.simulate", stopped)
    status, out, err = run(capsys, *SMALL, "--alone", "--json")
    found = json.loads(out)
    assert (status, found["completed"], found["truncated"]) == (0, 3, True)
    assert "counts what it had finished" in err
    status, out, _ = run(capsys, *SMALL)  # stopped in the run asked for, which comes first: that one is all there is
    assert status == 0
    assert "speculation on" in out
    assert "speculation off" not in out


def test_ctrl_c_within_a_replication_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(assembly: Assembly, **options: Any) -> Any:
        result = simulate(assembly, **options)
        result.interrupted = assembly.seed == 2
        return result

    monkeypatch.setattr("specsim.serving.simulate.simulate", stopped)
    status, out, err = run(capsys, *SMALL, "--alone", "--replications", 5, "--json")
    assert status == 0
    assert json.loads(out)["replications"]["intervals"]["speculation on"]["duration"]["count"] == 2
    assert "left out" in err


def test_ctrl_c_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(assembly: Assembly, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("specsim.serving.simulate.simulate", stopped)
    status, out, _ = run(capsys, *SMALL)
    assert status == 130
    assert out == ""


def test_intervals_are_the_predictions_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the first run, not in place of it, and around it for each alternative."""
    found = document(capsys, *OPEN, "--intervals", 8)
    own = predicted_metrics(
        assemble(load_scenario("cpu-144m", [*SIZE, OPEN[1]])), ["median_tpot_ms"], runs=8, vary_acceptance=True
    )
    assert set(found["intervals"]) == {"speculation on", "speculation off"}
    assert found["intervals"]["speculation on"]["median_tpot_ms"] == asdict(own["median_tpot_ms"])
    for name, metrics in found["intervals"].items():
        tpot = metrics["median_tpot_ms"]
        assert tpot["value"] == found["alternatives"][name]["median_tpot_ms"]
        assert tpot["low"] < tpot["value"] < tpot["high"]
    status, out, _ = run(capsys, *SMALL, *OPEN, "--alone", "--intervals", 8)
    assert status == 0
    assert f"({number(own['median_tpot_ms'].low)} to {number(own['median_tpot_ms'].high)})" in out


def test_intervals_leave_out_the_warm_up_too(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *OPEN, "--alone", "--intervals", 8, "--warmup", "50%")
    assert found["intervals"]["speculation on"]["completed"]["value"] == found["completed"] < 16


def test_an_odd_number_of_interval_runs_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, *SMALL, "--intervals", 7)
    assert (status, out) == (2, "")
    assert err.startswith("specsim: 7 runs make no interval")


def test_compilation_is_told_on_one_line(tmp_path: Path) -> None:
    """Before it begins, on a machine without compiled code."""
    code = {"PYTHONPATH": str(Path(specsim.__file__).parents[1])}
    home = os.environ | code | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    command = [sys.executable, "-m", "specsim.cli.main", "simulate", *SMALL, "--alone"]
    with subprocess.Popen(command, env=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.kill()
        assert "compiling" in first
        assert "compiling" not in process.stderr.read()


def test_compilation_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Another process finds the code in the cache."""
    run(capsys, *SMALL, "--alone")
    home = os.environ | {"PYTHONPATH": str(Path(specsim.__file__).parents[1])}
    command = [sys.executable, "-m", "specsim.cli.main", "simulate", *SMALL, "--alone"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, check=True)
    assert "requests" in done.stderr + done.stdout
    assert "compiling" not in done.stderr


def test_it_names_the_price_source_that_predict_names(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *SMALL)
    assert status == 0
    assert document(capsys)["prices"] == "roofline"
    assert main(["predict", *SMALL]) == 0
    told = [
        next(line for line in " ".join(text.split()).split(". ") if line.startswith("Prices: "))
        for text in (out, capsys.readouterr().out)
    ]
    assert told[0] == told[1]
    assert "by roofline, worst source of a step: roofline" in told[0]


def test_an_impossible_alternative_costs_only_itself(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--set=workload.requests=4", "--alone"]
    changes = ["--compare=speculation.max_draft_tokens=2", "--compare=engine.num_kv_blocks=2"]
    assert main(["simulate", "cpu-144m", *short, *changes, "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)["alternatives"]
    assert list(found) == ["speculation on", "speculation.max_draft_tokens=2"]
    assert "left out, engine.num_kv_blocks=2: request 0 needs room" in shown.err
