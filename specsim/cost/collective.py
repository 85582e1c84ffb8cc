"""Collectives between the GPUs of one replica without measurements: what crosses each link, and how often ranks meet.

An all-reduce of S bytes over p ranks sends at least 2(p-1)/p·S over each rank's link, an all-gather (p-1)/p·S (Thakur,
Rabenseifner and Gropp 2005, sections 4.1 and 4.5). How it is done decides the latency:

- **one-shot**: every rank reads all others' data at once: one meeting, (p-1)·S over the link;
- **two-shot**: each reduces its share, then all gather: two meetings, 2(p-1)/p·S;
- **ring**: 2(p-1) hops, or p-1 of an all-gather, from neighbour to neighbour.

An **all-to-all** sends 1/p of a rank's S bytes to each rank: what stays in the node over the link, and at the same
time the rest over the node's network.

On NVLink and Infinity Fabric every rank reaches every other directly, and engines take the faster of the first two
(vLLM's and SGLang's custom all-reduce, TensorRT-LLM's). Over PCI Express they do so for two ranks only and leave more
to NCCL's ring (vLLM, custom_all_reduce.py: "not supported on more than two PCIe-only GPUs"); so do cards whose NVLink
is a bridge of two. Reduction inside the switch, by which NCCL moves 445 GB/s over eight H100 at 512 MiB, is left out:
such messages take 1.8 times too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specsim.arrays import Reals
from specsim.cost.forward import Kernel
from specsim.errors import NoAnswer
from specsim.specs.hardware import Hardware


@dataclass(frozen=True, slots=True)
class LinkConstants:
    """``meeting_s``: until all ranks have seen each other; ``hop_s``: of a ring; ``efficiency``: of the link's rate.

    ``error``: one standard deviation of collectives as a share of their time.
    """

    meeting_s: float
    hop_s: float
    efficiency: float
    error: float


# NVLink and PCI Express: what leaves the least squares of log errors over vLLM's and NCCL's tables of
# aiconfigurator-core 0.12, 4 KiB to 256 MiB over 2, 4 and 8 ranks (rms 0.30 on A100, H100, H200, B200, B300, GB200 and
# GB300; 0.28 on RTX PRO 6000 and L40S). Over PCI Express hosts differ more than that: eight RTX PRO 6000 reach 22 to
# 41 GB/s of bus bandwidth in four servers (github.com/voipmonitor/rtx6kpro, hardware/pcie-bandwidth.md). Infinity
# Fabric: its protocol leaves 48 of 64 GB/s a link (AMD, Understanding RCCL Bandwidth and xGMI Performance on MI300X);
# the rest is assumed.
LINKS = {
    "nvlink": LinkConstants(6e-6, 1.5e-6, 0.55, error=0.3),
    "pcie": LinkConstants(5e-6, 2e-6, 0.45, error=0.4),
    "infinity-fabric": LinkConstants(8e-6, 2e-6, 0.7, error=0.4),
}
MESHES = ("infinity-fabric",)  # a link to each peer, so that p ranks have p-1 of them
MEET_IN_PAIRS_ONLY = ("pcie",)


# Until ranks of several nodes have exchanged anything. DeepEP's low-latency dispatch (docs/legacy.md; 128 tokens of
# 7,168 values to 8 experts on H800, one 400 Gb/s adapter each) takes 118 us on 16 ranks, 155 on 32, 173 on 64, 192 on
# 128 and 194 on 256: 41 to 50 us, 45 in the mean, beside its bytes to other nodes at the adapter's rate.
EXCHANGE_S = 45e-6


def collective_s(kernel: Kernel, hardware: Hardware) -> Reals:
    """Seconds of one collective; raises NoAnswer if the hardware's link rate is unknown.

    1 MiB over 8 H200: two-shot, 2·6 us + 2·(7/8)·1048576 / (0.55·450e9) = 19.4 us; one-shot would take 35.7.
    """
    size, ranks = kernel.shape
    hardware = hardware.joining(float(np.max(ranks)))
    constants = LINKS[hardware.link]
    if kernel.operation == "all_to_all":
        return _all_to_all_s(size, int(np.max(ranks)), hardware, constants)
    links = ranks - 1 if hardware.link in MESHES else 1
    rate = constants.efficiency * _link_rate(hardware, float(np.max(ranks))) * links
    share_s = (ranks - 1) / ranks * size / rate  # a rank's share of all others' data
    if kernel.operation == "all_gather":
        return constants.meeting_s + (ranks - 1) * constants.hop_s + share_s
    together_s = np.minimum(constants.meeting_s + ranks * share_s, 2 * (constants.meeting_s + share_s))
    if hardware.link not in MEET_IN_PAIRS_ONLY:
        return together_s if np.ndim(together_s) else float(together_s)
    ring_s = np.maximum(constants.meeting_s, 2 * (ranks - 1) * constants.hop_s) + 2 * share_s
    seconds = np.where(np.asarray(ranks) == 2, together_s, ring_s)
    return seconds if seconds.ndim else float(seconds)


def _all_to_all_s(size: Reals, ranks: int, hardware: Hardware, constants: LinkConstants) -> Reals:
    near = min(ranks, hardware.node_gpus)
    links = max(1, near - 1) if hardware.link in MESHES else 1
    inside_s: Reals = 0.0 * size
    if near > 1:
        inside_s = size * (near - 1) / ranks / (constants.efficiency * _link_rate(hardware, ranks) * links)
    if near == ranks:
        return constants.meeting_s + inside_s
    seconds = EXCHANGE_S + np.maximum(inside_s, size * (ranks - near) / ranks / hardware.network_bytes_per_s)
    return seconds if np.ndim(seconds) else float(seconds)


def collective_error(hardware: Hardware, ranks: Reals) -> float:
    """One standard deviation of what so many cards exchange over their links, as a share of its time."""
    return LINKS[hardware.joining(float(np.max(ranks))).link].error


def _link_rate(hardware: Hardware, ranks: float) -> float:
    if hardware.link_bytes_per_s is None:
        raise NoAnswer(
            f"{hardware.name} has no link_bytes_per_s, so what {ranks:g} GPUs exchange has no price; "
            "give the hardware its link rate or set tensor_parallel and data_parallel to 1"
        )
    return hardware.link_bytes_per_s
