"""A card priced by its sibling's efficiencies: what follows from the ceilings, and how two known cards fare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specsim.assembly import assemble
from specsim.cost.borrowed import BorrowedPrices
from specsim.cost.forward import SOURCES, Group, Kernel, Precision
from specsim.cost.measured import MeasuredPrices
from specsim.cost.passes import PassCost
from specsim.cost.roofline import Roofline
from specsim.errors import InvalidInput
from specsim.profiles.schema import Ceilings, ProfileHeader, Row
from specsim.profiles.store import Profile, find_profile
from specsim.scenario import load_scenario
from specsim.specs.catalog import hardware_names, load_hardware, load_model
from specsim.specs.hardware import Hardware, Sustained
from specsim.specs.kernel_work import work

COPY, FLOPS, EFFICIENCY = 1e12, 1e14, 0.5
SIBLING = Hardware(
    name="there",
    source="test",
    memory_bytes=1e11,
    bandwidth_bytes_per_s=COPY,
    flops_per_s={"bfloat16": FLOPS},
    last_level_cache_bytes=2**20,
    link_bytes_per_s=1e11,
)
HEADER = ProfileHeader(
    schema=1, gpu="there", device_name="made", device="cuda", threads=1, clocks="-", driver="-", versions={},
    date="2026-01-01", attribution="a test", last_level_cache_bytes=2**20, memory_bytes=10**11, launch_s=1e-6,
    ceilings=Ceilings(copy_bytes_per_s=COPY, flops_per_s={"bfloat16": FLOPS}),
)  # fmt: skip
SIZES = (256.0, 1024.0, 4096.0, 16384.0)


def gemm(m: float, n: float, k: float) -> Kernel:
    moved, flops = work("gemm", (m, n, k))
    return Kernel("gemm", "gemm", (m, n, k), "", "bfloat16", 1, flops, moved)


def rows() -> tuple[Row, ...]:
    """Half of what the ceilings allow, whatever the shape."""
    shapes = [(m, n, k) for m in (1.0, 16.0, 256.0, 4096.0) for n in SIZES for k in SIZES]
    seconds = [
        np.hypot(moved / COPY, flops / FLOPS) / EFFICIENCY for moved, flops in (work("gemm", s) for s in shapes)
    ]
    return tuple(
        Row(shape, "", "bfloat16", "made", "cold", "graph", float(s), None, None, None)
        for shape, s in zip(shapes, seconds, strict=True)
    )


KINDS = ("attention", "elementwise", "sampling", "host", "moe", "collective")
PROFILE = Profile("made", Path(), HEADER, dict.fromkeys(KINDS, ()) | {"gemm": rows()})


def borrowed(**changes: object) -> BorrowedPrices:
    """Prices of the sibling with some of its datasheet changed."""
    return BorrowedPrices(MeasuredPrices(PROFILE, SIBLING, "bfloat16"), SIBLING, card(**changes), "bfloat16")


def card(**changes: object) -> Hardware:
    return SIBLING.model_copy(update={"name": "here"} | changes)


def seconds(prices: BorrowedPrices, kernel: Kernel) -> float:
    return float(prices.price(kernel, warm=False).seconds)


def test_equal_ceilings_give_the_siblings_times() -> None:
    for kernel in (gemm(1, 4096, 4096), gemm(4096, 16384, 4096)):
        there = MeasuredPrices(PROFILE, SIBLING, "bfloat16").price(kernel, warm=False)
        here = borrowed().price(kernel, warm=False)
        assert here.seconds == pytest.approx(there.seconds)
        assert SOURCES[int(here.rank)] == "borrowed"
        assert here.relative_error > there.relative_error


def test_each_kernel_follows_the_ceiling_that_it_is_at() -> None:
    """One row of 512 MiB of weights is all memory, 4096 rows are all FLOPs; floors are under 1 % of either."""
    thin, thick = gemm(1, 16384, 16384), gemm(4096, 16384, 16384)
    base, memory, compute = (
        borrowed(),
        borrowed(bandwidth_bytes_per_s=2 * COPY),
        borrowed(flops_per_s={"bfloat16": 3 * FLOPS}),
    )
    assert seconds(memory, thin) == pytest.approx(seconds(base, thin) / 2, rel=0.01)
    assert seconds(compute, thin) == pytest.approx(seconds(base, thin), rel=0.01)
    assert seconds(compute, thick) == pytest.approx(seconds(base, thick) / 3, rel=0.02)
    assert seconds(memory, thick) == pytest.approx(seconds(base, thick), rel=0.02)


def test_a_floor_does_not_shrink_with_the_memorys_rate() -> None:
    """The class's shortest time is the floor, here twice the ideal time: (2 + 1/100) / (2 + 1) of it is left."""
    smallest = gemm(1, 256, 256)
    faster = borrowed(bandwidth_bytes_per_s=100 * COPY, flops_per_s={"bfloat16": 100 * FLOPS})
    assert seconds(faster, smallest) == pytest.approx(seconds(borrowed(), smallest) * 2.01 / 3)


def test_a_kernel_that_turns_from_memory_to_compute_is_known_less() -> None:
    """64 rows are at half of the sibling's corner, and at four times that of a card with an eighth of its FLOP/s."""
    turned = borrowed(flops_per_s={"bfloat16": FLOPS / 8})
    errors = [float(turned.price(gemm(rows, 4096, 4096), warm=False).relative_error) for rows in (1.0, 64.0, 4096.0)]
    assert errors[1] > max(errors[0], errors[2])
    same = [float(borrowed().price(gemm(rows, 4096, 4096), warm=False).relative_error) for rows in (1.0, 64.0)]
    assert same[1] < errors[1]


