"""The serving engine's limits, under vLLM's names for them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt


class EngineLimits(BaseModel):
    """What one replica may hold and schedule.

    ``prefix_caching``, ``async_scheduling`` and ``graph_sizes`` are part of the contract and accept only their
    defaults today: a value that changed nothing would be a silent lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_num_seqs: PositiveInt = 256
    max_num_batched_tokens: PositiveInt = 8192
    block_size: PositiveInt = 16
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    num_kv_blocks: PositiveInt | None = None  # None: computed from memory, see cost.memory
    chunked_prefill: bool = True
    prefix_caching: Literal[False] = False
    graph_sizes: None = None  # padding to captured sizes is not modelled yet
    async_scheduling: Literal[False] = False
    host_step_s: NonNegativeFloat | None = None  # None: from the profile, else the documented default
    host_draft_pass_s: NonNegativeFloat | None = None
