"""Collectives over links without measurements: closed forms, limits, and other people's measurements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specsim.cost.collective import LINKS, collective_error, collective_s
from specsim.cost.forward import SOURCES, Kernel
from specsim.cost.measured import MeasuredPrices
from specsim.errors import NoAnswer
from specsim.profiles.store import find_profile
from specsim.specs.catalog import hardware_names, load_hardware
from specsim.specs.hardware import Hardware

GPUS = [name for name in hardware_names() if load_hardware(name).kind == "gpu"]


def seconds(card: str | Hardware, size: float, ranks: float, operation: str = "all_reduce") -> float:
    hardware = load_hardware(card) if isinstance(card, str) else card
    kernel = Kernel("collective", "communication", (size, ranks), operation, "bfloat16", 1, 0.0, size)
    return float(np.asarray(collective_s(kernel, hardware)))


def bus_bytes_per_s(card: str, size: float, ranks: float) -> float:
    """As nccl-tests define it: 2(p-1)/p·S over the time."""
    return 2 * (ranks - 1) / ranks * size / seconds(card, size, ranks)


@pytest.mark.parametrize("name", GPUS)
@pytest.mark.parametrize("ranks", [2.0, 4.0, 8.0])
def test_large_messages_move_what_a_ring_moves_at_the_links_share(name: str, ranks: float) -> None:
    """2(p-1)/p·S over the link, be it a ring or two-shot: latency is under 1 % of 16 GiB."""
    card = load_hardware(name).joining(ranks)
    assert card.link_bytes_per_s is not None
    links = ranks - 1 if card.link == "infinity-fabric" else 1
    expected = LINKS[card.link].efficiency * card.link_bytes_per_s * links
    assert bus_bytes_per_s(name, 2.0**34, ranks) == pytest.approx(expected, rel=0.01)
    gathered = (ranks - 1) / ranks * 2.0**34 / seconds(name, 2.0**34, ranks, "all_gather")
    assert gathered == pytest.approx(expected, rel=0.01)


def test_small_messages_cost_one_meeting_on_a_switch_and_two_rings_of_hops_over_pci_express() -> None:
    for ranks in (2.0, 4.0, 8.0):
        assert seconds("h100-sxm", 256, ranks) == pytest.approx(LINKS["nvlink"].meeting_s, rel=0.01)
    pcie = LINKS["pcie"]
    assert seconds("l40s", 256, 2) == pytest.approx(pcie.meeting_s, rel=0.01)
    assert seconds("l40s", 256, 4) == pytest.approx(6 * pcie.hop_s, rel=0.01)
    assert seconds("l40s", 256, 8) == pytest.approx(14 * pcie.hop_s, rel=0.01)


def test_a_bridge_joins_two_cards_and_more_exchange_over_pci_express() -> None:
    """An RTX 3090 and an H100 NVL have bridges of two: as their NVLink over two ranks, as any PCI Express beyond."""
    for name, pcie_bytes_per_s in (("rtx-3090", 31.5e9), ("h100-nvl", 63e9)):
        bridged = load_hardware(name)
        plain = bridged.model_copy(update={"link": "pcie", "link_bytes_per_s": pcie_bytes_per_s, "link_gpus": None})
        whole = bridged.model_copy(update={"link_gpus": None})
        for size in (256.0, 2.0**20, 2.0**28):
            assert seconds(bridged, size, 2) == seconds(whole, size, 2) < seconds(plain, size, 2) + 2e-6
            for ranks in (4, 8):
                assert seconds(bridged, size, ranks) == seconds(plain, size, ranks) > seconds(whole, size, ranks)
        assert collective_error(bridged, 8) == LINKS["pcie"].error > collective_error(bridged, 2)
    with pytest.raises(ValueError, match="give pcie_bytes_per_s, over which others exchange"):
        Hardware.model_validate(load_hardware("h200").model_dump() | {"link_gpus": 2})


def test_one_shot_and_two_shot_by_hand() -> None:
    """64 KiB over 8 H100: 6 us + 7·64 KiB / (0.55·450 GB/s) one-shot; 8 MiB: 2·6 us + 2·(7/8)·8 MiB over the same."""
    rate = 0.55 * 450e9
    assert seconds("h100-sxm", 2.0**16, 8) == pytest.approx(6e-6 + 7 * 2**16 / rate)
    assert seconds("h100-sxm", 2.0**23, 8) == pytest.approx(12e-6 + 1.75 * 2**23 / rate)


@given(st.sampled_from(GPUS), st.sampled_from([2.0, 4.0, 8.0]), st.floats(64.0, 2.0**32), st.floats(1.0, 8.0))
def test_more_bytes_and_a_slower_link_never_take_less(name: str, ranks: float, size: float, factor: float) -> None:
    card = load_hardware(name)
    assert card.link_bytes_per_s is not None
    slower = card.model_copy(update={"link_bytes_per_s": card.link_bytes_per_s / factor})
    assert seconds(card, size, ranks) <= seconds(card, size * factor, ranks)
    assert seconds(card, size, ranks) <= seconds(slower, size, ranks)
    assert seconds(card, size, ranks, "all_gather") <= seconds(slower, size * factor, ranks, "all_gather")


def test_sizes_are_priced_at_once_as_one_by_one() -> None:
    sizes = np.array([256.0, 65536.0, 2.0**20, 2.0**28])
    for name in ("h100-sxm", "l40s", "mi300x"):
        kernel = Kernel("collective", "communication", (sizes, 8.0), "all_reduce", "bfloat16", 1, 0.0, sizes)
        together = collective_s(kernel, load_hardware(name))
        np.testing.assert_allclose(together, [seconds(name, size, 8.0) for size in sizes], rtol=1e-12)


# Other people's measurements, of hosts that no constant was fitted on unless said.
@pytest.mark.parametrize(
    ("card", "ranks", "size", "measured_s"),
    [
        ("rtx-5090", 8, 2.0**30, 1.75 * 2**30 / 28e9),  # github.com/NVIDIA/nccl/issues/1639
        ("rtx-5090", 4, 2.0**30, 1.5 * 2**30 / 35e9),
        ("rtx-pro-6000", 8, 2.0**25, 1.75 * 2**25 / 22.2e9),  # voipmonitor/rtx6kpro, NCCL's defaults, dual Turin
        ("rtx-pro-6000", 8, 2.0**25, 1.75 * 2**25 / 40.1e9),  # the same, PCIe switches
        ("rtx-pro-6000", 8, 8192.0, 24.2e-6),  # the same, NCCL
        ("rtx-pro-6000", 8, 65536.0, 24.1e-6),
        ("h100-sxm", 8, 2.0**20, 25e-6),  # NCCL 2.29, aiconfigurator-core 0.12; the fit was on custom kernels
        ("h100-sxm", 4, 2.0**29, 2.30e-3),
        ("b200", 8, 2.0**29, 1.335e-3),
        ("l40s", 8, 131072.0, 47e-6),  # SGLang 0.5.12's table of aiconfigurator-core 0.12: in the fit
        ("l40s", 8, 2.0**29, 45.3e-3),
    ],
)  # fmt: skip
def test_published_measurements_lie_within_the_stated_interval(
    card: str, ranks: float, size: float, measured_s: float
) -> None:
    error = np.log(seconds(card, size, ranks) / measured_s)
    assert abs(error) < 1.645 * collective_error(load_hardware(card), ranks)


def test_a_card_without_a_link_has_no_price_beyond_one_rank() -> None:
    unlinked = load_hardware("h200").model_copy(update={"link_bytes_per_s": None})
    with pytest.raises(NoAnswer, match="no link_bytes_per_s, so what 4 GPUs exchange has no price"):
        seconds(unlinked, 1024.0, 4.0)


def test_an_all_gather_that_no_profile_holds_is_scaled_from_the_all_reduce() -> None:
    """The L40S's table has none: half of the all-reduce's bytes and hops, thus half of its time over eight ranks."""
    card = load_hardware("l40s")
    profile = find_profile(card.name)
    assert profile is not None
    prices = MeasuredPrices(profile, card, "bfloat16")
    reduce, gather = (
        prices.price(
            Kernel("collective", "communication", (2.0**28, 8.0), op, "bfloat16", 1, 0.0, 2.0**28), warm=False
        )
        for op in ("all_reduce", "all_gather")
    )
    assert float(gather.seconds) == pytest.approx(float(reduce.seconds) / 2, rel=0.01)
    assert SOURCES[int(gather.rank)] == "extrapolated"


def test_eight_l40s_reduce_at_the_rate_of_their_links() -> None:
    """Between a third and all of PCI Express 4.0 x16, where a host without peer access reaches a sixteenth."""
    card = load_hardware("l40s")
    profile = find_profile(card.name)
    assert profile is not None
    assert card.link_bytes_per_s is not None
    kernel = Kernel("collective", "communication", (2.0**28, 8.0), "all_reduce", "bfloat16", 1, 0.0, 2.0**28)
    taken = float(MeasuredPrices(profile, card, "bfloat16").price(kernel, warm=False).seconds)
    assert 0.33 < 1.75 * 2**28 / taken / card.link_bytes_per_s < 1.0
