"""Importing AIConfigurator's tables, on small tables of a made-up machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pyarrow = pytest.importorskip("pyarrow", reason="needs the import extra")

from specsim.errors import InvalidInput, MissingExtra, NoAnswer  # noqa: E402
from specsim.interop.aiconfigurator.profile import (  # noqa: E402
    ceilings_of,
    check_against_tables,
    header_of,
    plan_of,
    preset_of,
)
from specsim.interop.aiconfigurator.tables import Tables, data_folder, read_tables  # noqa: E402
from specsim.profiles.schema import Row  # noqa: E402
from specsim.profiles.store import load_profile, write_profile  # noqa: E402
from specsim.specs.catalog import load_hardware  # noqa: E402
from specsim.specs.kernel_work import work  # noqa: E402
from specsim.surfaces.row_groups import row_groups  # noqa: E402
from specsim.surfaces.selection import select_rows  # noqa: E402

H200 = load_hardware("h200")
CEILINGS = ceilings_of(H200)
PLAN = plan_of(300)
BW, FLOPS = CEILINGS.copy_bytes_per_s, CEILINGS.flops_per_s["bfloat16"]


def seconds(kind: str, shape: tuple[float, ...]) -> float:
    """A machine at two thirds of its roofline, plus 3 us."""
    moved, flops = work(kind, shape)
    return 3e-6 + 1.5 * float(np.hypot(moved / BW, flops / FLOPS))


def write(folder: Path, path: str, records: list[dict[str, Any]]) -> None:
    import pyarrow.parquet

    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), target)


def gemm_record(m: int, n: int, k: int, dtype: str = "bfloat16", factor: float = 1.0) -> dict[str, Any]:
    latency = 1e3 * factor * seconds("gemm", (m, n, k))
    return {"gemm_dtype": dtype, "m": m, "n": n, "k": k, "latency": latency, "kernel_source": "linear"}


def attention_record(queries: int, step: int, **changes: Any) -> dict[str, Any]:
    record = {
        "batch_size": 4, "isl": queries, "step": step, "num_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "beam_width": 1, "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "window_size": 0, "latency": 0.05,
        "kernel_source": "flash",
    }  # fmt: skip
    return record | changes


def moe_record(**changes: Any) -> dict[str, Any]:
    record = {
        "moe_dtype": "bfloat16", "num_tokens": 8, "hidden_size": 4096, "inter_size": 14336, "topk": 2,
        "num_experts": 8, "moe_tp_size": 4, "moe_ep_size": 1, "distribution": "power_law_1.01", "latency": 0.5,
        "kernel_source": "fused",
    }  # fmt: skip
    return record | changes


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """One system, two versions of one backend; only the older one has an all-reduce table."""
    write(tmp_path, "h200_sxm/gemm/vllm/0.9.0/gemm_perf.parquet", [gemm_record(1, 64, 64)])
    write(tmp_path, "h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet", [
        gemm_record(1, 4096, 4096), gemm_record(16, 4096, 4096, "fp8"), gemm_record(16, 4096, 4096, "nvfp4"),
        gemm_record(2, 4096, 4096, factor=1e-3), gemm_record(4, 4096, 4096, factor=-1.0),
    ])  # fmt: skip
    write(tmp_path, "h200_sxm/attention/vllm/0.24.0/generation_attention_perf.parquet", [
        attention_record(1, 1023), attention_record(1, 1023, window_size=128),
        attention_record(1, 511, kv_cache_dtype="fp8"),
    ])  # fmt: skip
    write(tmp_path, "h200_sxm/attention/vllm/0.24.0/context_attention_perf.parquet", [
        attention_record(512, 0, num_heads=8, num_key_value_heads=0),
    ])  # fmt: skip
    write(tmp_path, "h200_sxm/mla/vllm/0.24.0/generation_mla_perf.parquet", [
        {"mla_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "num_heads": 16, "tp_size": 8, "batch_size": 4,
         "isl": 1, "step": 2047, "latency": 0.05, "kernel_source": "mla"},
    ])  # fmt: skip
    write(tmp_path, "h200_sxm/moe/vllm/0.24.0/moe_perf.parquet", [
        moe_record(), moe_record(moe_ep_size=2), moe_record(distribution="balanced"),
    ])  # fmt: skip
    write(tmp_path, "h200_sxm/comm/vllm/0.9.0/custom_allreduce_perf.parquet", [
        {"message_size": 8192, "num_gpus": 8, "latency": latency, "kernel_source": kernel}
        for latency, kernel in ((0.02, "vLLM_custom_eager"), (0.01, "vLLM_custom_graph"))
    ])  # fmt: skip
    return tmp_path


def test_tables_become_rows_in_seconds(tables: Path) -> None:
    found = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)
    assert (found.version, found.backend) == ("0.24.0", "vllm")
    gemm = {(row.shape, row.dtype): row for row in found.rows["gemm"]}
    assert set(gemm) == {((1.0, 4096.0, 4096.0), "bfloat16"), ((16.0, 4096.0, 4096.0), "fp8")}
    assert gemm[(1.0, 4096.0, 4096.0), "bfloat16"].median_s == pytest.approx(seconds("gemm", (1.0, 4096.0, 4096.0)))
    assert {row.source for row in found.rows["gemm"]} == {"vllm 0.24.0"}
    assert {(row.p10_s, row.p90_s, row.samples) for row in found.rows["gemm"]} == {(None, None, None)}
    attention = {row.shape: row.dtype for row in found.rows["attention"]}
    assert attention == {
        (4.0, 1.0, 1024.0, 32.0, 8.0, 128.0): "bfloat16",
        (4.0, 1.0, 512.0, 32.0, 8.0, 128.0): "fp8",
        (4.0, 512.0, 512.0, 8.0, 8.0, 128.0): "bfloat16",  # no KV heads given: as many as heads
        (4.0, 1.0, 2048.0, 16.0, 1.0, 576.0): "bfloat16",  # absorbed MLA: one KV head of 512 + 64
    }
    assert [row.shape for row in found.rows["moe"]] == [(8.0, 4096.0, 3584.0, 8.0, 2.0)]  # 14336 over 4 ranks
    assert [(row.shape, row.mode, row.source) for row in found.rows["collective"]] == [
        ((16384.0, 8.0), "graph", "vllm 0.9.0")  # 8,192 elements of 2 bytes
    ]


def test_fp8_rows_are_without_the_quantisation_that_engines_do_elsewhere(tables: Path) -> None:
    """A quantising kernel of 1 us at the next smaller shape; of a row of 1.5 us at most half."""
    shapes = [(8, 4096, 4096), (9, 4096, 5000), (1, 128, 128)]
    records = [gemm_record(*shape, dtype) for shape in shapes for dtype in ("bfloat16", "fp8")]
    records[-1] |= {"latency": 0.0015}
    write(tables, "h200_sxm/gemm/vllm/0.9.0/gemm_perf.parquet", records)
    write(tables, "h200_sxm/quantize/vllm/0.9.0/scale_matrix_perf.parquet", [
        {"m": m, "k": k, "latency": 0.001 if (m, k) == (8, 4096) else 0.1}
        for m in (1, 8, 16) for k in (128, 4096, 8192)
    ])  # fmt: skip
    rows = {
        (row.dtype, row.shape): row.median_s
        for row in read_tables(tables, "h200_sxm", "vllm", "0.9.0", CEILINGS).rows["gemm"]
    }
    for shape in shapes[:2]:
        assert rows["bfloat16", shape] - rows["fp8", shape] == pytest.approx(1e-6)
    assert rows["fp8", shapes[2]] == pytest.approx(0.75e-6)


def moe_of(folder: Path, dtype: str) -> list[tuple[str, float]]:
    rows = read_tables(folder, "h200_sxm", "vllm", None, CEILINGS).rows["moe"]
    return [(row.source, row.median_s) for row in rows if row.dtype == dtype]


def test_a_format_is_read_from_the_table_whose_rows_are_kernels(tables: Path) -> None:
    """vLLM's blocks of FP8 were launched one by one; SGLang's come first, TensorRT-LLM's where it has none."""
    own = "h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet"
    write(tables, own, [gemm_record(16, 4096, 4096), gemm_record(16, 4096, 4096, "fp8_block", 9.0)])
    found = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)
    assert {row.dtype for row in found.rows["gemm"]} == {"bfloat16"}
    for home, source in (("trtllm/1.3.0rc20", "trtllm 1.3.0rc20"), ("sglang/0.5.14", "sglang 0.5.14")):
        write(tables, f"h200_sxm/gemm/{home}/gemm_perf.parquet", [gemm_record(16, 4096, 4096, "fp8_block")])
        rows = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS).rows["gemm"]
        assert [row.source for row in rows if row.dtype == "fp8-block"] == [source]


