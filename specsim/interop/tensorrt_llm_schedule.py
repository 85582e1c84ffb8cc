"""The draft length by batch size in TensorRT-LLM's YAML, read and written.

``draft_len_schedule`` changed its
meaning in pull request 10860 (March 2026, the 1.3 line): a key is now the LAST batch size of its range, the smallest
key must draft ``max_draft_len``, and nothing is drafted above the largest. Up to 1.2 a key was the FIRST batch size
of its range, key 1 had to be there, and the last range had no end. The same text means two schedules, so that the
reader must be told. ``max_concurrency`` n drafts up to batch n; it excludes a schedule. An open pull request (16888)
would draft 1 instead of 0 in one-model drafters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig, merged_steps, steps_policy, steps_ranges, used_steps
from specsim.speculation.policy import FixedPolicy, OffAbovePolicy, TablePolicy

BatchKeys = Literal["last", "first"]

MAX_BATCH_SIZE = 2048  # TensorRT-LLM's own max_batch_size where the YAML has none


def read_schedule(
    schedule: Mapping[int, int] | None,
    limit: int | None,
    longest: int | None,
    keys: BatchKeys,
    where: str,
    notes: list[str],
) -> FixedPolicy | OffAbovePolicy | TablePolicy | None:
    """The policy of a ``draft_len_schedule`` or of ``max_concurrency``, ``limit``; None where neither changes k.

    ``longest``: ``max_draft_len``. Raises InvalidInput for both, and for a schedule that TensorRT-LLM refuses.
    """
    if schedule is not None and limit is not None:
        raise InvalidInput(f"{where}: max_concurrency and draft_len_schedule exclude each other; keep one")
    if limit is not None and longest is not None:
        return OffAbovePolicy(k=longest, max_batch=limit)
    if schedule is None:
        return None
    where = f"{where}.draft_len_schedule"
    if not schedule:
        raise InvalidInput(f"{where} is empty; write at least one batch size: draft length, or remove it")
    ranges = sorted(schedule.items())
    if keys == "first" and ranges[0][0] != 1:
        raise InvalidInput(f"{where} starts at batch {ranges[0][0]}; up to TensorRT-LLM 1.2 it must have key 1")
    for batch, k in ranges:
        if longest is not None and k > longest:
            raise InvalidInput(
                f"{where}: {batch}: {k} is above max_draft_len {longest}; lower it or raise max_draft_len"
            )
    if longest is not None and ranges[0][1] != longest:
        raise InvalidInput(
            f"{where}: the smallest key, {ranges[0][0]}, must draft max_draft_len {longest}; it has {ranges[0][1]}"
        )
    if keys == "first":
        return steps_policy(merged_steps(ranges))
    if ranges[0][0] == 1:
        notes.append("keys of draft_len_schedule are read as last batch sizes (1.3); up to 1.2 they were first ones")
    starts = [1] + [batch + 1 for batch, _ in ranges]
    return steps_policy(merged_steps(list(zip(starts, [k for _, k in ranges] + [0], strict=True))))


def schedule_fields(config: EngineConfig, keys: BatchKeys, notes: list[str]) -> dict[str, Any]:
    """max_draft_len with, if k changes, max_concurrency (one range, then nothing) or draft_len_schedule."""
    steps = used_steps(config, "TensorRT-LLM")
    longest = steps[0][1]
    if longest < max(k for _, k in steps):
        first, k = next(step for step in steps if step[1] > longest)
        raise NoAnswer(
            f"TensorRT-LLM's smallest batches draft max_draft_len, and the schedule drafts {longest} at batch 1 and "
            f"{k} from batch {first} on; raise the first range"
        )
    if len(steps) == 1:
        return {"max_draft_len": longest}
    if len(steps) == 2 and steps[1][1] == 0:
        return {"max_draft_len": longest, "max_concurrency": steps[1][0] - 1}
    if config.method == "ngram":
        notes.append("TensorRT-LLM lists NGram under no dynamic draft length; check that the schedule takes effect")
    if keys == "first":
        return {"max_draft_len": longest, "draft_len_schedule": dict(steps)}
    notes.append("draft_len_schedule has last batch sizes, as TensorRT-LLM 1.3 reads it; up to 1.2 it had first ones")
    last_batch = config.limits.get("max_num_seqs")
    if steps[-1][1] > 0 and last_batch is None:
        notes.append(f"nothing is drafted above batch {MAX_BATCH_SIZE}, TensorRT-LLM's own max_batch_size")
    ranges = steps_ranges(steps, last_batch or MAX_BATCH_SIZE)
    return {
        "max_draft_len": longest,
        "draft_len_schedule": {last: k for _, last, k in ranges[:-1] + ranges[-1:] * (steps[-1][1] > 0)},
    }