def test_what_the_sibling_lacks_and_another_link_are_the_cards_own_roofline() -> None:
    here = borrowed(link_bytes_per_s=5e10)
    own = Roofline(card(link_bytes_per_s=5e10), "bfloat16")
    moved, flops = work("attention", (8.0, 1.0, 1024.0, 32.0, 8.0, 128.0))
    attention = Kernel("attention", "attention", (8.0, 1.0, 1024.0, 32.0, 8.0, 128.0), "", "bfloat16", 1, flops, moved)
    exchange = Kernel("collective", "communication", (65536.0, 4.0), "all_reduce", "bfloat16", 1, 0.0, 65536.0)
    for kernel in (attention, exchange):
        assert here.price(kernel, warm=False) == own.price(kernel, warm=False)


@pytest.mark.parametrize(("card", "other"), [("h200", "h100-sxm"), ("h100-sxm", "h200")])
def test_whole_passes_of_a_card_that_is_known_come_out_as_borrowed_and_as_by_a_roofline(card: str, other: str) -> None:
    """Within the intervals that both state, of which the card's own part is one standard deviation, and within 6 % in
    the mean. The roofline's constants are of these two cards and seven others.
    """
    here, there = load_hardware(card), load_hardware(other)
    own, lent = find_profile(here.name), find_profile(there.name)
    assert own is not None
    assert lent is not None
    precision = Precision.on(here, 16)
    sources = {
        "own": MeasuredPrices(own, here, "bfloat16"),
        "borrowed": BorrowedPrices(MeasuredPrices(lent, there, "bfloat16"), there, here, "bfloat16"),
        "roofline": Roofline(here, "bfloat16"),
    }
    errors: dict[str, list[float]] = {"borrowed": [], "roofline": []}
    for name in ("qwen3-0.6b", "llama-3.1-8b"):
        costs = {source: PassCost(load_model(name), prices, precision) for source, prices in sources.items()}
        for batch in (1, 8, 64, 256):
            for tokens in (1, 4):
                groups = [Group(batch, tokens, 2048, tokens)]
                found = {s: sum(c.seconds for c in cost.charges(groups, warm=False)) for s, cost in costs.items()}
                for source, list_ in errors.items():
                    list_.append(abs(float(np.log(found[source] / found["own"]))))
    for source, off in errors.items():
        assert np.mean(off) < 0.06
        assert np.quantile(off, 0.9) < 1.645 * sources[source].machine_error


def test_a_scenario_says_whose_profile_prices_it() -> None:
    scenario = load_scenario("cpu-144m", ["gpu=gh200-96gb"])
    machine = assemble(scenario)
    assert machine.borrows
    assert "borrowed from H100-SXM at GH200-96GB's ceilings" in machine.price_name
    assert machine.prices.name == machine.price_name
    assert assemble(load_scenario("cpu-144m", ["gpu=gh200-96gb", "cost.source=roofline"])).price_name == "roofline"
    assert not assemble(load_scenario("cpu-144m", ["gpu=h100-sxm"])).borrows


def test_a_profile_of_neither_the_card_nor_its_sibling_is_refused() -> None:
    profile = "nvidia-l40s-aiconfigurator-vllm-0.24.0"
    machine = assemble(load_scenario("cpu-144m", ["gpu=gh200-96gb", f"cost.profile={profile}"]))
    with pytest.raises(InvalidInput, match="was measured on L40S and the scenario's gpu is GH200-96GB"):
        _ = machine.profile


def test_every_sibling_is_a_measured_card_that_is_not_the_card_itself() -> None:
    found = [load_hardware(name) for name in hardware_names()]
    for card in found:
        if card.sibling is not None:
            assert card.sibling.card != card.name
            assert find_profile(card.sibling.card) is not None, card.name
            assert find_profile(card.name) is None, f"{card.name} has a profile of its own and borrows none"


def test_steps_are_not_borrowed() -> None:
    machine = assemble(load_scenario("cpu-144m", ["gpu=gh200-96gb", "cost.source=steps"]))
    with pytest.raises(InvalidInput, match="no profile of GH200-96GB is known"):
        _ = machine.cost


def test_power_limits_what_multiplies_and_not_what_streams() -> None:
    """A card that sustains half of its FLOP/s takes twice as long for 4,096 rows, and as long as ever for one."""
    throttled = borrowed(sustained=Sustained(share=0.5, source="a test"))
    assert seconds(throttled, gemm(4096, 16384, 16384)) == pytest.approx(
        2 * seconds(borrowed(), gemm(4096, 16384, 16384)), rel=0.01
    )
    assert seconds(throttled, gemm(1, 16384, 16384)) == pytest.approx(
        seconds(borrowed(), gemm(1, 16384, 16384)), rel=0.01
    )
    own = Roofline(card(sustained=Sustained(share=0.5, source="a test")), "bfloat16")
    thick = gemm(4096, 16384, 16384)
    assert float(own.price(thick, warm=False).seconds) == pytest.approx(
        2 * float(Roofline(card(), "bfloat16").price(thick, warm=False).seconds), rel=0.01
    )


def test_what_power_takes_for_bytes_and_for_flops_adds_up() -> None:
    """Half the FLOP/s, and bytes at the memory's own rate: what streams as long as it multiplies takes both."""
    half = Sustained(share=0.5, bytes_per_s=COPY, source="a test")
    one = borrowed(sustained=half)
    rows = FLOPS / 2 / COPY  # multiplies, at half the rate, as long as its weights stream
    even = gemm(rows, 16384, 16384)
    alone = max(even.bytes / COPY, 2 * even.flops / FLOPS)
    assert seconds(one, even) == pytest.approx(2 * alone / EFFICIENCY, rel=0.05)
    thin = gemm(1, 16384, 16384)
    assert seconds(one, thin) == pytest.approx(seconds(borrowed(), thin), rel=0.03)
