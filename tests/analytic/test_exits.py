"""The best exit layer against every layer tried, and DEL's own count of layers by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from specsim.analytic.exits import best_exits, leaving_at, tokens_per_layer
from specsim.analytic.rounds import speedup_map
from specsim.assembly import assemble
from specsim.errors import InvalidInput
from specsim.scenario import Scenario

RATES = {2: 0.35, 4: 0.6, 8: 0.75, 16: 0.85, 24: 0.9}


def scenario(**speculation: Any) -> Scenario:
    law = {"kind": "layer_indexed", "rates": RATES, "exit_layer": 8}
    return Scenario.model_validate(
        {
            "schema": 1,
            "name": "exits",
            "model": "llama-3.1-8b",
            "gpu": "h200",
            "cost": {"source": "roofline"},
            "speculation": {"program": "layerskip", "max_draft_tokens": 6, "acceptance": law} | speculation,
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
                "requests": 10,
                "lengths": {"kind": "fixed", "prompt_tokens": 512, "output_tokens": 128},
            },
        }
    )


def test_no_layer_and_length_does_better() -> None:
    found = best_exits(assemble(scenario()), list(RATES), batches=[1, 16, 256])
    for best in found:
        for layer in RATES:
            cells = speedup_map(assemble(leaving_at(scenario(), layer)), batches=[best.batch]).cells
            assert all(cell.speedup <= best.speedup * (1 + 1e-12) for cell in cells)
            if layer == best.exit_layer:
                assert max(cell.speedup for cell in cells) == pytest.approx(best.speedup)
        assert best.counted_speedup <= best.speedup * (1 + 1e-12)
        assert best.speedup >= 1.0 or best.draft_tokens == 0


def test_counting_layers_by_hand() -> None:
    """(1 - 0.8^4)/0.2 = 2.952 tokens over 3·8 + 32 layers; and the choice it makes, the same at every batch."""
    cell = speedup_map(assemble(scenario()), batches=[1]).cell(1, 3)
    assert tokens_per_layer(8, replace(cell, tokens_per_round=2.952), num_layers=32) == pytest.approx(2.952 / 56)
    values = {
        (layer, d): (1 - a ** (d + 1)) / (1 - a) / (d * layer + 32) for layer, a in RATES.items() for d in range(7)
    }
    found = best_exits(assemble(scenario()), list(RATES), batches=[1, 64])
    assert {(e.counted_exit_layer, e.counted_draft_tokens) for e in found} == {max(values, key=lambda k: values[k])}


def test_a_moved_exit_moves_the_whole_drafter() -> None:
    moved = leaving_at(scenario(), 4).speculation
    assert moved is not None
    assert moved.program.verify.from_layer == 4
    assert moved.program.phases[0].weights[0].last == 4  # type: ignore[union-attr]
    assert moved.acceptance.expected_tokens(1) == pytest.approx(1.6)
    assert leaving_at(scenario(), 8).speculation == scenario().speculation


@pytest.mark.parametrize(
    ("speculation", "layers", "line"),
    [
        ({"program": "ngram"}, [4], "choose an early-exit program"),
        ({"acceptance": {"kind": "constant", "rate": 0.5}}, [4], "give kind layer_indexed"),
        ({}, [30], "outside the listed layers 2..24"),
        ({}, [], "list at least one"),
    ],
)
def test_what_cannot_be_asked_is_one_line(speculation: dict[str, Any], layers: list[int], line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        best_exits(assemble(scenario(**speculation)), layers, batches=[1])
