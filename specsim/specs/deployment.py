"""How a model is placed on hardware."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from specsim.specs.model import Bits
from specsim.validated import Validated


class KvLink(Validated):
    """What each GPU's KV cache crosses from a prefill to a decode replica.

    The default is a network adapter of 400 Gb/s a GPU (NVIDIA's DGX H100 has eight ConnectX-7 for eight GPUs), at its
    datasheet's rate. ``latency_s``: of a transfer, beside what its bytes take.
    """

    bandwidth_bytes_per_s: PositiveFloat = 50e9
    latency_s: NonNegativeFloat = 0.0


class Disaggregation(Validated):
    """A pool of replicas that compute prompts, and one of replicas that decode (see ``scheduling.disaggregation``)."""

    prefill_replicas: int = Field(1, gt=0, le=100_000)
    decode_replicas: int = Field(1, gt=0, le=100_000)
    kv_link: KvLink = KvLink()


class Deployment(Validated):
    """Replicas of one model, each over ``tensor_parallel`` GPUs.

    ``weight_bits`` None keeps the model's own precision; ``group_size`` is how many weights of up to 4 bits share a
    scale. A draft model is placed on the same GPUs and keeps its own precision. The last
    ``replicas_without_speculation`` of the replicas load no drafter. ``router`` sends each request to a replica;
    one that finds ``max_queue`` requests waiting there is turned away (None: no limit). With ``disaggregation`` the
    replicas are those of its two pools, and each pool has such a router.
    """

    tensor_parallel: int = Field(1, gt=0, le=1024)
    replicas: int = Field(1, gt=0, le=100_000)
    disaggregation: Disaggregation | None = None
    weight_bits: Bits | None = None
    group_size: PositiveInt = 128
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

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Deployment:
        if self.replicas_without_speculation > self.replicas:
            raise ValueError(
                f"replicas_without_speculation is {self.replicas_without_speculation} and there are {self.replicas} "
                "replicas; lower it"
            )
        return self
