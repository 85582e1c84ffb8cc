"""A roofline with another card's measured corner."""

from __future__ import annotations

import numpy as np
import pytest

from specsim.cost.forward import Kernel, KernelPrices, Precision, token_kernels
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import Profile, load_profile
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.hardware import Hardware
from specsim.specs.model_part import as_part
from tests.validation.studies import study_module

study = study_module("spec-bench", "measured_corner")
CornerPrices = study.CornerPrices

DTYPE = "bfloat16"


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("nvidia-a100-aiconfigurator-vllm-0.14.0")


def kernels(hardware: Hardware, rows: float, model: str = "llama-7b") -> list[Kernel]:
    part = as_part(load_model(model)).shard(1)
    return list(token_kernels(part, rows, rows, Precision.on(hardware, 16)))


def pass_s(prices: KernelPrices, hardware: Hardware, rows: float, model: str = "llama-7b") -> float:
    found = [k for k in kernels(hardware, rows, model) if k.kind == "gemm"]
    return sum(float(prices.price(k, warm=False).seconds) * float(k.count) for k in found)


def test_the_profiled_card_itself_is_priced_as_measured(profile: Profile) -> None:
    own = profile.hardware()
    corner, measured = CornerPrices(own, [profile], DTYPE), MeasuredPrices(profile, own, DTYPE)
    for rows in (1.0, 40.0, 134.0, 1000.0):
        assert pass_s(corner, own, rows) == pytest.approx(pass_s(measured, own, rows), rel=1e-9)


def test_a_card_of_half_the_speed_has_the_same_corner_and_takes_twice_the_time(profile: Profile) -> None:
    own = profile.hardware()
    half = own.model_copy(
        update={
            "bandwidth_bytes_per_s": own.bandwidth_bytes_per_s / 2,
            "flops_per_s": {name: rate / 2 for name, rate in own.flops_per_s.items()},
        }
    )
    slow, fast = CornerPrices(half, [profile], DTYPE), CornerPrices(own, [profile], DTYPE)
    for rows in (1.0, 64.0, 300.0):  # floors do not halve: 0.5 ms of a pass's 129 products
        assert pass_s(slow, half, rows) == pytest.approx(2 * pass_s(fast, own, rows), rel=0.05)


def test_a_nearer_corner_is_left_at_fewer_rows(profile: Profile) -> None:
    """The RTX 3090's corner is at half the A100's rows, and so is every part of the way to it."""
    card, own = load_hardware("rtx-3090"), profile.hardware()
    factor = study.rows_at_corner(own, DTYPE) / study.rows_at_corner(card, DTYPE)
    assert factor == pytest.approx((312 / 2.039) / (71 / 0.936))
    corner, roofline = CornerPrices(card, [profile], DTYPE), Roofline(card, DTYPE)
    measured, ideal = MeasuredPrices(profile, own, DTYPE), Roofline(own, DTYPE)
    matrix = next(k for k in kernels(card, 64.0) if k.kind == "gemm")
    there = next(k for k in kernels(own, 64.0 * factor) if k.kind == "gemm")
    slower = measured.price(there, warm=False).seconds / ideal.price(there, warm=False).seconds
    expected = slower * roofline.price(matrix, warm=False).seconds
    assert corner.price(matrix, warm=False).seconds == pytest.approx(expected)
    assert pass_s(corner, card, 64.0) > pass_s(roofline, card, 64.0)  # whose corner is rounded, but not by as much


def test_all_but_matrix_products_is_the_roofline(profile: Profile) -> None:
    card = load_hardware("rtx-4090")
    corner, roofline = CornerPrices(card, [profile], DTYPE), Roofline(card, DTYPE)
    others = [k for k in kernels(card, 8.0) if k.kind != "gemm"]
    assert others
    for kernel in others:
        assert corner.price(kernel, warm=False) == roofline.price(kernel, warm=False)


def test_batches_are_priced_at_once_as_one_by_one(profile: Profile) -> None:
    card = load_hardware("rtx-3090")
    corner, rows = CornerPrices(card, [profile], DTYPE), np.array([1.0, 30.0, 200.0])
    part = as_part(load_model("llama-7b")).shard(1)
    for index, kernel in enumerate(token_kernels(part, rows, rows, Precision.on(card, 16))):
        if kernel.kind != "gemm":
            continue
        together = np.asarray(corner.price(kernel, warm=False).seconds)
        alone = [float(corner.price(kernels(card, m)[index], warm=False).seconds) for m in rows.tolist()]
        np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_several_cards_count_in_the_geometric_mean(profile: Profile) -> None:
    card, other = load_hardware("rtx-3090"), load_profile("nvidia-l40s-aiconfigurator-vllm-0.24.0")
    one, two, both = (CornerPrices(card, p, DTYPE) for p in ([profile], [other], [profile, other]))
    for kernel in kernels(card, 50.0):
        seconds = [float(prices.price(kernel, warm=False).seconds) for prices in (one, two, both)]
        assert seconds[2] == pytest.approx((seconds[0] * seconds[1]) ** 0.5)


def test_profiled_cards_are_predicted_better_than_by_a_sharp_corner() -> None:
    """Each by the others: how passes over three models grow with their rows, in the mean and at worst."""
    sharp, borrowed = [], []
    profiles = study.measured_corners()
    assert len(profiles) >= 5
    rows = (1.0, 4.0, 8.0, 16.0, 26.0, 32.0, 48.0, 64.0, 81.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0)
    for profile in profiles:
        own = profile.hardware()
        others = [other for other in profiles if other is not profile]
        ways = (MeasuredPrices(profile, own, DTYPE), Roofline(own, DTYPE), CornerPrices(own, others, DTYPE))
        for model in ("vicuna-7b", "vicuna-13b", "vicuna-33b"):
            seconds = np.array([[pass_s(prices, own, m, model) for m in rows] for prices in ways])
            growth = seconds[:, 1:] / seconds[:, :1]
            sharp.append(np.abs(growth[1] / growth[0] - 1))
            borrowed.append(np.abs(growth[2] / growth[0] - 1))
    assert np.mean(borrowed) < np.mean(sharp)
    assert np.max(borrowed) < np.max(sharp)
