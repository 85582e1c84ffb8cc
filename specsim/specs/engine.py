"""The serving engine's limits, under vLLM's names for them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from specsim.units import Reals


class EngineLimits(BaseModel):
    """What one replica may hold and schedule.

    ``graph_sizes``: token counts with a captured CUDA graph; None is the engine's default on a GPU (and none on a
    CPU), an empty list runs eagerly. ``async_scheduling`` hides the host's work behind the device's.
    ``prefix_caching`` is part of the contract and accepts only its default today: a value that changed nothing would
    be a silent lie.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_num_seqs: PositiveInt = 256
    max_num_batched_tokens: PositiveInt = 8192
    block_size: PositiveInt = 16
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    num_kv_blocks: PositiveInt | None = None  # None: computed from memory, see cost.memory
    chunked_prefill: bool = True
    prefix_caching: Literal[False] = False
    graph_sizes: tuple[PositiveInt, ...] | None = None
    async_scheduling: bool = False
    host_step_s: NonNegativeFloat | None = None  # None: from the profile, else the documented default
    host_draft_pass_s: NonNegativeFloat | None = None


def default_graph_sizes(max_num_seqs: int, max_draft_tokens: int = 0) -> tuple[int, ...]:
    """PLACEHOLDER of the lead, to be replaced by the researched rule."""
    most = min(2 * max_num_seqs * (1 + max_draft_tokens), 512)
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)) if size <= most)


def pad_to_graph(tokens: Reals, sizes: tuple[int, ...]) -> tuple[Reals, Reals]:
    """PLACEHOLDER of the lead: (padded tokens, whether captured)."""
    if not sizes:
        return tokens, 0.0
    index = np.searchsorted(sizes, tokens)
    padded = np.append(np.asarray(sizes, dtype=np.float64), np.inf)[index]
    captured = np.isfinite(padded)
    if isinstance(tokens, int | float):
        return (int(padded) if captured else tokens), float(captured)
    return np.where(captured, padded, tokens), captured
