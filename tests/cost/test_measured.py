"""What a profile's prices do where it holds a kernel, and where something has to stand in for it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.cost.attention import attention_kernels
from specsim.cost.forward import SOURCES, Group, Kernel, Precision
from specsim.cost.machine_error import machine_error
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.schema import Ceilings, Probe, ProfileHeader, Row
from specsim.profiles.store import Profile
from specsim.specs.catalog import load_model
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.kernel_work import work
from specsim.speculation.program import load_program
from specsim.speculation.round import RoundCost

COPY, FLOPS = 1e12, 1e14
GPU = Hardware(
    name="made-gpu",
    source="test",
    memory_bytes=1e11,
    bandwidth_bytes_per_s=COPY,
    flops_per_s={"bfloat16": FLOPS, "fp8": 2 * FLOPS},
    last_level_cache_bytes=2**20,
)
HEADER = ProfileHeader(
    schema=1, gpu="made-gpu", device_name="made", device="cuda", threads=1, clocks="-", driver="-", versions={},
    date="2026-01-01", attribution="a test", last_level_cache_bytes=2**20, memory_bytes=10**11, launch_s=1e-6,
    ceilings=Ceilings(copy_bytes_per_s=COPY, flops_per_s={"bfloat16": FLOPS}), probe=Probe(before_s=1.0),
)  # fmt: skip
BF16 = Precision(16, 16, "bfloat16")
LENGTHS = (128.0, 1024.0, 8192.0)


def attention_row(sequences: float, queries: float, keys: float, seconds: float, **changes: str) -> Row:
    row = Row(
        shape=(sequences, queries, keys, 32.0, 8.0, 128.0),
        operation="",
        dtype="bfloat16",
        kernel="made",
        cache="cold",
        mode="graph",
        median_s=seconds,
        p10_s=seconds,
        p90_s=seconds,
        samples=9,
    )
    return replace(row, **changes)


def cache_s(sequences: float, keys: float) -> float:
    """Seconds to read the KV cache of 8 heads of 128 once, in 16 bits."""
    return sequences * keys * 2 * 8 * 128 * 2 / COPY


def decode_rows() -> tuple[Row, ...]:
    """Half the bandwidth, whatever the shape."""
    return tuple(attention_row(b, 1.0, keys, 2 * cache_s(b, keys)) for b in (1.0, 8.0, 64.0) for keys in LENGTHS)


def verify_rows(growth: float) -> tuple[Row, ...]:
    """Each further query token lengthens attention by ``growth``."""
    return tuple(
        attention_row(b, q, keys, 2 * cache_s(b, keys) * (1 + growth * (q - 1)))
        for b in (1.0, 8.0, 64.0)
        for q in (1.0, 2.0, 4.0, 8.0, 16.0)
        for keys in LENGTHS
    )


def profile(attention: tuple[Row, ...]) -> Profile:
    kinds = ("gemm", "elementwise", "sampling", "host", "moe", "collective")
    return Profile("made", Path(), HEADER, dict.fromkeys(kinds, ()) | {"attention": attention})


def verify(sequences: float, queries: float, keys: float, operation: str = "", dtype: str = "bfloat16") -> Kernel:
    shape = (sequences, queries, keys, 32.0, 8.0, 128.0)
    bits = 8 if dtype == "fp8" else 16
    moved = sequences * (keys * 2 * 8 * 128 * bits / 8 + 2 * queries * 32 * 128 * 2)
    flops = 4 * sequences * queries * (keys - (queries - 1) / 2) * 32 * 128
    return Kernel("attention", "attention", shape, operation, dtype, 1, flops, moved)


@given(st.integers(1, 64), st.integers(2, 16), st.sampled_from(LENGTHS))
def test_verification_is_never_priced_as_more_decode_sequences(batch: int, queries: int, keys: float) -> None:
    """From decode rows alone: one read of the cache, not ``queries`` of them (a peer charges q reads)."""
    prices = MeasuredPrices(profile(decode_rows()), GPU, "bfloat16")
    price = prices.price(verify(batch, queries, keys), warm=False)
    one = prices.price(verify(batch, 1, keys), warm=False)
    assert SOURCES[int(price.rank)] == "extrapolated"
    assert price.relative_error > one.relative_error
    assert one.seconds <= price.seconds
    if keys >= 1024:
        assert price.seconds < 2 * one.seconds


def test_a_stand_in_counts_both_sides_by_one_formula() -> None:
    """DeepSeek's latent attention reads one vector of 576 a token; rows count its shape as keys and values of 576.

    A pass's own count must not meet the rows': 4 tokens add to 1 what the roofline of their shape adds.
    """
    shape = (8.0, 1.0, 4096.0, 128.0, 1.0, 576.0)
    rows = (replace(attention_row(1, 1, 1, 2.5 * work("attention", shape)[0] / COPY), shape=shape),)
    prices = MeasuredPrices(profile(rows), GPU, "bfloat16")
    deepseek = load_model("deepseek-v3")
    one, four = (
        prices.price(next(iter(attention_kernels(deepseek, Group(8, q, 4096.0, q), BF16))), warm=False) for q in (1, 4)
    )
    counted = [Kernel("attention", "attention", (8.0, q, *shape[2:]), "", "bfloat16", 1, 0.0, 0.0) for q in (1.0, 4.0)]
    by_shape = [
        Roofline(GPU, "bfloat16").price(replace(kernel, bytes=moved, flops=flops), warm=False).seconds
        for kernel in counted
        for moved, flops in [work("attention", kernel.shape)]
    ]
    assert four.seconds - one.seconds == pytest.approx(by_shape[1] - by_shape[0], rel=1e-9)


@pytest.mark.parametrize("growth", [0.0, 0.07, 0.2])
def test_another_machines_ratio_of_widths_stands_in(growth: float) -> None:
    """Decode rows here, all widths there: time(q) = time(1) here times the ratio there."""
    lacking, other = profile(decode_rows()), profile(verify_rows(growth))
    prices = MeasuredPrices(lacking, GPU, "bfloat16", widths=other)
    there = MeasuredPrices(other, GPU, "bfloat16")
    one, one_there = (source.price(verify(8, 1, 1024), warm=False).seconds for source in (prices, there))
    for queries in range(2, 17):
        price = prices.price(verify(8, queries, 1024), warm=False)
        ratio = there.price(verify(8, queries, 1024), warm=False).seconds / one_there
        assert price.seconds == pytest.approx(one * ratio, rel=1e-6)
        assert SOURCES[int(price.rank)] == "extrapolated"


def test_measured_widths_are_taken_as_they_are() -> None:
    prices = MeasuredPrices(profile(verify_rows(0.1)), GPU, "bfloat16")
    price = prices.price(verify(8, 4, 1024), warm=False)
    assert price.seconds == pytest.approx(2 * cache_s(8, 1024) * 1.3, rel=1e-9)
    assert SOURCES[int(price.rank)] == "measured"
    tree = prices.price(verify(8, 4, 1024, operation="tree"), warm=False)
    assert SOURCES[int(tree.rank)] == "extrapolated"
    assert tree.seconds == pytest.approx(price.seconds, rel=0.01)


def test_an_unmeasured_cache_format_is_scaled_by_its_bytes() -> None:
    """8 bits a value: half the time where the cache is all there is to read."""
    prices = MeasuredPrices(profile(decode_rows()), GPU, "bfloat16")
    wide, narrow = (prices.price(verify(64, 1, 8192, dtype=dtype), warm=False) for dtype in ("bfloat16", "fp8"))
    assert narrow.seconds == pytest.approx(wide.seconds / 2, rel=0.02)
    assert SOURCES[int(narrow.rank)] == "extrapolated"


def test_an_unmeasured_class_is_a_roofline() -> None:
    prices = MeasuredPrices(profile(decode_rows()), GPU, "bfloat16")
    kernel = Kernel("gemm", "gemm", (5.0, 1024.0, 256.0), "", "bfloat16", 1, 1e9, 1e6)
    assert prices.price(kernel, warm=False) == Roofline(GPU, "bfloat16").price(kernel, warm=False)


def test_the_mean_state_of_a_longer_sweep_is_known_better() -> None:
    """Probes of 0.9, 1.0, 1.1 s spread by 10 %: the mean of 3 is known to 10/√3 %, of 12 to √(8/11)·10/√12 %."""
    times = [0.9, 1.0, 1.1]

    def error(repeats: int, device: str) -> float:
        probe = Probe(before_s=times[0], during_s=(times * repeats)[1:])
        header = HEADER.model_copy(update={"probe": probe, "device": device})
        return machine_error(replace(profile(()), header=header))

    assert error(1, "cuda") == pytest.approx(0.1 / 3**0.5)
    assert error(4, "cuda") == pytest.approx(0.1 * (8 / 11) ** 0.5 / 12**0.5)
    assert error(4, "cpu") == pytest.approx(math.hypot(error(4, "cuda"), 0.1))


def test_prices_are_mean_times_where_the_machine_is_interrupted() -> None:
    """Medians of an undisturbed kernel, and 4 % of the time lost in the mean of what the probe saw."""
    calm = profile(verify_rows(0.1))
    probe = Probe(before_s=1.0, interrupted=[0.02, 0.06])
    broken = replace(calm, header=HEADER.model_copy(update={"probe": probe}))
    kernel = verify(8.0, 4.0, 1024.0)
    seconds = [MeasuredPrices(one, GPU, "bfloat16").price(kernel, warm=False).seconds for one in (calm, broken)]
    assert seconds[1] == pytest.approx(1.04 * seconds[0])
    medians = MeasuredPrices(broken, GPU, "bfloat16", medians=True)
    assert medians.price(kernel, warm=False).seconds == pytest.approx(seconds[0])


@pytest.mark.parametrize(
    ("name", "passes", "begun"),
    [("draft-model", 3, 1), ("eagle", 3, 1), ("eagle3", 3, 1), ("medusa", 1, 0), ("swift", 3, 0), ("lookahead", 0, 0)],
)
def test_the_host_pays_for_drafts_once_a_step_and_for_each_draft_pass(name: str, passes: int, begun: int) -> None:
    """4 ms a step, 2 ms more with drafts, 1 ms a pass, and 0.5 ms once where a drafter has a cache to keep up.

    For a draft model k = 3 costs 9.5 ms, k = 0 costs 4.
    """
    host = tuple(
        Row(
            shape=(1.0,),
            operation=part,
            dtype="bfloat16",
            kernel="",
            cache="-",
            mode="eager",
            median_s=seconds,
            p10_s=seconds,
            p90_s=seconds,
            samples=1,
        )
        for part, seconds in (("step", 4e-3), ("drafts", 2e-3), ("draft_pass", 1e-3), ("propose", 5e-4))
    )
    measured = profile(())
    prices = MeasuredPrices(replace(measured, rows=measured.rows | {"host": host}), GPU, "bfloat16")
    model, program = load_model("llama-3.1-8b"), load_program(name)
    draft = load_model("llama-3.2-1b") if name == "draft-model" else None
    cost = RoundCost(
        model,
        prices,
        hardware=GPU.model_copy(update={"launch_s": 0.0}),
        engine=EngineLimits(graph_sizes=()),
        precision=Precision(16, 16, "bfloat16"),
        program=program,
        draft=draft,
    )

    def host_s(k: int) -> float:
        group = Group(1, k + 1, 100.0, k + 1)
        bill = cost.step([group], drafting=1, draft_tokens=k, drafting_kv_tokens=100.0)
        return float(np.asarray(bill.seconds)) - device_s(k)

    def device_s(k: int) -> float:
        free = EngineLimits(graph_sizes=(), host_step_s=0.0, host_draft_pass_s=0.0)
        other = RoundCost(
            model,
            prices,
            hardware=GPU.model_copy(update={"launch_s": 0.0}),
            engine=free,
            precision=Precision(16, 16, "bfloat16"),
            program=program,
            draft=draft,
        )
        group = Group(1, k + 1, 100.0, k + 1)
        return float(np.asarray(other.step([group], drafting=1, draft_tokens=k, drafting_kv_tokens=100.0).seconds))

    assert host_s(0) == pytest.approx(4e-3)
    assert host_s(3) == pytest.approx(6e-3 + passes * 1e-3 + begun * 5e-4)
