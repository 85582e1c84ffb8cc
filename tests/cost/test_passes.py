"""What padding, launches, collectives and an overlapping host do to the time of a pass and of a step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.cost.forward import Group, Kernel, Precision, Price
from specsim.cost.passes import PassCost
from specsim.cost.roofline import Roofline
from specsim.cost.step_time import BOUNDS, Bill, Charge
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.engine import EngineLimits
from specsim.specs.model import ModelSpec
from specsim.speculation.program import load_program
from specsim.speculation.round import RoundCost

H200, LLAMA, SMALL = load_hardware("h200"), load_model("llama-3.1-8b"), load_model("llama-3.2-1b")
BF16 = Precision(16, 16, "bfloat16")
TOY = ModelSpec(
    name="toy", source="test", num_layers=3, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16,
    intermediate_size=128, vocab_size=256,
)  # fmt: skip


class Counting:
    """A made-up machine: a GEMM takes 1 us a row, all else nothing."""

    name = "counting"
    machine_error = 0.0

    def price(self, kernel: Kernel, *, warm: bool) -> Price:
        return Price(1e-6 * kernel.shape[0] if kernel.kind == "gemm" else 0.0, 0.0, 0.0, 0.0)

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return 0.0


def seconds(charges: list[Charge]) -> Reals:
    return sum((charge.seconds for charge in charges), 0.0)


class Interpreted(Counting):
    """The same, whose interpreter takes 20 us a layer between kernels."""

    def host_s(self, part: str, sequences: Reals) -> Reals | None:
        return 2e-5 if part == "layer" else None


def test_a_pass_waits_for_the_interpreter_once_a_layer() -> None:
    for groups in ([Group(1, 1, 50.0)], [Group(8, 5, 50.0), Group(1, 64, 64.0)]):
        found, plain = (
            PassCost(TOY, prices, BF16).charges(groups, warm=False) for prices in (Interpreted(), Counting())
        )
        assert seconds(found) - seconds(plain) == pytest.approx(3 * 2e-5)


def test_captured_sizes_make_a_staircase() -> None:
    """Tokens are padded to 4, 8 or 16; logits are not. 4 matrices a layer on 3 layers, and the head's wanted rows."""
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(4, 8, 16), launch_s=1e-9)
    for batch, padded in ((1, 4), (4, 4), (5, 8), (9, 16), (16, 16)):
        assert seconds(cost.charges([Group(batch, 1, 50.0)], warm=False)) == pytest.approx(
            1e-6 * (4 * 3 * padded + batch)
        )


def test_above_the_largest_captured_size_launches_show() -> None:
    """The cliff: eager, a pass takes at least its launches. 3 layers of 4 GEMMs, attention and 8 elementwise."""
    launch_s = 1e-3
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(4, 8, 16), launch_s=launch_s)
    below, above = (cost.charges([Group(batch, 1, 50.0)], warm=False) for batch in (16, 17))
    kernels = 3 * 4 + 1 + 3 + (1 + 7 + 3 + 3 + 3 + 6)
    assert seconds(above) == pytest.approx(launch_s * kernels)
    assert seconds(below) < seconds(above) / 10
    mixed = cost.charges([Group(2, 1, 50.0), Group(1, 10, 10.0)], warm=False)
    assert seconds(mixed) == pytest.approx(launch_s * (2 * 3 + 1))  # pieces around each layer's attention
    slow = PassCost(TOY, Counting(), BF16, graph_sizes=(), launch_s=1e-9)
    assert seconds(slow.charges([Group(17, 1, 50.0)], warm=False)) == pytest.approx(1e-6 * (4 * 3 * 17 + 17))


def llama(**engine: object) -> RoundCost:
    limits = EngineLimits.model_validate({"max_num_seqs": 256} | engine)
    return RoundCost(
        LLAMA, Roofline(H200, "bfloat16"), hardware=H200, engine=limits, precision=BF16,
        program=load_program("draft-model"), draft=SMALL,
    )  # fmt: skip


