"""What the parts of a round are priced with: one machine, and a PassCost for each part of a model that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from specsim.arrays import Reals
from specsim.cost.forward import Group, KernelPrices, Precision
from specsim.cost.passes import Launching, PassCost
from specsim.cost.step_time import Charge
from specsim.specs.deployment import ExpertGroup
from specsim.specs.engine import EngineLimits
from specsim.specs.hardware import Hardware
from specsim.specs.host_time import HostTime
from specsim.specs.model import ModelSpec
from specsim.specs.model_part import ModelPart


class Entry(NamedTuple):
    """Charges that are entered ``times`` over."""

    charges: Sequence[Charge]
    times: Reals


@dataclass(frozen=True, slots=True)
class Run:
    """One part of a round on the device, ``times`` over: a pass, or choosing tokens from its rows of logits.

    ``groups``: the step's, in their order, as they are here; either all of them or its prompts alone. ``drafting``:
    those that draft. ``operation``: what chooses tokens; empty for a pass.
    """

    cost: PassCost
    groups: Sequence[Group]
    drafting: Group | None = None
    operation: str = ""
    warm: bool = False
    mask: str = ""
    times: Reals = 1

    def entry(self) -> Entry:
        """Its price."""
        groups = self.groups if self.drafting is None else [self.drafting, *self.groups]
        if self.operation:
            rows = sum((group.sequences * group.logit_rows for group in groups), 0)
            return Entry(self.cost.kernels.sampling(self.operation, rows), self.times)
        return Entry(self.cost.charges(groups, warm=self.warm, mask=self.mask), self.times)


@dataclass(frozen=True, slots=True)
class PassPricing:
    """Prices and limits that all passes of a round share."""

    prices: KernelPrices
    hardware: Hardware
    engine: EngineLimits
    graph_sizes: tuple[int, ...]
    ranks: int
    experts: ExpertGroup | None = None

    def cost(
        self, model: ModelSpec | ModelPart, precision: Precision, *, graphs: bool = True, logit_bytes: float = 2.0
    ) -> PassCost:
        """Prices of passes over a model or a part of one; drafters choose tokens from logits in 16 bits."""
        sizes, gpu = self.graph_sizes if graphs else (), self.hardware.kind == "gpu"
        return PassCost(
            model,
            self.prices,
            precision,
            ranks=self.ranks,
            experts=self.experts,
            graph_sizes=sizes,
            graph_mode=self.engine.graph_mode,
            attention_backend=self.engine.attention_backend,
            launching=self._launching() if gpu else Launching(),
            fused=gpu,
            quantised_inside=any("quantise" in joined for joined in self.engine.fused_kernels),
            logit_bytes=logit_bytes,
        )

    def _launching(self) -> Launching:
        """The engine's; on a CPU there is none: kernels were profiled one by one, and their times hold the launch."""
        host, launch_s = self.engine.host, self.hardware.launch_s
        launch, piece = (HostTime(seconds=launch_s) if one is None else one for one in (host.launch, host.piece))
        return Launching(launch.seconds, piece.seconds, host.gap.seconds, launch.error, piece.error, host.gap.error)


def seconds_of(entries: Sequence[Entry]) -> Reals:
    """Seconds of all entries."""
    return sum((charge.seconds * entry.times for entry in entries for charge in entry.charges), 0.0)
