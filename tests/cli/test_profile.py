"""``specsim profile`` show, check, import and merge, as typed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from specsim.cli.profile import app
from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, ProfileHeader, Row
from specsim.profiles.store import load_profile, write_profile
from specsim.specs.catalog import load_hardware

H200 = load_hardware("h200")
SIZES = (64.0, 256.0, 1024.0, 4096.0, 16384.0)


def header(gpu: str = "made") -> ProfileHeader:
    return ProfileHeader(
        schema=1, gpu=gpu, device_name="made", device="cuda", threads=1, clocks="-", driver="-", versions={},
        date="2026-01-01", attribution="a test", last_level_cache_bytes=2**20, memory_bytes=10**11, launch_s=1e-6,
        ceilings=Ceilings(copy_bytes_per_s=1e12, flops_per_s={"bfloat16": 1e14}),
    )  # fmt: skip


def gemm(factor: float = 1.0) -> list[Row]:
    """A machine of constant efficiency, the roots of squares of its two bounds."""
    rows = []
    for m, n, k in itertools.product((1.0, 4.0, 16.0, 64.0), SIZES, SIZES):
        seconds = factor * (1e-6 + 2 * float(np.hypot(2 * (n * k + m * (n + k)) / 1e12, 2 * m * n * k / 1e14)))
        rows.append(Row((m, n, k), "", "bfloat16", "made", "cold", "graph", seconds, seconds, seconds, 9))
    return rows


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    write_profile(tmp_path / "p", header(), {"gemm": gemm()})
    return tmp_path / "p"


def test_show_names_the_source_and_the_rows(profile: Path) -> None:
    shown = run("show", f"{profile}/")
    assert shown.exit_code == 0
    assert "source: a test" in shown.stdout
    assert "gemm" in shown.stdout
    counts = json.loads(run("show", f"{profile}/", "--json").stdout)["rows"]
    assert counts["gemm"] == 100
    assert counts["moe"] == 0


def test_check_withholds_levels_and_keeps_the_answer_only_when_asked(profile: Path) -> None:
    found = json.loads(run("check", f"{profile}/", "--json").stdout)
    assert found["gemm"]["median"] < 0.05  # a law without a bend but that of its floor
    assert found["gemm"]["n"] > 50
    assert load_profile(f"{profile}/").header.heldout_error == {}
    assert run("check", f"{profile}/", "--write").exit_code == 0
    assert load_profile(f"{profile}/").header.heldout_error["gemm"].n == found["gemm"]["n"]


def test_profiles_of_one_card_are_compared(profile: Path, tmp_path: Path) -> None:
    write_profile(tmp_path / "slower", header(), {"gemm": gemm(1.25)})
    found = json.loads(run("check", f"{profile}/", "--against", f"{tmp_path / 'slower'}/", "--json").stdout)
    assert found["gemm bfloat16"]["median"] == pytest.approx(0.25, abs=1e-6)
    assert found["gemm bfloat16"]["p90"] == pytest.approx(0.25, abs=1e-6)
    write_profile(tmp_path / "other", header("other"), {"gemm": gemm()})
    refused = run("check", f"{profile}/", "--against", f"{tmp_path / 'other'}/")
    assert isinstance(refused.exception, InvalidInput)


def test_merge_says_what_it_left_out(profile: Path, tmp_path: Path) -> None:
    reduce = Row((1024.0, 8.0), "all_reduce", "bfloat16", "x", "cold", "graph", 1e-5, None, None, None, "made 1")
    write_profile(tmp_path / "more", header(), {"gemm": gemm()[:7], "collective": [reduce]})
    result = run("merge", f"{profile}/", f"{tmp_path / 'more'}/", "--out", tmp_path / "both")
    assert result.exit_code == 0
    assert "gemm 7" in result.stderr
    both = load_profile(f"{tmp_path / 'both'}/")
    assert (len(both.rows["gemm"]), both.rows["collective"]) == (100, (reduce,))


def test_import_writes_a_profile_and_counts(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the import extra")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the import extra")

    sizes, tokens = (256, 512, 1024, 2048, 4096, 8192), (1, 2, 4, 8, 16, 32, 64, 128, 256)
    records = [
        {
            "gemm_dtype": "bfloat16",
            "m": m,
            "n": n,
            "k": k,
            "kernel_source": "linear",
            "latency": 1e3 * (3e-6 + 2 * n * k / 3e12 + 2 * m * n * k / 5e14),
        }
        for m, n, k in itertools.product(tokens, sizes, sizes)
    ]
    records[0] = records[0] | {"latency": float("nan")}
    folder = tmp_path / "data" / "h200_sxm" / "gemm" / "vllm" / "0.1"
    folder.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(records), folder / "gemm_perf.parquet")
    arguments = ("aiconfigurator", "--data", tmp_path / "data", "--rows", 100)
    result = run("import", *arguments, "--system", "h200_sxm", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.exception
    assert "kept 100 of 323 rows; rejected 1" in " ".join(result.stderr.split())
    imported = load_profile(f"{tmp_path / 'out'}/")
    assert imported.header.gpu == H200.name
    assert imported.header.rejected_rows == {"gemm": 1}
    assert "backend vllm 0.1" in " ".join(result.stdout.split())
    checked = run("check", f"{tmp_path / 'out'}/", "--source", tmp_path / "data", "--json")
    assert json.loads(checked.stdout)["gemm bfloat16"]["n"] == imported.header.heldout_error["gemm bfloat16"].n
    unknown = run("import", *arguments, "--system", "h200_sxn", "--gpu", "h200", "--out", tmp_path / "out")
    assert isinstance(unknown.exception, InvalidInput)
    assert "did you mean h200_sxm" in str(unknown.exception)