def test_narrow_experts_slower_than_wide_ones_are_not_read(tables: Path) -> None:
    own, other = "h200_sxm/moe/vllm/0.24.0/moe_perf.parquet", "h200_sxm/moe/trtllm/1.3.0rc20/moe_perf.parquet"
    write(tables, own, [moe_record(), moe_record(moe_dtype="fp8", latency=0.4)])
    write(tables, other, [moe_record(moe_dtype="fp8", latency=0.3)])
    assert moe_of(tables, "fp8") == [("vllm 0.24.0", 0.4e-3)]
    write(tables, own, [moe_record(), moe_record(moe_dtype="fp8", latency=1.2)])
    assert moe_of(tables, "fp8") == [("trtllm 1.3.0rc20", 0.3e-3)]


def test_a_split_that_engines_refuse_is_not_read(tables: Path) -> None:
    """An inner width of 88 bytes a rank does not begin at whole loads of 16; of 176, or in 16 bits, it does."""
    odd = [moe_record(moe_dtype=dtype, inter_size=704, moe_tp_size=8, latency=1.0) for dtype in ("bfloat16", "fp8")]
    write(tables, "h200_sxm/moe/vllm/0.24.0/moe_perf.parquet", [
        *odd, moe_record(moe_dtype="fp8", inter_size=704, latency=2.0),
    ])  # fmt: skip
    rows = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS).rows["moe"]
    assert {(row.dtype, row.shape[2]) for row in rows} == {("bfloat16", 88.0), ("fp8", 176.0)}


