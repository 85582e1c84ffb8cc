"""How a model is placed on hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from specsim.specs.formats import DEFAULT_GROUP, Bits, Stored
from specsim.specs.hardware import Hardware
from specsim.validated import Validated


class KvLink(Validated):
    """What each GPU's KV cache crosses from a prefill to a decode replica.

    ``bandwidth_bytes_per_s`` None: that of the hardware's network. ``latency_s``: of a transfer, beside what its bytes
    take.
    """

    bandwidth_bytes_per_s: PositiveFloat | None = None
    latency_s: NonNegativeFloat = 0.0

    def rate_on(self, hardware: Hardware) -> float:
        """Bytes/s between GPUs of this kind."""
        return self.bandwidth_bytes_per_s or hardware.network_bytes_per_s


class Disaggregation(Validated):
    """A pool of replicas that compute prompts, and one of replicas that decode (see ``scheduling.disaggregation``)."""

    prefill_replicas: int = Field(1, gt=0, le=100_000)
    decode_replicas: int = Field(1, gt=0, le=100_000)
    kv_link: KvLink = KvLink()


@dataclass(frozen=True, slots=True)
class ExpertGroup:
    """GPUs that each hold ``1 / gpus`` of the routed experts, whole: those of ``data_parallel`` replicas in lockstep.

    ``imbalance``: tokens of the busiest GPU's experts over the mean.
    """

    gpus: int
    data_parallel: int = 1
    imbalance: float = 1.0


class Deployment(Validated):
    """Replicas of one model, each over ``tensor_parallel`` GPUs.

    With ``expert_parallel`` each GPU holds some routed experts whole instead of a slice of each. ``data_parallel``
    replicas then share one set of experts (vLLM's data-parallel size, SGLang's dp-size with dp-attention): attention
    and its KV cache are each replica's own, tokens go to the experts' GPUs and back, and no replica begins a layer
    before all have ended the last one. They are taken to have equal loads but for ``expert_imbalance``, the busiest
    GPU's share of the experts' tokens over the mean (1: experts balanced perfectly).

    ``weight_format`` (fp8, awq, mxfp4, ...: specs/formats) or ``weight_bits`` say how weights are stored in place of
    the model's own way; what the model keeps in a format of its own stays so. ``group_size``: how many of them share a
    scale, where not as many as usual. A draft model is placed on the same GPUs and keeps its own precision. The last
    ``replicas_without_speculation`` of the replicas load no drafter. ``router`` sends each request to a replica;
    one that finds ``max_queue`` requests waiting there is turned away (None: no limit). With ``disaggregation`` the
    replicas are those of its two pools, and each pool has such a router.
    """

    tensor_parallel: int = Field(1, gt=0, le=1024)
    replicas: int = Field(1, gt=0, le=100_000)
    disaggregation: Disaggregation | None = None
    expert_parallel: bool = False
    data_parallel: int = Field(1, gt=0, le=1024)
    expert_imbalance: float = Field(1.0, ge=1)
    weight_format: str | None = None
    weight_bits: Bits | None = None
    group_size: PositiveInt | None = None
    kv_bits: Bits = 16
    replicas_without_speculation: NonNegativeInt = 0
    router: Literal["round_robin", "least_outstanding", "power_of_two"] = "round_robin"
    max_queue: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _replicas_of_both_pools(cls, data: Any) -> Any:
        pools = data.get("disaggregation") if isinstance(data, dict) else None
        if pools is None:
            return data
        try:
            pools = Disaggregation.model_validate(pools)
        except ValidationError:
            return data  # its own field tells of it
        count = pools.prefill_replicas + pools.decode_replicas
        if data.get("replicas", count) != count:
            raise ValueError(
                f"replicas is {data['replicas']} and the pools of disaggregation have {count}; leave replicas out"
            )
        if data.get("replicas_without_speculation"):
            raise ValueError(
                "replicas_without_speculation is given and disaggregation moves the drafter's cache, which every "
                "replica must hold; leave one of them out"
            )
        return data | {"disaggregation": pools, "replicas": count}

    @field_validator("weight_format")
    @classmethod
    def _known_format(cls, name: str | None) -> str | None:
        return None if name is None else Stored.model_validate(name).format

    @model_validator(mode="after")
    def _one_of_both(self) -> Deployment:
        if self.weight_format is not None and self.weight_bits is not None:
            raise ValueError(
                f"weight_format {self.weight_format} and weight_bits {self.weight_bits:g} are given; leave one out"
            )
        return self

    @property
    def stored(self) -> Stored | None:
        """How weights are stored; None: as the model says."""
        if self.weight_format is not None:
            return Stored.named(self.weight_format, self.group_size)
        return None if self.weight_bits is None else Stored.of_bits(self.weight_bits, self.group_size or DEFAULT_GROUP)

    @property
    def decode_replicas(self) -> int:
        """Replicas that decode."""
        return self.replicas if self.disaggregation is None else self.disaggregation.decode_replicas

    @property
    def expert_group(self) -> ExpertGroup | None:
        """Where the routed experts are; None where every GPU of a replica has a slice of each."""
        if not self.expert_parallel:
            return None
        return ExpertGroup(self.tensor_parallel * self.data_parallel, self.data_parallel, self.expert_imbalance)

    @model_validator(mode="after")
    def _whole_groups(self) -> Deployment:
        pools = self.disaggregation
        counts = [self.replicas] if pools is None else [pools.prefill_replicas, pools.decode_replicas]
        if self.data_parallel > 1 and not self.expert_parallel:
            raise ValueError(
                f"data_parallel is {self.data_parallel} and expert_parallel is off, so that replicas share nothing; "
                "turn it on, or raise replicas alone"
            )
        if any(count % self.data_parallel for count in counts):
            raise ValueError(
                f"data_parallel {self.data_parallel} does not divide {' and '.join(map(str, counts))} replicas; "
                "choose a divisor"
            )
        return self

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Deployment:
        if self.replicas_without_speculation > self.replicas:
            raise ValueError(
                f"replicas_without_speculation is {self.replicas_without_speculation} and there are {self.replicas} "
                "replicas; lower it"
            )
        return self
