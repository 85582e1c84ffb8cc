"""Where an early-exit drafter should leave the target, and with how many drafts: arg-max over (exit layer, k).

DEL (arXiv 2504.05598) maximises expected tokens over layers run, ((1 - α^(d+1))/(1 - α)) / (d·l + L) for exit layer l
of L. Layers are not seconds: heads, host time and batch size are missing. Both are answered here, the layer count's
choice with the speed-up that the prices give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from specsim.analytic.rounds import speedup_map
from specsim.analytic.speedups import Cell
from specsim.assembly import Assembly, assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.speculation.acceptance import LayerIndexedAcceptance
from specsim.speculation.program import DraftProgram


@dataclass(frozen=True, slots=True)
class Exit:
    """The best exit layer and draft length of a batch size, and what counting layers chooses instead."""

    batch: int
    exit_layer: int
    draft_tokens: int
    speedup: float
    low: float
    high: float
    counted_exit_layer: int
    counted_draft_tokens: int
    counted_speedup: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def best_exits(
    assembly: Assembly,
    layers: Sequence[int],
    *,
    batches: Sequence[int] | None = None,
    context_tokens: float | None = None,
    decode_only: bool = False,
) -> tuple[Exit, ...]:
    """For each batch size; off (k = 0) is a choice, and of equals the earlier layer and the shorter draft.

    Raises InvalidInput for a program without an exit, another acceptance than layer_indexed, or a layer without rate.
    """
    if not layers:
        raise InvalidInput("no exit layer to choose from; list at least one")
    scenario, cells = assembly.scenario, dict[int, list[tuple[int, Cell]]]()
    for layer in sorted(set(layers)):
        machine = assemble(leaving_at(scenario, layer))
        found = speedup_map(machine, batches=batches, context_tokens=context_tokens, decode_only=decode_only)
        for cell in found.cells:
            cells.setdefault(cell.batch, []).append((layer, cell))
    return tuple(_best(batch, options, scenario.model.num_layers) for batch, options in sorted(cells.items()))


def _best(batch: int, options: list[tuple[int, Cell]], num_layers: int) -> Exit:
    layer, top = max(options, key=lambda option: (option[1].speedup, -option[1].draft_tokens, -option[0]))
    counted, chosen = max(options, key=lambda option: tokens_per_layer(*option, num_layers=num_layers))
    return Exit(
        batch, layer, top.draft_tokens, top.speedup, top.low, top.high, counted, chosen.draft_tokens, chosen.speedup
    )


def tokens_per_layer(exit_layer: int, cell: Cell, *, num_layers: int) -> float:
    """DEL's objective: tokens a round over layers run, d·l + L. α = 0.8, d = 3, l = 8 of 32: 2.952/56 = 0.0527."""
    return cell.tokens_per_round / (cell.draft_tokens * exit_layer + num_layers)


def leaving_at(scenario: Scenario, layer: int) -> Scenario:
    """The same question with the drafter leaving the target at another layer, rates and verification to match."""
    speculation = scenario.speculation
    if speculation is None or not speculation.program.verify.from_layer:
        raise InvalidInput(
            f"scenario {scenario.name!r} has no drafter that leaves the target at a layer; "
            "choose an early-exit program"
        )
    law = speculation.acceptance
    if not isinstance(law, LayerIndexedAcceptance):
        raise InvalidInput(
            f"acceptance {getattr(law, 'kind', '?')!r} says nothing of other exit layers; give kind layer_indexed"
        )
    update = {"program": _leaving(speculation.program, layer), "acceptance": law.at(layer)}
    moved: Scenario = scenario.model_copy(update={"speculation": speculation.model_copy(update=update)})
    return moved


def _leaving(program: DraftProgram, layer: int) -> DraftProgram:
    """The program with every mention of its exit layer replaced."""
    data = program.model_dump(mode="json")
    before, data["verify"]["from_layer"] = data["verify"]["from_layer"], layer
    for phase in data["phases"]:
        for weights in phase["weights"]:
            if weights.get("kind") == "target_layers" and weights["last"] == before:
                weights["last"], weights["exits"] = layer, ()
    return DraftProgram.model_validate(data)
