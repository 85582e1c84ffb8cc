"""The command line as a stranger meets it: answers, JSON, and one clear line for every mistake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from specsim.cli.main import main
from specsim.cli.options import messages
from specsim.profiles.store import profile_names, profiles_folder
from specsim.version import __version__

SCENARIO: dict[str, Any] = {
    "schema": 1,
    "name": "small",
    "model": "llama-3.1-8b",
    "gpu": "h200",
    "speculation": {
        "program": "draft-model",
        "draft_model": "llama-3.2-1b",
        "max_draft_tokens": 4,
        "acceptance": {"kind": "constant", "rate": 0.7},
    },
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
        "lengths": {"kind": "fixed", "prompt_tokens": 64, "output_tokens": 16},
        "requests": 40,
    },
}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(SCENARIO))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_predict_prints_the_contracted_json(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "predict", scenario, "--json")
    document = json.loads(out)
    assert status == 0
    assert {"grid", "best", "break_even_batch", "never_breaks_even"} <= set(document)
    assert set(document["grid"][0]) == {
        "batch", "draft_tokens", "context_tokens", "round_s", "round_low_s", "round_high_s", "tokens_per_round",
        "step_s", "output_tokens_per_s", "speedup", "low", "high", "source", "bound", "parts",
    }  # fmt: skip
    assert len(document["grid"]) == 11 * 5  # batches 1 to 1,024, vLLM's max_num_seqs on an H200
    assert document["serving_engine"]["kind"] == "vllm"
    assert {cell["source"] for cell in document["grid"]} <= {"measured", "interpolated", "extrapolated", "roofline"}


def test_answers_state_the_roles_of_replicas(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The link is the hardware's network where none is given; a decode replica's map has no prompts to price."""
    pools = ("--set", "deployment.disaggregation.prefill_replicas=2", "--set", "workload.requests=20")
    for verb in ("predict", "simulate"):
        status, out, _ = run(capsys, verb, scenario, *pools, "--json")
        deployment = json.loads(out)["deployment"]
        assert status == 0
        assert deployment["replicas"] == 3
        assert deployment["disaggregation"] == {
            "prefill_replicas": 2, "decode_replicas": 1,
            "kv_link": {"bandwidth_bytes_per_s": 50e9, "latency_s": 0.0},
        }  # fmt: skip
        _, out, _ = run(capsys, verb, scenario, *pools)
        assert "Pools: 2 prefill and 1 decode replicas" in out
    assert json.loads(run(capsys, "simulate", scenario, *pools, "--json")[1])["kv_transfers"] == 20
    _, alone, _ = run(capsys, "predict", scenario, "--decode-only", "--json")
    _, pooled, _ = run(capsys, "predict", scenario, *pools, "--json")
    assert json.loads(alone)["grid"] == json.loads(pooled)["grid"]


