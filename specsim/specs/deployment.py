"""How a model is placed on hardware."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt

from specsim.specs.model import Bits


class Deployment(BaseModel):
    """Replicas of one model, each over ``tensor_parallel`` GPUs.

    ``weight_bits`` None keeps the model's own precision; ``group_size`` is how many weights of up to 4 bits share a
    scale. A draft model is placed on the same GPUs and keeps its own precision.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensor_parallel: PositiveInt = 1
    replicas: PositiveInt = 1
    weight_bits: Bits | None = None
    group_size: PositiveInt = 128
    kv_bits: Bits = 16