@pytest.mark.parametrize(("others", "read"), [(3, {"flash"}), (1, {"flash", "triton_attn"})])
def test_what_triton_reads_of_narrow_caches_is_left_out_where_another_library_reads_the_most(
    tables: Path, others: int, read: set[str]
) -> None:
    """Of 16 bits it stays, and where it is the card's own library."""
    path = "h200_sxm/attention/vllm/0.24.0/context_attention_perf.parquet"
    write(tables, path, [
        *(attention_record(512, 0, kv_cache_dtype="fp8", batch_size=size) for size in range(1, others)),
        attention_record(512, 0, head_dim=192, kv_cache_dtype="fp8", kernel_source="triton_attn"),
        attention_record(512, 0, head_dim=192, kernel_source="triton_attn"),
    ])  # fmt: skip
    write(tables, "h200_sxm/attention/vllm/0.24.0/generation_attention_perf.parquet", [
        attention_record(1, 511, kv_cache_dtype="fp8")
    ])  # fmt: skip
    rows = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS).rows["attention"]
    assert {row.kernel for row in rows if row.dtype == "fp8"} == read
    assert "triton_attn" in {row.kernel for row in rows if row.dtype == "bfloat16"}


@pytest.mark.parametrize(("factor", "read"), [(4.0, {2.0, 4.0}), (1.2, {1.0, 2.0, 4.0})])
def test_products_of_one_row_that_take_much_longer_than_of_two_are_not_read(
    tables: Path, factor: float, read: set[float]
) -> None:
    """In narrow formats, whose kernels are chosen by rows; how long 16 bits take is a library's own affair."""
    write(tables, "h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet", [
        gemm_record(m, size, size, dtype, factor if m == 1 else 1.0)
        for m in (1, 2, 4) for size in (1024, 4096) for dtype in ("bfloat16", "fp8")
    ])  # fmt: skip
    rows = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS).rows["gemm"]
    assert {row.shape[0] for row in rows if row.dtype == "fp8"} == read
    assert {row.shape[0] for row in rows if row.dtype == "bfloat16"} == {1.0, 2.0, 4.0}


def test_what_cannot_be_true_is_rejected_and_counted(tables: Path) -> None:
    """2 x 4096 x 4096 in 16 bits takes 7 us from memory; 0.015 us is faster than any cache. A negative time too."""
    found = read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)
    assert found.rejected["gemm"] == 2
    assert found.skipped == {"gemm": 1, "attention": 1, "moe": 2, "collective": 1}


