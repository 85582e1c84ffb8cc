"""How a model is placed on hardware."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from specsim.specs.model import Bits


class Deployment(BaseModel):
    """Replicas of one model; ``weight_bits`` None keeps the model's own precision.

    Tensor parallelism needs priced collectives, which do not exist yet, so only 1 is accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensor_parallel: Literal[1] = 1
    replicas: PositiveInt = 1
    weight_bits: Bits | None = None
    kv_bits: Bits = 16
