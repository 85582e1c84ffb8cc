"""Served cases on an engine's server, with the stand-in: what is kept, refused and left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from specsim.cases import Case, load_case, write_prediction
from specsim.cli.engine_served import measure_engine_served
from specsim.cli.measure_engine import RealEngine
from specsim.errors import InvalidInput, NoAnswer
from specsim.results.served_rows import load_rows
from tests.engines.stand_in import assert_none_left, write_python, write_question

pytest.importorskip("aiohttp", reason="the load needs aiohttp")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealEngine:
    python = tmp_path / "python"
    write_python(python)
    machine = type(
        "Machine",
        (),
        {
            "default_dtype": "bfloat16",
            "facts": {"device_name": "made", "versions": {"torch": "2"}},
            "__init__": lambda *_: None,
            "probe_s": lambda *_: 1e-3,
        },
    )
    monkeypatch.setattr("specsim.cli.engine_served.EngineMachine", machine)
    monkeypatch.setenv("FAKE_PIDS", str(tmp_path / "pids"))
    return RealEngine("vllm", python, tmp_path / "target", tmp_path / "draft", None)


@pytest.fixture
def case(tmp_path: Path) -> Callable[[], Case]:
    folder = tmp_path / "case"
    folder.mkdir()
    write_question(
        folder / "scenario.yaml", tmp_path, max_num_seqs=4, requests=6, arrivals="{kind: poisson, rate_per_s: 9}"
    )
    (folder / "loads.yaml").write_text(
        """
alternatives: {"off": ["speculation=null"], k3: []}
loads: {half: {kind: poisson, rate_per_s: 0.5}}
saturation_of: "off"
repeats: 1
"""
    )
    return lambda: load_case(f"{folder}/")


def test_saturation_then_prediction_then_loads(engine: RealEngine, case: Callable[[], Case], tmp_path: Path) -> None:
    assert measure_engine_served(case(), "saturation", engine, None)
    rows = load_rows(case().saturation)
    assert {(row.load, row.alternative) for row in rows} == {("saturation", "off"), ("saturation", "k3")}
    assert all(row.metrics["completed"] == 6 for row in rows)
    with pytest.raises(InvalidInput, match=r"there is no .*predicted\.json|predict before measuring"):
        measure_engine_served(case(), "loads", engine, None)
    write_prediction(case())
    assert measure_engine_served(case(), "loads", engine, None)
    by = {row.alternative: row for row in load_rows(case().measured)}
    assert by["k3"].metrics["spec_decode_acceptance_length"] == 2.5  # the stand-in's rounds of 1, 2, 3, 4 tokens
    assert by["off"].metrics["spec_decode_acceptance_length"] is None
    assert case().engine == "vllm, served"
    stamp = case().measured.read_text()
    assert measure_engine_served(case(), "loads", engine, None)
    assert case().measured.read_text() == stamp
    assert_none_left(tmp_path / "pids")


def test_time_that_is_up_keeps_what_was_measured(engine: RealEngine, case: Callable[[], Case]) -> None:
    assert not measure_engine_served(case(), "saturation", engine, 0.0)
    assert not case().saturation.exists()
    assert measure_engine_served(case(), "saturation", engine, 5.0)
    assert len(load_rows(case().saturation)) == 2


def test_a_server_that_dies_leaves_rows_and_no_process(
    engine: RealEngine, case: Callable[[], Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "breaks")
    with pytest.raises(NoAnswer, match="has ended: RuntimeError: out of luck"):
        measure_engine_served(case(), "saturation", engine, None)
    assert_none_left(tmp_path / "pids")
    monkeypatch.setenv("FAKE_VLLM", "")
    assert measure_engine_served(case(), "saturation", engine, None)
    assert len(load_rows(case().saturation)) == 2