@pytest.mark.parametrize(
    ("system", "backend", "version", "message"),
    [
        ("h200_sx", "vllm", None, "unknown system 'h200_sx'; did you mean h200_sxm"),
        ("h200_sxm", "vlm", None, "unknown backend of h200_sxm 'vlm'; did you mean vllm"),
        ("h200_sxm", "vllm", "0.25.0", "unknown version of vllm on h200_sxm '0.25.0'; did you mean 0.24.0"),
    ],
)
def test_unknown_names_are_one_line_with_near_ones(
    tables: Path, system: str, backend: str, version: str | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_tables(tables, system, backend, version, CEILINGS)
    assert "\n" not in str(caught.value)


def test_other_faults_are_one_line(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="there is no folder"):
        data_folder(tables / "nowhere")
    with pytest.raises(InvalidInput, match="name one with --gpu"):
        preset_of("tpu")
    broken = tables / "h200_sxm/gemm/vllm/0.24.0/gemm_perf.parquet"
    write(tables, str(broken.relative_to(tables)), [{"m": 1, "n": 2, "latency": 1.0}])
    with pytest.raises(InvalidInput, match="column 'gemm_dtype' is missing"):
        read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)
    broken.write_bytes(b"not parquet")
    with pytest.raises(InvalidInput, match="not a parquet table"):
        read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)
    write(tables, "l40s/gemm/vllm/1.0.0/gemm_perf.parquet", [gemm_record(1, 64, 64, "nvfp4")])
    with pytest.raises(NoAnswer, match="holds no vllm"):
        read_tables(tables, "l40s", "vllm", None, CEILINGS)
    monkeypatch.setattr("specsim.interop.aiconfigurator.tables.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="aiconfigurator-core is not installed"):
        data_folder(None)
    with pytest.raises(MissingExtra, match="pyarrow is not installed"):
        read_tables(tables, "h200_sxm", "vllm", None, CEILINGS)


def noisy_tables() -> Tables:
    """GEMMs of the made-up machine with 4 % of noise."""
    rng = np.random.default_rng(0)
    sizes = (64, 128, 256, 512, 1024, 2048, 3072, 4096, 8192, 16384)
    rows = [
        Row((float(m), float(n), float(k)), "", "bfloat16", "linear", "cold", "graph",
            seconds("gemm", (m, n, k)) * float(np.exp(0.04 * rng.normal())), None, None, None, "made 1")
        for m, n, k in itertools.product((1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096), sizes, sizes)
    ]  # fmt: skip
    return Tables("h200_sxm", "made", "1", {"gemm": rows})


def test_a_study_keeps_test_and_calibration_rows_out_and_covers_what_it_promises() -> None:
    tables = noisy_tables()
    [group] = row_groups("gemm", tables.rows["gemm"])
    draw = PLAN.draw(group, "h200", 7)
    parts = [set(part.tolist()) for part in (draw.test, draw.calibration, draw.rest)]
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]
    assert not parts[0] & parts[2]
    found = select_rows(tables.rows, CEILINGS, PLAN, "h200", 7)
    kept = found.rows["gemm"]
    assert len(kept) == 300
    assert {row.shape for row in kept} <= {group.rows[i].shape for i in draw.rest}
    error = found.heldout["gemm bfloat16"]
    assert error.n == len(draw.test) == 240
    assert error.unseen is not None
    assert error.unseen >= 0.3 * error.n
    assert error.median < 0.05  # 4 % of noise alone makes 2.7 %
    assert error.coverage is not None
    assert 0.8 <= error.coverage <= 0.98


def test_the_same_seed_draws_the_same_rows_in_whatever_order_they_come() -> None:
    tables = noisy_tables()
    [group] = row_groups("gemm", tables.rows["gemm"])
    [turned] = row_groups("gemm", tables.rows["gemm"][::-1])
    first, second = PLAN.draw(group, "h200", 3), PLAN.draw(turned, "h200", 3)
    assert {group.rows[i].shape for i in first.test} == {turned.rows[i].shape for i in second.test}
    other = PLAN.draw(group, "h200", 4)
    assert {group.rows[i].shape for i in first.test} != {group.rows[i].shape for i in other.test}


def test_an_imported_profile_can_be_checked_against_its_source(tmp_path: Path) -> None:
    """What the header states is found again from the files and the tables alone."""
    tables = noisy_tables()
    records = [
        gemm_record(*(int(x) for x in row.shape)) | {"latency": 1e3 * row.median_s} for row in tables.rows["gemm"]
    ]
    write(tmp_path, "data/h200_sxm/gemm/made/1/gemm_perf.parquet", records)
    read = read_tables(tmp_path / "data", "h200_sxm", "made", None, CEILINGS)
    found = select_rows(read.rows, CEILINGS, PLAN, read.label, 5)
    write_profile(tmp_path / "p", header_of(read, H200, found.heldout), found.rows)
    profile = load_profile(f"{tmp_path / 'p'}/")
    assert profile.header.backend == "made 1"
    assert "Apache-2.0" in profile.header.attribution
    again = check_against_tables(profile, tmp_path / "data")["gemm bfloat16"]
    stated = found.heldout["gemm bfloat16"]
    assert again.n == stated.n
    assert again.median == pytest.approx(stated.median, abs=1e-4)
    assert again.coverage == pytest.approx(stated.coverage, abs=0.01)
