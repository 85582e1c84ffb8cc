"""Collectives between the GPUs of one replica without measurements: a latency and a bandwidth term (α-β).

An all-reduce of S bytes over p ranks sends 2(p-1)/p·S over each link, an all-gather (p-1)/p·S (ring; Thakur,
Rabenseifner and Gropp 2005, sections 4.1 and 4.5). The latency is of a one-shot kernel, not of 2(p-1) ring steps:
small messages are what decoding exchanges.
"""

from __future__ import annotations

from specsim.arrays import Reals
from specsim.cost.forward import Kernel
from specsim.errors import NoAnswer
from specsim.specs.hardware import Hardware

# TensorRT-LLM's all-reduce on NVLink, from the tables of aiconfigurator-core 0.12 for H200: 3 to 9 us up to 64 KiB,
# and a third (2 ranks) to a half (8 ranks) of the link's rate at 128 MiB.
LATENCY_S = 5e-6
LINK_EFFICIENCY = 0.4
ROUNDS = {"all_reduce": 2.0, "all_gather": 1.0}


def collective_s(kernel: Kernel, hardware: Hardware) -> Reals:
    """Seconds of one collective; raises NoAnswer if the hardware's link rate is unknown.

    1 MiB over 2 H200: 5 us + 2·(1/2)·1048576 / (0.4·450e9) = 10.8 us.
    """
    size, ranks = kernel.shape
    link = hardware.link_bytes_per_s
    if link is None:
        raise NoAnswer(
            f"{hardware.name} has no link_bytes_per_s, so tensor_parallel {ranks:g} has no price; "
            "give the hardware its link rate or set tensor_parallel to 1"
        )
    return LATENCY_S + ROUNDS[kernel.operation] * (ranks - 1) / ranks * size / (LINK_EFFICIENCY * link)
