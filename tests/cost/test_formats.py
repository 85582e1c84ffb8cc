"""Prices by number format: bytes by hand, and the order that memory and arithmetic impose."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import Kernel, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import REACHED, Roofline
from specsim.profiles.store import load_profile, profile_names
from specsim.report.assumed import format_lines
from specsim.scenario import Scenario, load_scenario
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.formats import Stored, format_on
from specsim.specs.kernel_work import weights_read, work

CARDS = {load_profile(name).header.gpu: name for name in profile_names() if name.startswith("nvidia-")}
FEW, MANY = np.array([1.0, 4.0, 16.0]), np.array([4096.0, 8192.0, 16384.0])
MATRICES = ((28672.0, 4096.0), (4096.0, 14336.0), (8192.0, 8192.0))  # Llama-3.1-8B's and of 70B's
NOISE = 0.02


@cache
def prices(card: str) -> MeasuredPrices:
    return MeasuredPrices(load_profile(CARDS[card]), load_hardware(card.lower()), "bfloat16")


def product(name: str, rows: Floats | float, matrix: tuple[float, float]) -> Kernel:
    shape = (rows, *matrix)
    moved, flops = work("gemm", shape, name)
    return Kernel("gemm", "gemm", shape, "", name, 1, flops, moved)


def product_s(card: str, name: str, rows: Floats, matrix: tuple[float, float]) -> Floats:
    runs = format_on(name, load_hardware(card.lower()))
    return np.asarray(prices(card).price(product(runs, rows, matrix), warm=False).seconds)


def test_a_model_of_two_formats_moves_the_bytes_of_both() -> None:
    """gpt-oss-20b, one token: 4 of 32 experts in MXFP4, attention and router in 16 bits, in 24 layers."""
    precision = Precision.on(load_hardware("h200"), load_model("gpt-oss-20b").stored)
    kernels = list(token_kernels(load_model("gpt-oss-20b"), 1.0, 0.0, precision))
    experts = [kernel for kernel in kernels if kernel.kind == "moe"]
    assert [(kernel.dtype, kernel.count) for kernel in experts] == [("mxfp4", 24)]
    values = 2 * 4 * (2 * 2880 + 3 * 2880)
    assert experts[0].bytes == pytest.approx(4 * 3 * 2880 * 2880 * 4.25 / 8 + values)
    qkv = next(kernel for kernel in kernels if kernel.kind == "gemm" and kernel.shape[1] == (64 + 2 * 8) * 64)
    assert qkv.dtype == "bfloat16"
    assert qkv.bytes == 2 * (5120 * 2880 + 5120 + 2880)


def test_a_widened_product_waits_for_memory_for_widening_or_for_arithmetic() -> None:
    """132 processors widen 37e9 weights a second each; 8,192 rows multiply at 0.42 of the 16-bit rate."""
    roofline, square = Roofline(load_hardware("h200"), "bfloat16"), (4096.0, 4096.0)

    def seconds(rows: float, name: str) -> float:
        return float(roofline.price(product(name, rows, square), warm=False).seconds) - REACHED["gemm"].floor_s

    assert weights_read("gemm", (1.0, *square)) == 4096**2
    assert seconds(1.0, "int4-weight-g128") == pytest.approx(4096**2 / (132 * 37e9))
    multiplying_s = 2 * 8192 * 4096**2 / (REACHED["gemm"].compute * 989.4e12)
    assert seconds(8192.0, "int4-weight-g128") == pytest.approx(multiplying_s / 0.42)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", ["int4-weight-g128", "mxfp4", "fp8-weight"])
def test_weights_alone_narrow_win_while_memory_bounds_and_lose_nothing_but_time_beyond(card: str, name: str) -> None:
    """Fewer bytes at few rows; past the ridge the same arithmetic and widening on top (arXiv 2408.11743, figure 1)."""
    for matrix in MATRICES:
        assert (product_s(card, name, FEW, matrix) < product_s(card, "bfloat16", FEW, matrix)).all(), matrix
        wide, narrow = product_s(card, "bfloat16", MANY, matrix), product_s(card, name, MANY, matrix)
        assert (narrow >= wide * (1 - NOISE)).all(), matrix


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", ["fp8", "fp8-block", "nvfp4"])
def test_fewer_bits_never_take_longer_while_memory_bounds(card: str, name: str) -> None:
    for matrix in MATRICES:
        wide, narrow = product_s(card, "bfloat16", FEW, matrix), product_s(card, name, FEW, matrix)
        assert (narrow <= wide * (1 + NOISE)).all(), (matrix, narrow / wide)


def test_marlin_gains_about_what_was_published() -> None:
    """Marlin on an A10 (arXiv 2408.11743, figure 1; its README): 3.87 times at 1 to 16 rows, groups of 128."""
    roofline, matrix = Roofline(load_hardware("a10"), "bfloat16"), (18432.0, 73728.0)
    wide, narrow = (
        float(roofline.price(product(name, 16.0, matrix), warm=False).seconds)
        for name in ("bfloat16", "int4-weight-g128")
    )
    assert wide / narrow == pytest.approx(3.87, rel=0.15)


def test_an_a100_multiplies_widened_weights_at_one_rate_in_prompts() -> None:
    """Between Marlin's first kernel, 141 TFLOP/s from 128 to 4,000 rows (vLLM pull request 2497), and some 210 in the
    prompts of Llama-2-7B (QQQ, issue 15); 16 bits reach up to 275 there."""
    rows = np.array([512.0, 1024.0, 2048.0, 4000.0])
    for matrix in MATRICES[:2]:
        rate = 2 * rows * matrix[0] * matrix[1] / product_s("A100-80GB", "int4-weight-g128", rows, matrix)
        assert (rate > 141e12).all(), rate
        assert (rate < 210e12).all(), rate


def named(gpu: str, **deployment: str) -> Scenario:
    settings = [f"deployment.{name}={value}" for name, value in deployment.items()]
    return load_scenario(
        "cpu-144m", [f"gpu={gpu}", "model=llama-3.1-8b", "cost.profile=null", "speculation=null", *settings]
    )


def test_a_stand_in_says_so_and_is_less_sure() -> None:
    found = {
        name: prices("H100-SXM").price(product(name, 8.0, MATRICES[0]), warm=False)
        for name in ("bfloat16", "fp8-block", "int4-weight-g128")
    }
    assert found["fp8-block"].rank < 2 <= found["int4-weight-g128"].rank
    assert found["int4-weight-g128"].relative_error > 0.3 > found["fp8-block"].relative_error


@pytest.mark.parametrize(
    ("gpu", "name", "said"), [("h100-sxm", "nvfp4", "stored in nvfp4, run as nvfp4-weight"), ("b200", "nvfp4", None)]
)
def test_an_answer_tells_what_runs_otherwise(gpu: str, name: str, said: str | None) -> None:
    lines = format_lines(named(gpu, weight_format=name))
    assert [said in line for line in lines] == ([True] if said else [])


def test_a_scenario_takes_natural_names() -> None:
    four, wide = (assemble(named("h200", weight_format=name)) for name in ("awq", "bf16"))
    assert (four.precision.weights, four.precision.weight_bits) == ("int4-weight-g128", 4.125)
    assert four.memory.weights < 0.4 * wide.memory.weights
    assert assemble(named("a100-80gb", weight_format="fp8")).precision.weights == "fp8-weight"
    assert Stored.named("awq").bits == 4.125