@given(st.integers(1, 255), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_padding_never_shortens_a_round_and_vanishes_at_captured_sizes(batch: int, k: int) -> None:
    every = llama(graph_sizes=list(range(1, 2000)))
    some = llama(graph_sizes=[1, 8, 64, 512, 2048])
    assert some.decode_round(batch, k, 500.0).seconds >= every.decode_round(batch, k, 500.0).seconds * (1 - 1e-12)
    if batch * (k + 1) in (1, 8, 64, 512) and k == 0:
        assert some.decode_round(batch, k, 500.0).seconds == pytest.approx(every.decode_round(batch, k, 500.0).seconds)


@given(st.just(0.0) | st.floats(1e-9, 0.1), st.integers(1, 64), st.integers(0, 4))
@settings(deadline=None, max_examples=30)
def test_an_asynchronous_engine_takes_the_longer_of_device_and_host(host_s: float, batch: int, k: int) -> None:
    def round_s(overlap: bool, host: float) -> float:
        cost = llama(async_scheduling=overlap, host_step_s=host, host_draft_pass_s=0.0)
        return float(cost.decode_round(batch, k, 500.0).seconds)

    device_s = round_s(False, 0.0)
    assert round_s(False, host_s) == pytest.approx(device_s + host_s)
    assert round_s(True, host_s) == pytest.approx(max(device_s, host_s))


def test_without_the_hosts_time_capacity_is_overestimated() -> None:
    """A peer's measured trap (22 % of capacity): the parts hold it, and it names the bound where it dominates."""
    bare, real = (llama(host_step_s=host, host_draft_pass_s=0.0) for host in (0.0, 1.2e-3))
    assert real.decode_round(1, 0, 500.0).seconds - bare.decode_round(1, 0, 500.0).seconds == pytest.approx(1.2e-3)
    assert llama(host_step_s=0.5).decode_round(1, 0, 500.0).bound == "host"
    assert llama().decode_round(1, 0, 500.0).bound == "memory"
    assert llama().decode_round(256, 4, 500.0).bound == "compute"


@pytest.mark.parametrize("k", [0, 1, 4])
def test_arrays_give_what_single_questions_give(k: int) -> None:
    batches, contexts = np.array([1.0, 3.0, 40.0, 300.0]), np.array([100.0, 777.0, 5000.0])
    cost = llama(async_scheduling=True)
    many = cost.decode_round(batches[:, None], k, contexts[None, :])
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            one = cost.decode_round(int(batch), k, float(context))
            assert np.asarray(many.seconds)[i, j] == pytest.approx(one.seconds, rel=1e-12)
            assert np.asarray(many.low_s)[i, j] == pytest.approx(one.low_s, rel=1e-12)
            assert np.asarray(many.source)[i, j] == one.source
            assert np.asarray(many.bound)[i, j] == one.bound
            for part, value in one.parts.items():
                assert np.broadcast_to(many.parts[part], (4, 3))[i, j] == pytest.approx(value, rel=1e-9, abs=1e-15)


def test_more_ranks_shorten_the_matrices_and_add_communication() -> None:
    big = load_model("llama-3.3-70b")

    def parts(ranks: int) -> dict[str, Reals]:
        cost = RoundCost(
            big, Roofline(H200, "bfloat16"), hardware=H200, engine=EngineLimits(), precision=BF16, ranks=ranks
        )
        return cost.decode_round(16, 0, 1000.0).parts

    one, two, eight = parts(1), parts(2), parts(8)
    assert one.get("communication", 0.0) == 0.0
    for before, after in pairwise((one, two, eight)):
        assert after["gemm"] < before["gemm"]
        assert after["attention"] < before["attention"]
        assert after["communication"] > before.get("communication", 0.0)
    # Each GEMM has a fixed floor that does not divide.
    floors = 4 * 80 * 2e-6
    assert two["gemm"] - floors == pytest.approx((one["gemm"] - floors) / 2, rel=0.02)


@given(st.lists(st.tuples(st.sampled_from(["gemm", "attention"]), st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_errors_add_up_inside_a_class_and_in_quadrature_between(entries: list[tuple[str, float, float]]) -> None:
    bill = Bill()
    bill.add([Charge("gemm", kind, 1.0, error, 1.0, share, 1) for kind, error, share in entries])
    bill.add_host("host", 1.0, 0.0, hidden=True)
    total = bill.total(0.0, overlap=False)
    classes = [sum(e for kind, e, _ in entries if kind == name) for name in ("gemm", "attention")]
    assert total.seconds == pytest.approx(len(entries) + 1)
    assert total.high_s - total.seconds == pytest.approx(1.645 * (classes[0] ** 2 + classes[1] ** 2) ** 0.5, abs=1e-9)
    assert total.bound in BOUNDS
