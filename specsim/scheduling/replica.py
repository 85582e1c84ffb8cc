"""The arrays that a replica's records lie in, made by Python."""

from __future__ import annotations

import numpy as np

from specsim.arrays import Records
from specsim.jit import address_of, compiled, point
from specsim.scheduling.records import BLOCK, BOTH, REPLICA, SHARE
from specsim.scheduling.sglang import schedule_sglang
from specsim.scheduling.vllm import schedule_vllm

HOLDING = 4  # times max_num_seqs: the most requests that hold blocks of a prefill replica with prefix caching


class ReplicaArrays:
    """One idle replica: its record, and the arrays that the record points to, kept alive."""

    def __init__(self, engine: Records, record: Records, shares: Records | None = None) -> None:
        """``record`` [1] is filled in; ``shares``: scratch for one step, its own where none is given."""
        seqs, blocks = int(engine["max_num_seqs"][0]), int(engine["num_blocks"][0])
        self.record = record
        self.engine = engine
        self.running = np.zeros(seqs, np.int64)
        self.preempted, self.reserved = np.zeros(seqs, np.int64), np.zeros(seqs, np.int64)
        self.shares = new_shares(engine) if shares is None else shares
        point(record, {name: getattr(self, name) for name in ("engine", "running", "preempted", "reserved", "shares")})
        record["free_plain"], record["seen_s"] = blocks, np.inf
        record["rules"] = compiled(schedule_sglang if engine["sglang"][0] else schedule_vllm).address
        if engine["prefix_caching"][0]:
            longest = -(-int(engine["max_model_len"][0]) // int(engine["block_size"][0]))
            tables = seqs * (1 if engine["role"][0] == BOTH else HOLDING)
            self._name_blocks(tables, blocks, min(blocks, longest))

    def _name_blocks(self, tables: int, blocks: int, longest: int) -> None:
        """Room for the names of all blocks. The system gives out zeros only where they are written to, so it takes
        as much memory as there are names.
        """
        self.blocks = np.zeros(blocks, BLOCK)
        self.buckets = np.zeros(1 << (blocks - 1).bit_length(), np.int64)
        self.tables = np.zeros((tables, longest), np.int64)
        self.spare_tables = address_of(self.tables) + self.tables.strides[0] * np.arange(tables)[::-1]
        point(self.record, {"fresh_block": self.blocks, "buckets": self.buckets, "spare_tables": self.spare_tables})
        self.record["num_buckets"], self.record["num_spare_tables"] = len(self.buckets), tables


def new_shares(engine: Records) -> Records:
    """Room for one step."""
    return np.zeros(int(engine["max_num_seqs"][0]), SHARE)


def new_replica(engine: Records) -> ReplicaArrays:
    return ReplicaArrays(engine, np.zeros(1, REPLICA))
