"""The choice of a step's work, by the rules of the replica's engine."""

from __future__ import annotations

from specsim.jit import call_at, jit
from specsim.scheduling.records import engine_at, replica_at
from specsim.scheduling.rules import launch_share, share_of


@jit
def schedule(address: int) -> int:
    """Choose a replica's next step and take the KV blocks it needs; returns how many shares it has."""
    replica = replica_at(address)
    replica.num_shares, replica.num_preempted = 0, 0
    count = call_at(replica.rules, address, 0)
    for index in range(count):
        launch_share(share_of(replica, index), engine_at(replica.engine).verifies_drafts)
    return count
