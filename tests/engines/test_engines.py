"""Runs on an engine's server, with a stand-in for the server: what is sent, counted, said and left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from specsim.engines import VLLM, Arms, Checkpoints, SGLang, engine_python
from specsim.engines.blocks import measure_blocks, ratios, read_runs
from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.vllm import read_vllm
from specsim.results import AcceptanceCounts, RequestRecord, RunResult
from specsim.scenario import Scenario, load_scenario
from tests.engines.stand_in import assert_none_left, write_python, write_question

pytest.importorskip("aiohttp", reason="the load needs aiohttp")


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """A virtual environment whose Python runs the stand-in, whatever module it is asked for."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    write_python(python)
    return tmp_path / "venv"


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Scenario]:
    """A scenario on a GPU, where vLLM imposes acceptance on random weights."""
    write_question(
        tmp_path / "question.yaml",
        tmp_path,
        max_num_seqs=8,
        requests=12,
        arrivals="{kind: closed_loop, concurrency: 3}",
    )
    return lambda *settings: load_scenario(str(tmp_path / "question.yaml"), settings)


@pytest.fixture
def folders(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "target", tmp_path / "draft")


def serving(installation: Path, folder: Path, **kwargs: object) -> Arms:
    return Arms(VLLM(), engine_python(installation), folder / "out", ready_s=20, **kwargs)  # type: ignore[arg-type]


def test_a_run_counts_what_the_server_did(
    installation: Path, ask: Callable[..., Scenario], folders: Checkpoints, tmp_path: Path
) -> None:
    """Rounds of 1, 2, 3 and 4 tokens make 10: each request is four rounds, of 0 to 3 accepted drafts."""
    with serving(installation, tmp_path) as arms:
        on, off = (arms.serve(one, folders) for one in (ask(), ask().without_speculation()))
    assert on.acceptance.rounds == {3: {0: 12, 1: 12, 2: 12, 3: 12}}  # the warm-up's four requests are not in it
    assert on.acceptance.acceptance_length() == 2.5
    assert off.acceptance.rounds == {}
    assert on.num_kv_blocks == off.num_kv_blocks == 512
    for run, chunks in ((on, 4), (off, 10)):
        assert [r.request_id for r in run.requests] == list(range(12))
        assert all(r.output_tokens == 10 and r.arrival_s < r.first_token_s < r.finish_s for r in run.requests)
        assert len(run.itl_s) == 12 * (chunks - 1)
        in_flight = [sum(a.arrival_s <= b.arrival_s < a.finish_s for a in run.requests) for b in run.requests]
        assert max(in_flight) == 3  # the clients of the closed loop
    assert off.duration_s > on.duration_s
    assert sorted(path.name for path in (tmp_path / "out").glob("*.prom")) == [
        f"run-00{n}-{when}.prom" for n in (0, 1) for when in ("after", "before")
    ]


def test_requests_of_an_open_loop_are_sent_at_their_times(
    installation: Path, ask: Callable[..., Scenario], folders: Checkpoints, tmp_path: Path
) -> None:
    question = ask("workload.arrivals={kind: poisson, rate_per_s: 40}")
    wanted = [request.arrival_s for request in question.requests()]
    with serving(installation, tmp_path) as arms:
        sent = [record.arrival_s for record in arms.serve(question, folders).requests]
    assert all(late is not None and late <= real < late + 5 for late, real in zip(wanted, sent, strict=True))


def test_one_server_serves_every_load_of_a_configuration(
    installation: Path, ask: Callable[..., Scenario], folders: Checkpoints, tmp_path: Path
) -> None:
    started = list[str]()
    with serving(installation, tmp_path, starting=started.append) as arms:
        for loads in (2, 3):
            arms.serve(ask(f"workload.arrivals.concurrency={loads}"), folders)
        arms.serve(ask("engine.max_num_seqs=4"), folders)
    assert len(started) == 2


def test_blocks_alternate_resume_and_compare(ask: Callable[..., Scenario], tmp_path: Path) -> None:
    arms = {"on": ask(), "off": ask().without_speculation()}
    order = list[str]()

    def serve(scenario: Scenario) -> RunResult:
        order.append("off" if scenario.speculation is None else "on")
        if len(order) == 3:
            raise NoAnswer("the server has gone")
        duration_s = 2.0 if order[-1] == "off" else 1.0
        request = RequestRecord(0, "default", 0.0, 0.5, duration_s, 20, 10)
        return RunResult(
            engine="vllm",
            scenario_sha256=scenario.sha256(),
            duration_s=duration_s,
            requests=[request],
            steps=[],
            itl_s=np.zeros(0),
            acceptance=AcceptanceCounts(),
            price_source="wall clock",
        )

    with pytest.raises(NoAnswer):
        list(measure_blocks(arms, serve, tmp_path, 2))
    list(measure_blocks(arms, serve, tmp_path, 2))
    assert order == ["on", "off", "off", "off", "on"]
    runs = read_runs(tmp_path, arms)
    assert [(run.block, run.arm) for run in runs] == [(0, "on"), (0, "off"), (1, "off"), (1, "on")]
    assert ratios(runs, "output_throughput", "on", "off") == [2.0, 2.0]
    with pytest.raises(InvalidInput, match="another scenario"):
        read_runs(tmp_path, arms | {"on": ask("seed=1")})


