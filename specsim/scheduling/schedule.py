"""The choice of a step's work: by vLLM's rules or by SGLang's."""

from __future__ import annotations

from typing import Any

from specsim.jit import jit
from specsim.scheduling.records import engine_at
from specsim.scheduling.rules import launch_share, schedule_vllm, share_of
from specsim.scheduling.sglang import schedule_sglang


@jit
def schedule(replica: Any) -> int:
    """Choose the next step's work and take the KV blocks it needs; returns how many shares it has."""
    engine = engine_at(replica.engine)
    replica.num_shares, replica.num_preempted = 0, 0
    if engine.sglang:
        schedule_sglang(replica, engine)
    else:
        schedule_vllm(replica, engine)
    for index in range(replica.num_shares):
        launch_share(share_of(replica, index), engine.verifies_drafts)
    return int(replica.num_shares)
