"""SGLang's adaptive JSON: which draft lengths it may choose from at which batch size.

Rules restated from sgl-project/sglang, ``srt/speculative/adaptive_spec_params.py`` (commit 015c872) and
``adaptive_step_router.py`` (a12239f). The JSON maps a batch size, as text, to the draft lengths that its slot may
choose from by acceptance; a slot serves from its batch size up to the next, the lowest also below. One candidate a
slot is a batch-size schedule. Before the look-up the batch is padded to the next captured CUDA graph, so that k can
change only behind one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from specsim.errors import InvalidInput, NoAnswer
from specsim.interop.engine_config import EngineConfig, merged_steps, steps_policy

Slots = tuple[tuple[int, tuple[int, ...]], ...]

FILE = "speculative_adaptive.json"
# SGLang's own slots where --speculative-adaptive names no file (commit 015c872).
DEFAULT_SLOTS: Slots = ((1, (1, 3, 5, 7)), (8, (0, 1, 3)), (32, (0, 1)), (64, (0,)))


def slot_starts(batches: Sequence[int], graph_batch_sizes: Sequence[int]) -> list[int]:
    """First batch size that each slot serves, given the captured graphs (ascending, empty: none).

    A slot of 20 with graphs 1, 2, 4, 8, 16, 32 serves from 17 on, because 17 is padded to 32; a slot of 40 from 40 on.
    """
    starts = []
    for batch in batches:
        index = bisect_left(graph_batch_sizes, batch)
        padded = index < len(graph_batch_sizes)
        starts.append((graph_batch_sizes[index - 1] + 1 if index else 1) if padded else batch)
    return starts


def read_slots(content: Mapping[str, Any], where: str) -> tuple[Slots, dict[str, Any]]:
    """(slots, ascending, and the JSON's other knobs). Raises InvalidInput for no slot, or one without candidates."""
    slots = [
        (int(key), _candidates(slot, f"{where}, batch size {key}")) for key, slot in content.items() if key.isdigit()
    ]
    if not slots:
        raise InvalidInput(f'{where} has no batch size; write for instance {{"1": {{"candidate_steps": [1, 3]}}}}')
    return tuple(sorted(slots)), {key: value for key, value in content.items() if not key.isdigit()}


def slot_fields(slots: Slots, graph_batch_sizes: Sequence[int]) -> dict[str, Any]:
    """EngineConfig's fields:

    the longest draft, and a policy if every slot has one candidate, else the slots by their start.
    """
    longest = max(k for _, candidates in slots for k in candidates)
    starts = slot_starts([batch for batch, _ in slots], graph_batch_sizes)
    served = {max(1, first): ks for first, (_, ks) in zip([1, *starts[1:]], slots, strict=True)}
    fields: dict[str, Any] = {"num_speculative_tokens": longest or None}
    if any(len(candidates) > 1 for candidates in served.values()):
        return fields | {"candidate_steps": tuple(served.items())}
    steps = [(first, candidates[0]) for first, candidates in served.items()]
    return fields | {"policy": steps_policy(merged_steps(steps))}


def slots_text(config: EngineConfig, slots: Slots) -> str:
    """The JSON of slots, with the knobs that an SGLang config came with."""
    knobs = config.kept.get("speculative_adaptive_config", {}) if config.engine == "sglang" else {}
    content = knobs | {str(first): {"candidate_steps": list(candidates)} for first, candidates in slots}
    return json.dumps(content) + "\n"


def padding_notes(slots: Slots, graph_batch_sizes: Sequence[int] | None) -> list[str]:
    """What to capture for k to change where the slots say.

    Raises NoAnswer if the captured graphs are known to move a change.
    """
    firsts = [first for first, _ in slots[1:]]
    if graph_batch_sizes is None:
        behind = ", ".join(str(first - 1) for first in firsts)
        line = f"exact only with CUDA graphs captured for batch size {behind} (--cuda-graph-bs-decode)"
        return [line] if firsts else []
    moved = [f for f, start in zip(firsts, slot_starts(firsts, graph_batch_sizes), strict=True) if start != f]
    if moved:
        raise NoAnswer(
            f"SGLang pads the batch to a captured graph and cannot change k at batch {moved[0]}; "
            f"add {moved[0] - 1} to --cuda-graph-bs-decode"
        )
    return []


def _candidates(slot: object, where: str) -> tuple[int, ...]:
    steps = slot.get("candidate_steps") if isinstance(slot, dict) else None
    if not isinstance(steps, list) or not steps or not all(type(k) is int and k >= 0 for k in steps):
        raise InvalidInput(f"{where}: candidate_steps is {steps!r}; write a list of draft lengths, at least one")
    return tuple(sorted(set(steps)))
