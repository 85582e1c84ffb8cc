"""How a model is placed on hardware."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from specsim.specs.model import Bits
from specsim.validated import Validated


class Deployment(Validated):
    """Replicas of one model, each over ``tensor_parallel`` GPUs.

    ``weight_bits`` None keeps the model's own precision; ``group_size`` is how many weights of up to 4 bits share a
    scale. A draft model is placed on the same GPUs and keeps its own precision. The last
    ``replicas_without_speculation`` of the replicas load no drafter. ``router`` sends each request to a replica;
    one that finds ``max_queue`` requests waiting there is turned away (None: no limit).
    """

    tensor_parallel: int = Field(1, gt=0, le=1024)
    replicas: int = Field(1, gt=0, le=100_000)
    weight_bits: Bits | None = None
    group_size: PositiveInt = 128
    kv_bits: Bits = 16
    replicas_without_speculation: NonNegativeInt = 0
    router: Literal["round_robin", "least_outstanding", "power_of_two"] = "round_robin"
    max_queue: PositiveInt | None = None

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Deployment:
        if self.replicas_without_speculation > self.replicas:
            raise ValueError(
                f"replicas_without_speculation is {self.replicas_without_speculation} and there are {self.replicas} "
                "replicas; lower it"
            )
        return self
