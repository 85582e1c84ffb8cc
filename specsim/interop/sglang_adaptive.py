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
from specsim.specs.yaml_file import build
from specsim.speculation.policy import Tier, TieredPolicy

FILE = "speculative_adaptive.json"
KNOBS = {  # of a slot, or of all slots that do not say otherwise
    "up_hysteresis": "rise",
    "down_hysteresis": "fall",
    "ema_alpha": "ema",
    "update_interval": "interval",
    "warmup_batches": "warmup",
}
# SGLang's own slots where --speculative-adaptive names no file (commit 015c872).
DEFAULT_TIERS = (
    Tier(first_batch=1, choices=(1, 3, 5, 7)),
    Tier(first_batch=8, choices=(0, 1, 3), fall=0.0),
    Tier(first_batch=32, choices=(0, 1), fall=0.0),
    Tier(first_batch=64, choices=(0,), fall=0.0),
)


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


def read_tiers(content: Mapping[str, Any], where: str) -> tuple[tuple[Tier, ...], dict[str, Any]]:
    """(tiers by their own batch sizes, ascending, and what else the JSON says).

    Raises InvalidInput for no slot, or one without candidates.
    """
    shared = {key: value for key, value in content.items() if not key.isdigit()}
    slots = sorted((int(key), slot) for key, slot in content.items() if key.isdigit())
    if not slots:
        raise InvalidInput(f'{where} has no batch size; write for instance {{"1": {{"candidate_steps": [1, 3]}}}}')
    tiers = tuple(_tier(batch, slot, shared, f"{where}, batch size {batch}") for batch, slot in slots)
    return tiers, {key: value for key, value in shared.items() if key not in KNOBS}


def tier_fields(tiers: Sequence[Tier], initial: int | None, graph_batch_sizes: Sequence[int]) -> dict[str, Any]:
    """EngineConfig's fields: the longest draft, and the policy, a plain schedule if every tier has one candidate."""
    longest = max(tier.choices[-1] for tier in tiers)
    starts = slot_starts([tier.first_batch for tier in tiers], graph_batch_sizes)
    served = {max(1, first): tier for first, tier in zip([1, *starts[1:]], tiers, strict=True)}
    fields: dict[str, Any] = {"num_speculative_tokens": longest or None}
    if any(len(tier.choices) > 1 for tier in served.values()):
        moved = tuple(tier.model_copy(update={"first_batch": first}) for first, tier in served.items())
        return fields | {"policy": TieredPolicy(tiers=moved, initial=initial)}
    steps = [(first, tier.choices[0]) for first, tier in served.items()]
    return fields | {"policy": steps_policy(merged_steps(steps))}


def tiers_text(config: EngineConfig, tiers: Sequence[Tier]) -> str:
    """The JSON of tiers, with what else an SGLang config came with."""
    kept = config.kept.get("speculative_adaptive_config", {}) if config.engine == "sglang" else {}
    content = kept | {str(tier.first_batch): _slot(tier) for tier in tiers}
    return json.dumps(content) + "\n"


def padding_notes(tiers: Sequence[Tier], graph_batch_sizes: Sequence[int] | None) -> list[str]:
    """What to capture for k to change where the slots say.

    Raises NoAnswer if the captured graphs are known to move a change.
    """
    firsts = [tier.first_batch for tier in tiers[1:]]
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


def _tier(batch: int, slot: object, shared: Mapping[str, Any], where: str) -> Tier:
    own = slot if isinstance(slot, dict) else {}
    steps = own.get("candidate_steps")
    if not isinstance(steps, list) or not steps or not all(type(k) is int and k >= 0 for k in steps):
        raise InvalidInput(f"{where}: candidate_steps is {steps!r}; write a list of draft lengths, at least one")
    said = {**shared, **own}
    knobs = {name: said[key] for key, name in KNOBS.items() if key in said}
    return build(Tier, {"first_batch": batch, "choices": steps, **knobs}, where)


def _slot(tier: Tier) -> dict[str, Any]:
    """The candidates, and the knobs that are not at SGLang's defaults."""
    plain = Tier(first_batch=tier.first_batch, choices=tier.choices)
    knobs = {key: getattr(tier, name) for key, name in KNOBS.items() if getattr(tier, name) != getattr(plain, name)}
    return {"candidate_steps": list(tier.choices), **knobs}
