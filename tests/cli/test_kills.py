"""A command that is killed loses nothing that it had done, and the same command goes on from there."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.profiles.rows import read_rows
from specsim.profiles.schema import SHAPE_COLUMNS
from specsim.profiles.store import load_profile
from specsim.results.files import read_run

SPECSIM = [sys.executable, "-m", "specsim.cli.main"]
KILLS = 50  # of each kind


def killed_after(arguments: list[str], seconds: float) -> bool:
    """Run a command and kill it after a time; whether it was still running. It does not fail by itself."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([*SPECSIM, *arguments], stdout=subprocess.DEVNULL, stderr=errors)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
        errors.seek(0)
        assert process.returncode == 0, errors.read().decode()
    return False


@pytest.mark.full
def test_a_run_that_was_killed_is_refused_or_whole(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["simulate", "cpu-144m", "--alone", "--set=workload.requests=3000", f"--out={out}"]
    began = time.monotonic()
    assert not killed_after(command, 600.0)
    whole, took = read_run(out), time.monotonic() - began
    chance = random.Random(7)
    for _ in range(KILLS):
        killed_after(command, took * chance.uniform(0.5, 1.0))  # around the writing, which ends it
        try:
            assert len(read_run(out).requests) == len(whole.requests)
        except InvalidInput as error:
            assert "there is no file" in str(error) or "half a run" in str(error)  # noqa: PT017
    assert not killed_after(command, 600.0)
    assert read_run(out).requests == whole.requests


@pytest.mark.torch
@pytest.mark.full
def test_a_map_that_was_killed_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    table = tmp_path / "measured.csv"
    tiny = "{name: tiny, source: a test, num_layers: 1, hidden_size: 64, num_heads: 4, num_kv_heads: 2, head_dim: 16, "
    tiny += "intermediate_size: 128, vocab_size: 16384}"
    settings = [
        f"--set=model={tiny}",
        f"--set=speculation.draft_model={tiny.replace('tiny', 'tinier')}",
        "--set=engine.max_num_seqs=2",
        "--set=speculation.max_draft_tokens=2",
        "--set=workload.lengths={kind: fixed, prompt_tokens: 8, output_tokens: 8}",
    ]
    command = ["measure", "cpu-144m", "--grid", *settings, "--repeats=2", "--cell-seconds=0.1", f"--out={table}"]
    began = time.monotonic()
    assert not killed_after(command, 600.0)
    took, chance, rows = time.monotonic() - began, random.Random(3), 12
    for _ in range(KILLS):
        if rows == 12:  # all measured: begin anew
            table.unlink()
            rows = 0
        killed_after(command, took * chance.uniform(0.5, 1.0))
        found = _keys(table)
        assert len(found) >= rows  # nothing is lost
        rows = len(found)
    assert not killed_after(command, 600.0)
    found = _keys(table)
    assert len(found) == len(set(found)) == 2 * 2 * 3  # repeats, batches 1 and 2, k of 0 to 2: nothing is doubled


@pytest.mark.torch
@pytest.mark.full
def test_a_profile_that_was_killed_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folder = tmp_path / "profile"
    command = ["profile", "run", "--device=cpu", "--quick", "--minutes=1", f"--out={folder}"]
    began = time.monotonic()
    while not _measured(folder):
        assert killed_after(command, 20.0 + time.monotonic() - began)  # long enough for its first rows
    start_s, chance, before = time.monotonic() - began, random.Random(5), set(_measured(folder))
    for _ in range(KILLS):
        killed_after(command, chance.uniform(0.3 * start_s, start_s + 20.0))
        found = _measured(folder)
        assert len(found) == len(set(found))  # nothing is doubled
        assert before <= set(found)  # nothing is lost
        before = set(found)
    assert not killed_after(command, 600.0)
    profile = load_profile(f"{folder}/")
    assert before <= {(kind, *row.key()) for kind, rows in profile.rows.items() for row in rows}


def _measured(folder: Path) -> list[tuple[object, ...]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a last line that was cut off
        return [(kind, *row.key()) for kind in SHAPE_COLUMNS for row in read_rows(folder / f"{kind}.csv", kind)]


def _keys(table: Path) -> list[tuple[str, str, str]]:
    if not table.exists():
        return []
    lines = [line for line in table.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [(row["repeat"], row["batch"], row["draft_tokens"]) for row in csv.DictReader(lines)]
