"""One request as it arrives, before anything has served it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """``arrival_s`` is None in a closed loop, where the previous completion decides it."""

    request_id: int
    arrival_s: float | None
    prompt_tokens: int
    output_tokens: int
    request_class: str = "default"
