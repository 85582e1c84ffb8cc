"""A decode round kernel by kernel: what each computes and moves, how long it takes, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from specsim.assembly import Assembly
from specsim.cost.forward import SOURCES, Group, Kernel, Price
from specsim.cost.recorded import RecordedPrices
from specsim.errors import NoAnswer


@dataclass(frozen=True, slots=True)
class RoundKernel:
    """One kernel of a round on one GPU. ``phase``: target or draft; ``flops``, ``bytes``, ``seconds``: of a launch.

    ``bound``: what the datasheet's roofline says it waits for; ``source``: whose seconds these are.
    """

    phase: str
    name: str
    dtype: str
    launches: float
    flops: float
    bytes: float
    seconds: float
    bound: str
    source: str

    @property
    def intensity(self) -> float:
        """FLOPs a byte."""
        return self.flops / self.bytes


def round_kernels(assembly: Assembly, batch: int, draft_tokens: int) -> tuple[RoundKernel, ...]:
    """Kernels of the steady round of a batch at the workload's mean context, a draft pass's once.

    Raises NoAnswer where steps were measured whole, which tells no kernels.
    """
    if assembly.scenario.cost.source == "steps":
        raise NoAnswer("cost.source is steps: whole steps were measured, which tell no kernels; choose kernels")
    recorded = RecordedPrices(assembly.prices)
    cost = replace(assembly, given_prices=recorded, given_cost=None).cost
    context, verified = assembly.context_tokens, draft_tokens if assembly.verifies_drafts else 0
    group = Group(batch, verified + 1, context + verified, verified + 1)
    cost.step([group], drafting=0, draft_tokens=0, drafting_kv_tokens=context)
    target = [_kernel("target", *one) for one in _by_time(recorded.asked)]
    if not draft_tokens:
        return tuple(target)
    before = {_identity(kernel) for kernel, _ in recorded.asked}
    recorded.asked.clear()
    cost.decode_round(batch, draft_tokens, context)
    drafting = [one for one in recorded.asked if _identity(one[0]) not in before]
    return (*target, *(_kernel("draft", *one) for one in _by_time(drafting)))


def _by_time(asked: Iterable[tuple[Kernel, Price]]) -> list[tuple[Kernel, Price]]:
    return sorted(asked, key=lambda one: -float(np.asarray(one[1].seconds * one[0].count)))


def _identity(kernel: Kernel) -> str:
    return repr((kernel.kind, kernel.operation, kernel.dtype, kernel.shape, kernel.count))


def _kernel(phase: str, kernel: Kernel, price: Price) -> RoundKernel:
    flops, moved, seconds = (float(np.asarray(value)) for value in (kernel.flops, kernel.bytes, price.seconds))
    bound = "compute" if float(np.asarray(price.compute_bound)) > 0.5 else "memory"
    return RoundKernel(
        phase,
        _name(kernel),
        kernel.dtype or "float32",
        float(np.asarray(kernel.count)),
        flops,
        moved,
        seconds,
        "communication" if kernel.kind == "collective" else bound,
        SOURCES[int(float(np.asarray(price.rank)))],
    )


def _name(kernel: Kernel) -> str:
    """``gemm 32 x 6144 x 4096``: class, operation, and the shape that tells it apart."""
    sizes = [f"{float(np.asarray(value)):,.0f}" for value in kernel.shape[:3]]
    return " ".join(filter(None, [kernel.part.replace("_", " "), kernel.operation, " x ".join(sizes)]))
