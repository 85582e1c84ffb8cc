"""What padding, launches, collectives and an overlapping host do to the time of a pass and of a step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specsim.arrays import Reals
from specsim.cost.forward import Group, Kernel, Precision, Price
from specsim.cost.passes import Launching, PassCost
from specsim.cost.roofline import REACHED, Roofline
from specsim.cost.step_time import BOUNDS, Bill, Charge
from specsim.specs.catalog import load_hardware, load_model
from specsim.specs.engine import EngineLimits
from specsim.specs.engine_defaults import Circumstances, with_defaults
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
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(4, 8, 16), launching=Launching(1e-9))
    for batch, padded in ((1, 4), (4, 4), (5, 8), (9, 16), (16, 16)):
        assert seconds(cost.charges([Group(batch, 1, 50.0)], warm=False)) == pytest.approx(
            1e-6 * (4 * 3 * padded + batch)
        )


def test_above_the_largest_captured_size_launches_show() -> None:
    """The cliff: eager, a pass takes at least its launches. 3 layers of 4 GEMMs, attention and 8 elementwise."""
    launch_s, piece_s, gap_s = 1e-3, 1.5e-3, 1e-4
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(4, 8, 16), launching=Launching(launch_s, piece_s, gap_s))
    below, above = (cost.charges([Group(batch, 1, 50.0)], warm=False) for batch in (16, 17))
    kernels = 3 * 4 + 1 + 3 + (1 + 7 + 3 + 3 + 3 + 6)
    assert seconds(above) == pytest.approx(launch_s * kernels)
    assert seconds(below) < seconds(above) / 10
    mixed = cost.charges([Group(2, 1, 50.0), Group(1, 10, 10.0)], warm=False)
    assert seconds(mixed) == pytest.approx(piece_s * (2 * 3 + 1))  # pieces around each layer's attention
    slow = PassCost(TOY, Counting(), BF16, graph_sizes=(), launching=Launching(1e-9))
    assert seconds(slow.charges([Group(17, 1, 50.0)], warm=False)) == pytest.approx(1e-6 * (4 * 3 * 17 + 17))


def test_narrow_products_launch_what_quantises_their_input_where_nothing_before_them_does() -> None:
    """One more launch for each of 4 products on 3 layers; for attention's output alone where norms and activations
    write what the others want. Weights that are widened quantise nothing."""
    launch_s = 1e-3

    def kernels(precision: Precision, **changes: bool) -> float:
        cost = PassCost(TOY, Counting(), precision, launching=Launching(launch_s), **changes)
        return float(seconds(cost.charges([Group(17, 1, 50.0)], warm=False))) / launch_s

    wide, fp8 = kernels(BF16), Precision(8, 16, "bfloat16", weights="fp8")
    assert kernels(fp8) == pytest.approx(wide + 3 * 4)
    assert kernels(fp8, quantised_inside=True) == pytest.approx(wide + 3)
    assert kernels(Precision(8, 16, "bfloat16", weights="fp8-weight")) == pytest.approx(wide)


def test_a_pass_that_waits_for_its_launches_is_as_unsure_as_these() -> None:
    """Launches of 1 ms each known to 0.2 of it; where kernels take longer, they are nobody's question."""
    prices = Launching(1e-3, kernel_error=0.2)
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(), launching=prices)
    charges = cost.charges([Group(17, 1, 50.0)], warm=False)
    bill = Bill()
    bill.add(charges)
    waiting = bill.total(0.0, overlap=False)
    assert float(waiting.errors_s["host"]) == pytest.approx(0.2 * float(waiting.seconds))
    assert float(bill.total(0.0, overlap=True).errors_s["host"]) == pytest.approx(0.2 * float(waiting.seconds))
    busy = Bill()
    busy.add(
        PassCost(TOY, Counting(), BF16, launching=replace(prices, kernel_s=1e-9)).charges(
            [Group(17, 1, 50.0)], warm=False
        )
    )
    for overlap in (False, True):
        assert not busy.total(0.0, overlap=overlap).errors_s.get("host")


