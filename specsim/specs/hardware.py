"""One accelerator, from its datasheet: the ceilings a roofline needs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from specsim.arrays import Reals
from specsim.errors import InvalidInput
from specsim.validated import Validated

Dtype = Literal["float64", "float32", "bfloat16", "float16", "fp8", "fp4", "int8", "int4"]


class Sibling(Validated):
    """A measured card whose kernels are taken to come as near to its ceilings as this one's to its own, and why."""

    card: str  # its name, as profiles have it
    reason: str


class Sustained(Validated):
    """What a card's power allows under load, where that is less than its ceilings; whence.

    ``share`` of its peak FLOP/s if it only multiplies, ``bytes_per_s`` if it only moves data: joules add up, and so
    does the time of what does both. None: moving data costs no power.
    """

    share: float = Field(gt=0, le=1)
    bytes_per_s: PositiveFloat | None = None
    source: str


class Hardware(Validated):
    """Peak rates of one GPU (or one CPU socket), dense (no structured sparsity), per second."""

    name: str
    source: str
    also: tuple[str, ...] = ()  # other names of it, in small letters
    kind: Literal["gpu", "cpu"] = "gpu"
    memory_bytes: PositiveFloat
    bandwidth_bytes_per_s: PositiveFloat
    flops_per_s: dict[Dtype, PositiveFloat] = Field(min_length=1)
    last_level_cache_bytes: PositiveInt
    processors: PositiveInt | None = None  # streaming multiprocessors that are switched on
    compute_capability: PositiveFloat | None = None  # NVIDIA's number of a generation, on which kernels depend
    link: Literal["nvlink", "pcie", "infinity-fabric"] = "nvlink"  # to the other cards of its node
    link_bytes_per_s: PositiveFloat | None = None  # one direction, to one peer
    link_gpus: PositiveInt | None = None  # that a bridge joins, if the link is one: more exchange over PCI Express
    pcie_bytes_per_s: PositiveFloat | None = None  # one direction, of a card with a bridge
    node_gpus: PositiveInt = 8  # that reach one another over that link
    network_bytes_per_s: PositiveFloat = 50e9  # one direction, a GPU's adapter to other nodes; 400 Gb/s in a DGX H100
    launch_s: float = Field(0.0, ge=0)  # eager launch of one kernel from Python
    sustained: Sustained | None = None  # None: as any card of its kind that is cooled and fed as its datasheet says
    sibling: Sibling | None = None  # whose efficiencies price this card while no profile of its own does

    @model_validator(mode="after")
    def _knows_what_lies_beyond_its_bridge(self) -> Hardware:
        if self.link_gpus is not None and self.pcie_bytes_per_s is None:
            raise ValueError(
                f"link_gpus {self.link_gpus} joins no more cards; give pcie_bytes_per_s, over which others exchange"
            )
        return self

    def __hash__(self) -> int:
        return hash(self.name)

    def joining(self, gpus: float) -> Hardware:
        """This card as ``gpus`` of them reach one another: over PCI Express where its bridge joins fewer."""
        if self.link_gpus is None or gpus <= self.link_gpus:
            return self
        return self.model_copy(update={"link": "pcie", "link_bytes_per_s": self.pcie_bytes_per_s, "link_gpus": None})

    @property
    def computes_16_bit_floats(self) -> bool:
        """Whether it has a rate for them; a CPU without was profiled in float32 and keeps 16-bit models in float32."""
        return "bfloat16" in self.flops_per_s or "float16" in self.flops_per_s

    def peak_flops_per_s(self, dtype: str) -> float:
        """Peak FLOP/s for a dtype.

        Raises InvalidInput for a dtype this hardware has no figure for.
        """
        for name, rate in self.flops_per_s.items():
            if name == dtype:
                return rate
        listed = ", ".join(self.flops_per_s)
        raise InvalidInput(f"{self.name} has no {dtype} rate, only of {listed}: choose one of these")

    def sustained_flops_per_s(self, dtype: str) -> float:
        """Peak FLOP/s for a dtype as far as the card's power lets it; raises as ``peak_flops_per_s``."""
        share = 1.0 if self.sustained is None else self.sustained.share
        return share * self.peak_flops_per_s(dtype)

    def powered_s(self, moved_bytes: Reals, flops_s: Reals) -> Reals:
        """Least seconds that power allows for moving so much beside ``flops_s`` of sustained multiplying."""
        limit = None if self.sustained is None else self.sustained.bytes_per_s
        return flops_s if limit is None else flops_s + moved_bytes / limit
