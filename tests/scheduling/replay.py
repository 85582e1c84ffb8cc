"""A recording from vLLM's scheduler, played to any scheduler of ours, step by step.

``replay(recording, factory)`` gives each difference as one line of text. A scheduler under test needs ``add``,
``schedule``, ``complete`` and ``propose`` as ``specsim.scheduling.scheduler.Scheduler`` has them, ``pool.free_blocks``
and ``waiting``; ``factory(limits, num_kv_blocks, **drafting)`` makes one. The format is told in record_vllm.py.
"""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specsim.scheduling.scheduler import Scheduler, SequenceState, Step
from specsim.specs.engine import EngineLimits

RECORDINGS = Path(__file__).parent / "recordings"
Recording = dict[str, Any]
Factory = Callable[..., Scheduler]


def recordings() -> list[Recording]:
    """All scenarios of all files."""
    return [
        json.loads(line)
        for path in sorted(RECORDINGS.glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


def replay(recording: Recording, factory: Factory = Scheduler) -> Iterator[str]:
    """Differences, the first first; after it the two go different ways, so that later ones mean little."""
    limits = EngineLimits.model_validate({k: v for k, v in recording["limits"].items() if k != "num_kv_blocks"})
    scheduler = factory(limits, recording["limits"]["num_kv_blocks"], **recording["scheduler"])
    sequences = [
        SequenceState(
            number, prompt, output, priority=priority, prefix_hashes=tuple(hashes),
            hash_block_tokens=limits.block_size,
        )
        for number, (_, prompt, output, priority, hashes) in enumerate(recording["requests"])
    ]  # fmt: skip
    in_flight: deque[Step] = deque()
    for number, event in enumerate(recording["events"]):
        if event[0] == "s":
            for request in event[1]:
                scheduler.add(sequences[request])
            step = scheduler.schedule()
            in_flight.append(step)
            yield from _differences(f"event {number}", _scheduled(step, scheduler), event[2:6])
            if limits.async_scheduling:
                for share in step.scheduled:
                    if share.emits:
                        scheduler.propose(share.sequence, event[6])
        else:
            emitted = scheduler.complete(in_flight.popleft(), event[1])
            yield from _differences(f"event {number}", [emitted, scheduler.free_blocks], event[2:4])
            for request, drafts in event[4]:
                scheduler.propose(sequences[request], drafts)
    unfinished = [s.request_id for s in sequences if not s.finished]
    yield from _differences("end", [unfinished, scheduler.has_work], [[], False])


def _scheduled(step: Step, scheduler: Scheduler) -> list[Any]:
    shares = [
        [
            share.sequence.request_id, share.tokens, share.drafts + share.padding,
            share.sequence.scheduled_tokens - share.tokens,
        ]
        for share in step.scheduled
    ]  # fmt: skip
    preempted = sorted(sequence.request_id for sequence in step.preempted)
    return [shares, preempted, scheduler.free_blocks, [s.request_id for s in scheduler.waiting]]


def _differences(where: str, ours: list[Any], theirs: list[Any]) -> Iterator[str]:
    if ours != theirs:
        yield f"{where}: ours {ours}, vLLM's {theirs}"