def test_the_device_idles_between_pieces_however_early_the_host_is() -> None:
    """16 rows of 4 GEMMs on 3 layers and the head, 16 us each; 7 pieces that the host launches in no time."""
    prices = Launching(kernel_s=1e-9, piece_s=0.0, gap_s=1e-6)
    cost = PassCost(TOY, Counting(), BF16, graph_sizes=(16,), graph_mode="piecewise", launching=prices)
    assert seconds(cost.charges([Group(16, 1, 50.0)], warm=False)) == pytest.approx(1e-6 * (13 * 16 + 7))


def test_only_decoding_is_captured_where_an_engine_captures_nothing_else() -> None:
    """A prompt beside decoding then runs as many tokens as there are, each kernel launched."""
    cost = PassCost(
        TOY, Counting(), BF16, graph_sizes=(16,), graph_mode="full_decode_only", launching=Launching(1e-12)
    )
    decoding, mixed = [Group(9, 1, 50.0)], [Group(1, 1, 50.0), Group(1, 8, 8.0)]
    assert seconds(cost.charges(decoding, warm=False)) == pytest.approx(1e-6 * (12 * 16 + 9))
    assert seconds(cost.charges(mixed, warm=False)) == pytest.approx(1e-6 * (12 * 9 + 2))


def llama(**engine: object) -> RoundCost:
    limits = EngineLimits.model_validate({"max_num_seqs": 256} | engine)
    return RoundCost(
        LLAMA, Roofline(H200, "bfloat16"), hardware=H200, engine=limits, precision=BF16,
        program=load_program("draft-model"), draft=SMALL,
    )  # fmt: skip


@given(st.integers(1, 255), st.integers(0, 5))
@settings(max_examples=30)
def test_padding_never_shortens_a_round_and_vanishes_at_captured_sizes(batch: int, k: int) -> None:
    every = llama(graph_sizes=list(range(1, 2000)))
    some = llama(graph_sizes=[1, 8, 64, 512, 2048])
    assert some.decode_round(batch, k, 500.0).seconds >= every.decode_round(batch, k, 500.0).seconds * (1 - 1e-12)
    if batch * (k + 1) in (1, 8, 64, 512) and k == 0:
        assert some.decode_round(batch, k, 500.0).seconds == pytest.approx(every.decode_round(batch, k, 500.0).seconds)


@given(st.just(0.0) | st.floats(1e-9, 0.1), st.integers(1, 64), st.integers(0, 4))
@settings(max_examples=30)
def test_an_asynchronous_engine_takes_the_longer_of_device_and_host(host_s: float, batch: int, k: int) -> None:
    def round_s(overlap: bool, host: float) -> float:
        launches = {"launch": {"seconds": 0.0}}
        cost = llama(async_scheduling=overlap, host_step_s=host, host_draft_pass_s=0.0, host=launches)
        return float(cost.decode_round(batch, k, 500.0).seconds)

    device_s = round_s(False, 0.0)
    assert round_s(False, host_s) == pytest.approx(device_s + host_s)
    assert round_s(True, host_s) == pytest.approx(max(device_s, host_s))


@given(st.floats(1e-6, 0.02), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 64))
@settings(max_examples=30)
def test_what_asynchronous_scheduling_leaves_exposed_adds_up(host_s: float, exposed: float, batch: int) -> None:
    """The exposed share, and beside it the longer of the device and the rest of the host's time."""
    host = {"step": {"seconds": host_s, "exposed": exposed}}
    bare = llama(host_step_s=0.0).decode_round(batch, 0, 500.0).seconds
    found = llama(host=host, async_scheduling=True).decode_round(batch, 0, 500.0).seconds
    assert found == pytest.approx(exposed * host_s + max(bare, (1 - exposed) * host_s))


