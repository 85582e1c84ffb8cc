"""Prices in other conditions than the profile's: which work is stretched, and by how much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.assembly import assemble
from specsim.cost.attention import attention_kernels
from specsim.cost.conditioned import ConditionedPrices
from specsim.cost.forward import Group, Kernel, Precision, sampling_kernels, token_kernels
from specsim.cost.roofline import Roofline
from specsim.errors import InvalidInput
from specsim.scenario import load_scenario
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.conditions import Conditions

H200 = load_hardware("h200")
MODEL = load_model("llama-3.1-8b")
PLAIN = Roofline(H200, "bfloat16")
factors = st.floats(0.5, 4.0)


def conditioned(**factor: float) -> ConditionedPrices:
    return ConditionedPrices(PLAIN, Conditions(**factor), H200, "bfloat16", 0.05)


def kernels(tokens: int) -> list[Kernel]:
    precision = Precision.on(H200, 16)
    return [
        *token_kernels(MODEL, tokens, tokens, precision),
        *attention_kernels(MODEL, Group(tokens, 1, 1024), precision),
        *sampling_kernels("greedy", tokens, MODEL.vocab_size),
    ]


def ratio(kernel: Kernel, *, warm: bool = False, **factor: float) -> float:
    return float(conditioned(**factor).price(kernel, warm=warm).seconds / PLAIN.price(kernel, warm=warm).seconds)


def gemm(rows: int) -> Kernel:
    return next(kernel for kernel in kernels(rows) if kernel.kind == "gemm")


def test_streaming_weights_is_memory_and_a_large_product_is_compute() -> None:
    assert ratio(gemm(1), memory=2.0) == pytest.approx(2.0, rel=1e-3)
    assert ratio(gemm(1), compute=2.0) == pytest.approx(1.0, rel=1e-3)
    assert ratio(gemm(16384), compute=2.0) == pytest.approx(2.0, rel=0.02)
    assert ratio(gemm(16384), memory=2.0) == pytest.approx(1.0, rel=0.02)


def test_a_product_out_of_the_cache_does_not_wait_for_memory() -> None:
    assert ratio(gemm(8), warm=True, memory=3.0) == 1.0
    assert ratio(gemm(8), warm=True, compute=3.0) == pytest.approx(3.0)


@pytest.mark.parametrize(("kind", "factor"), [("attention", "attention"), ("elementwise", "elementwise")])
def test_other_classes_have_a_factor_each(kind: str, factor: str) -> None:
    kernel = next(one for one in kernels(4) if one.kind == kind)
    assert ratio(kernel, **{factor: 1.7}) == pytest.approx(1.7)
    others = {name: 3.0 for name in Conditions.model_fields if name != factor}
    assert ratio(kernel, **others) == 1.0


@given(factors, st.integers(1, 4096))
def test_a_machine_that_is_slower_throughout_takes_that_much_longer(factor: float, tokens: int) -> None:
    every = dict.fromkeys(Conditions.model_fields, factor)
    for kernel in kernels(tokens):
        assert ratio(kernel, **every) == pytest.approx(factor)


@given(factors, factors, st.integers(1, 4096))
def test_a_product_is_stretched_by_no_more_than_its_slower_side(memory: float, compute: float, rows: int) -> None:
    found = ratio(gemm(rows), memory=memory, compute=compute)
    assert min(memory, compute) * (1 - 1e-9) <= found <= max(memory, compute) * (1 + 1e-9)


def test_the_machine_error_is_the_one_given_and_kernel_errors_stay() -> None:
    prices = conditioned(memory=2.0)
    assert prices.machine_error == 0.05
    assert prices.price(gemm(4), warm=False).relative_error == PLAIN.price(gemm(4), warm=False).relative_error


def test_a_scenario_takes_conditions_and_stays_the_same_question() -> None:
    plain = load_scenario("cpu-144m")
    slow = load_scenario("cpu-144m", ["conditions={memory: 2, compute: 2, attention: 2, elementwise: 2, host: 2}"])
    assert slow.sha256() == plain.sha256()
    once, twice = (assemble(s.without_speculation()).cost.decode_round(4, 0, 512) for s in (plain, slow))
    kernels_s = {part: float(seconds) for part, seconds in once.parts.items() if part != "host"}
    assert sum(kernels_s.values()) > 0.5 * float(once.seconds)
    for part, seconds in kernels_s.items():  # the host's time of a GPU is assumed, and launches hide behind kernels
        assert float(twice.parts[part]) == pytest.approx(2 * seconds)


def test_whole_measured_steps_have_no_kernels_to_stretch() -> None:
    steps = load_scenario("cpu-144m", ["conditions={memory: 2}", "cost={source: steps}"])
    with pytest.raises(InvalidInput):
        assert assemble(steps).cost