def test_set_overrides_any_field(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("--set", "speculation.acceptance.rate=0", "--set", "engine.max_num_seqs=2")
    _, out, _ = run(capsys, "predict", scenario, "--json", *changes)
    document = json.loads(out)
    assert document["break_even_batch"] is None
    assert [best["batch"] for best in document["best"]] == [1, 2]


def test_simulate_uses_the_keys_of_vllm_bench_serve(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "simulate", scenario, "--json")
    document = json.loads(out)
    assert status == 0
    assert document["completed"] == 40
    assert document["total_output_tokens"] == 40 * 16
    assert document["mean_ttft_ms"] > 0
    counts = document["spec_decode_acceptance_counts"]
    assert sum(j * n for row in counts.values() for j, n in enumerate(row)) == document["spec_decode_accepted_tokens"]
    assert {"request_throughput", "output_throughput", "p99_tpot_ms", "median_itl_ms", "mean_e2el_ms"} <= set(document)
    assert set(document["alternatives"]) == {"speculation off", "speculation on"}


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "specsim", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"specsim {__version__}\n"


def test_report_is_one_page_with_nothing_to_fetch(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    status, _, _ = run(capsys, "report", scenario, "--by-formula", "--out", page)
    text = page.read_text()
    assert status == 0
    assert "ON at batch" in text
    assert "the mean at 20 requests/s" in text
    assert "plotly" in text
    assert "<script src=" not in text
    assert "<link" not in text


def changed(tmp_path: Path, **fields: Any) -> Path:
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(SCENARIO | fields))
    return path


@pytest.mark.parametrize(
    ("settings", "status", "pattern"),
    [
        (["model=lama-3.1-8b"], 2, "unknown model 'lama-3.1-8b'; did you mean llama-3.1-8b"),
        (["gpu=h2000"], 2, "did you mean h200"),
        (["speculation.program=draft-mode"], 2, "did you mean draft-model"),
        (["workload.arrivals.rate_per_s=-3"], 2, "rate_per_s is -3"),
        (["speculation.program=none", "speculation.max_draft_tokens=3"], 2, "drafts nothing"),
        (["speculation.draft_model="], 2, "needs a draft_model"),
        (["speculation.acceptance.rate=1.5"], 2, "rate is 1.5"),
        (["speculation.max_draft_tokens=4", "speculation.policy={kind: fixed, k: 9}"], 2, "up to 9 tokens"),
        (["speculation.acceptance={kind: conditional, rates: [0.9]}"], 2, "gives 1 conditional rates and 4 tokens"),
        (["enginee.max_num_seqs=4"], 2, "did you mean engine"),
        (["model=llama-3.3-70b", "gpu=l40s"], 3, "do not fit"),
        (["cost.profile=cpu-nothing"], 2, "unknown profile"),
        (["nonsense"], 2, "is not path.to.field=value"),
        (["workload={kind: trace, path: absent.csv}"], 2, "absent.csv"),
    ],
)
def test_one_line_a_mistake(
    scenario: Path, capsys: pytest.CaptureFixture[str], settings: list[str], status: int, pattern: str
) -> None:
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, out, err = run(capsys, "predict", scenario, *arguments)
    assert code == status, err
    assert out == ""
    assert pattern in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["predict", "missing.yaml"], "missing.yaml"),
        (["predict", "cpu-144"], "did you mean cpu-144m"),
        (["predict", "cpu-144m", "--context", "-5"], "a context of -5 tokens"),
        (["predict", "cpu-144m", "--context", "inf"], "a context of inf tokens"),
        (["predict", "cpu-144m", "--batch", "0"], "a batch of 0 sequences"),
        (
            ["predict", "cpu-144m", "--batches", "1,x"],
            "--batches '1,x': it should be a list of whole numbers",
        ),
        (["predict", "cpu-144m", "--set", "speculation.max_draft_tokens=100000000"], "less than or equal to 256"),
        (["quickstart", "--out", "/proc/nowhere"], "choose a path that can be used"),
        (["predict"], "neither a scenario nor --model"),
        (["prediction", "x"], "No such command"),
        (["validate", "cpu-imposed-acceptanse"], "did you mean cpu-imposed-acceptance"),
        (["profile", "show", "nothing-like-it"], "unknown profile"),
        (["profile", "run", "--device", "tpu"], "neither cpu nor cuda"),
    ],
)
def test_one_line_for_a_wrong_command(capsys: pytest.CaptureFixture[str], arguments: list[str], pattern: str) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert pattern in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        (
            ["predict", "--draft-tokens", "0", "--rate", "fast", "--tp", "0"],
            ["--tp '0'", "--draft-tokens '0'", "--rate 'fast'"],
        ),
        (["dashboard", "--port", "99999"], ["--port '99999': it should be less than or equal to 65535"]),
        (
            ["tune", "--for", "x", "--batches", "y", "--contexts", "z"],
            ["--for 'x': it is not one of", "--batches 'y'", "--contexts 'z'"],
        ),
        (
            ["plan", "--tp", "0", "--loads", "", "--price", "h100", "--price", "h200=3", "--price", "l40s=-1"],
            ["--tp '0'", "--loads ''", "--price 'h100': it is not GPU=USD", "--price 'l40s=-1': '-1' is no price"],
        ),
        (
            ["predict", "--model", "nomodel", "--gpu", "nogpu", "--drafter", "nodraft", "--tpot-p95", "soon"],
            [
                "unknown model 'nomodel'",
                "unknown hardware 'nogpu'",
                "unknown drafter 'nodraft'",
                "'soon' is no time",
            ],
        ),
        (
            ["plan", "--months", "3", "--spot", "--model", "nomodel", "--gpu", "h100"],
            ["--months 3", "--spot says which prices", "unknown model 'nomodel'"],
        ),
        (
            ["report", "--growth", "2", "--by-formula", "--spot", "--model", "llama-3.1-8b", "--gpu", "nogpu"],
            ["--growth asks for a plan", "--spot says which prices", "unknown hardware 'nogpu'"],
        ),
        (["validate", "--minutes", "3", "--vllm", "x", "--rows"], ["leave out --vllm, --minutes", "leave out --rows"]),
        (["validate", "gpu", "--here", "--draft-lengths", "1"], ["leave out --here, --draft-lengths"]),
        (["validate", "--out", "x"], ["--out x is where --here and --engine write"]),
    ],
)
def test_all_that_is_wrong_is_told_at_once_with_its_value(
    capsys: pytest.CaptureFixture[str], arguments: list[str], faults: list[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(fault in err for fault in faults), err
    assert err.startswith(f"specsim: {len(faults)} faults: (1) ") or len(faults) == 1


@pytest.mark.parametrize("context", ["1e99", "1e300"])
def test_a_context_that_no_cache_holds_is_told_in_one_short_line(
    capsys: pytest.CaptureFixture[str], context: str
) -> None:
    code, _, err = run(capsys, "predict", "cpu-144m", "--context", context)
    assert (code, err.count("\n")) == (3, 1)
    assert f"a sequence of {float(context):g} tokens does not fit: the KV cache holds " in err
    assert len(err) < 150


def test_what_the_largest_rate_does_not_heed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--max-rate", "--model", "llama-3.1-8b", "--gpu", "h100", "--ttft-p95", "1"]
    code, _, err = run(capsys, *asked, "--concurrency", "5", "--price", "h100=2", "--weight-bits", "8")
    assert code == 2
    assert "looks for the load itself; drop --concurrency" in err
    assert "drop --weight-bits and --price" in err


def test_a_request_too_long_for_the_cache_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "simulate", "cpu-144m", "--set", "engine.num_kv_blocks=3")
    assert code == 3
    assert "the KV cache holds 32" in err  # three blocks of 16, one of them the null block
    assert err.count("\n") == 1


def test_a_corrupt_profile_row_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "profile"
    shutil.copytree(profiles_folder() / profile_names()[0], folder)
    table = folder / "gemm.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines[:4], lines[4].replace(",eager,", ",eager,-"), *lines[5:]]))
    code, _, err = run(capsys, "predict", "cpu-144m", "--set", f"gpu={folder}")
    assert code == 2
    assert "gemm.csv:5" in err
    assert err.count("\n") == 1


def test_a_profile_folder_as_gpu_prices_its_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(profiles_folder() / profile_names()[0], folder)
    code, out, _ = run(capsys, "predict", "cpu-144m", "--set", f"gpu={folder}", "--json")
    assert code == 0
    assert json.loads(out)["prices"] == "mine"


def test_a_folder_named_like_a_gpu_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere" / "h200").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, err = run(capsys, "predict", scenario)
    assert code == 0, err


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specsim.analytic.load.answered_map", interrupted)
    code, _, err = run(capsys, "predict", "cpu-144m")
    assert code == 130
    assert err.strip().startswith("specsim: stopped by Ctrl-C")


def test_an_empty_trace_is_refused(scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "empty.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    path = changed(tmp_path, workload={"kind": "trace", "path": str(trace)})
    code, _, err = run(capsys, "simulate", path)
    assert code == 2
    assert "empty.csv" in err
    assert err.count("\n") == 1


def test_predict_without_a_drafter_tells_what_plain_decoding_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(tmp_path, speculation=None)
    code, out, err = run(capsys, "predict", path)
    assert code == 0, err
    assert out.startswith("NO DRAFTER")
    assert "k=0" not in out
    code, out, _ = run(capsys, "predict", path, "--json")
    assert code == 0
    assert {cell["draft_tokens"] for cell in json.loads(out)["grid"]} == {0}


def test_messages_are_lines_whatever_the_terminals_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path of 300 characters stays in one piece where it can be copied from, at 40 columns too."""
    monkeypatch.setenv("COLUMNS", "40")
    messages().print(f"wrote {'long/' * 60} and more")
    assert capsys.readouterr().err.splitlines() == [f"wrote {'long/' * 60} and more"]