def test_host_time_of_sequences_passes_and_tokens_is_counted_by_each() -> None:
    """Powers of ten tell the counts apart: 1 step, 6 sequences, 3 passes, 18 drafted tokens."""
    host = {name: {"seconds": 10.0**i} for i, name in enumerate(("step", "sequence", "draft_pass", "draft_token"))}
    free = {name: {"seconds": 0.0} for name in host}
    paid, unpaid = (llama(host=one).decode_round(6, 3, 500.0).seconds for one in (host, free))
    assert paid - unpaid == pytest.approx(1 + 6 * 10 + 3 * 100 + 18 * 1000)


def test_a_host_that_launches_kernels_has_less_time_to_hide_other_work() -> None:
    """Eager: launches fill the step, so that the rest of the host's work comes on top, asynchronous or not."""
    eager = {"graph_sizes": (), "host": {"launch": {"seconds": 1e-3}, "step": {"seconds": 2e-3}}}
    alone = llama(**eager, host_step_s=0.0).decode_round(4, 0, 500.0).seconds
    for overlap in (False, True):
        found = llama(**eager, async_scheduling=overlap).decode_round(4, 0, 500.0).seconds
        assert found == pytest.approx(alone + 2e-3, abs=5e-6)  # but for sampling, which is not launched


@pytest.mark.parametrize("kind", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize(("batch", "k"), [(1, 0), (8, 3), (64, 5), (200, 0)])
def test_eager_is_never_faster_and_pieces_lie_between(kind: Any, batch: int, k: int) -> None:
    defaults = with_defaults(
        EngineLimits(kind=kind), Circumstances(H200, drafter="draft-model", drafts_on="gpu")
    ).model_dump()
    modes = ("full_and_piecewise", "piecewise", "none")
    full, pieces, eager = (
        float(llama(**defaults | {"graph_mode": mode}).decode_round(batch, k, 500.0).seconds) for mode in modes
    )
    assert full <= pieces <= eager


def test_a_small_pass_without_graphs_costs_what_engines_were_seen_to_pay() -> None:
    """Public ratios of eager to captured decoding: 1.5 to 1.7 for 7B at batch 1, above 1.25 for smaller models."""
    defaults = with_defaults(EngineLimits(), Circumstances(H200)).model_dump()

    def ratio(model: ModelSpec) -> float:
        captured, eager = (
            RoundCost(
                model, Roofline(H200, "bfloat16"), hardware=H200, precision=BF16,
                engine=EngineLimits.model_validate(defaults | {"graph_mode": mode}),
            ).decode_round(1, 0, 500.0).seconds
            for mode in ("full_and_piecewise", "none")
        )  # fmt: skip
        return float(eager / captured)

    assert 1.4 < ratio(load_model("llama-7b")) < 2.6  # an H200 reads weights faster than the cards of those reports
    assert ratio(SMALL) > 1.25


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
    floors = 4 * 80 * REACHED["gemm"].floor_s
    assert two["gemm"] - floors == pytest.approx((one["gemm"] - floors) / 2, rel=0.02)


@given(st.lists(st.tuples(st.sampled_from(["gemm", "attention"]), st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_errors_add_up_inside_a_class_and_in_quadrature_between(entries: list[tuple[str, float, float]]) -> None:
    bill = Bill()
    bill.add([Charge("gemm", kind, 1.0, error, 1.0, share, 1) for kind, error, share in entries])
    bill.add_host("host", 1.0, 0.0, exposed=0.0)
    total = bill.total(0.0, overlap=False)
    classes = [sum(e for kind, e, _ in entries if kind == name) for name in ("gemm", "attention")]
    assert total.seconds == pytest.approx(len(entries) + 1)
    assert total.high_s - total.seconds == pytest.approx(1.645 * (classes[0] ** 2 + classes[1] ** 2) ** 0.5, abs=1e-9)
    assert total.bound in BOUNDS