TROUBLES = {
    "dies": "ended with status 1: ValueError: no such model here",
    "breaks": "has ended: RuntimeError: out of luck",
    "short": r"gave request \d 9 tokens and was asked for 10",
    "refuses": r"refused request \d .* with status 400: .*too long",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_server_in_trouble_is_one_line_and_no_process_is_left(
    trouble: str,
    installation: Path,
    ask: Callable[..., Scenario],
    folders: Checkpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_VLLM", trouble)
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    with pytest.raises(NoAnswer, match=TROUBLES[trouble]), serving(installation, tmp_path) as arms:
        arms.serve(ask("workload.arrivals.concurrency=1"), folders)
    assert_gone(tmp_path / "pids")


def test_a_server_that_is_never_ready_is_given_up(
    installation: Path,
    ask: Callable[..., Scenario],
    folders: Checkpoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "hangs")
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    with (
        Arms(VLLM(), engine_python(installation), tmp_path / "out", ready_s=2) as arms,
        pytest.raises(NoAnswer, match="not ready after 2 s"),
    ):
        arms.serve(ask(), folders)
    assert_gone(tmp_path / "pids")


def test_a_taken_port_is_said(
    installation: Path, ask: Callable[..., Scenario], folders: Checkpoints, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with (
            serving(installation, tmp_path, port=other.getsockname()[1]) as arms,
            pytest.raises(NoAnswer, match=r"port \d+ is in use .*--port"),
        ):
            arms.serve(ask(), folders)


def test_a_killed_command_leaves_no_server(installation: Path, ask: Callable[..., Scenario], tmp_path: Path) -> None:
    """SIGKILL, which nothing can catch: the guard holds the other end of a pipe."""
    ask()
    pids = tmp_path / "pids"
    command = [
        sys.executable, "-m", "specsim.cli.main", "measure", str(tmp_path / "question.yaml"), "--engine", "vllm",
        "--vllm", str(installation), "--model", str(tmp_path / "target"), "--draft-model", str(tmp_path / "draft"),
        "--out", str(tmp_path / "out"), "--set", "workload.requests=1000",
    ]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "FAKE_PIDS": str(pids)}, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not pids.exists() or len(pids.read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_gone(pids)


def test_what_vllm_cannot_do_is_said_before_it_starts(
    ask: Callable[..., Scenario], folders: Checkpoints, tmp_path: Path
) -> None:
    with pytest.raises(NoAnswer, match="none of the engines"):
        VLLM().launch(ask("speculation={program: kangaroo, max_draft_tokens: 3}"), folders, 1)
    with pytest.raises(NoAnswer, match="CPU edition cannot impose an acceptance"):
        VLLM().launch(ask("gpu=cpu-generic", "engine.num_kv_blocks=64"), folders, 1)
    with pytest.raises(InvalidInput, match=r"--vllm .* no Python there"):
        engine_python(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match=r"1 layers .* 2 layers"):
        Checkpoints.of(ask(), tmp_path / "draft", tmp_path / "draft")
    with pytest.raises(InvalidInput, match="--draft-model"):
        Checkpoints.of(ask(), tmp_path / "target", None)
    with pytest.raises(InvalidInput, match="--model FOLDER"):
        Checkpoints.of(ask(), None, None)


def test_the_command_line_says_what_the_scenario_says(ask: Callable[..., Scenario], folders: Checkpoints) -> None:
    launch = VLLM().launch(ask(), folders, 8123)
    config = read_vllm(list(launch.arguments))
    assert config.num_speculative_tokens == 3
    assert config.draft_model == str(folders.drafter)
    assert config.acceptance_rates == (0.5, 0.25, 0.125)  # unconditional, as vLLM takes them
    # 20 + 10 positions, a step's three drafts, as many to come, and the bonus
    assert config.limits == {"max_num_seqs": 8, "num_kv_blocks": 512, "max_model_len": 37}
    assert launch.arguments.count("--max-model-len") == 1
    sglang = SGLang().launch(ask(), folders, 8123)
    assert sglang.environment["SGLANG_SIMULATE_ACC_LEN"] == "1.875"
    assert "STANDALONE" in sglang.arguments


def test_streams_are_read_as_each_engine_writes_them() -> None:
    """vLLM's chunks hold new tokens, SGLang's events say how many there are."""
    vllm, sglang = VLLM(), SGLang()
    assert vllm.tokens({"choices": [{"token_ids": [1, 2, 3]}]}, 4) == 7
    assert vllm.tokens({"choices": [{"token_ids": None}]}, 4) == 4
    assert vllm.tokens({"choices": [], "usage": {}}, 4) == 4
    assert sglang.tokens({"meta_info": {"completion_tokens": 7}}, 4) == 7
    assert sglang.tokens({}, 4) == 4


def assert_gone(pids: Path) -> None:
    """The one server of the file and its worker do not live."""
    assert len(pids.read_text().split()) == 2
    assert_none_left(pids)
