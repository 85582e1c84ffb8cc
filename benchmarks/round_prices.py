"""How long 100,000 round prices (batch × draft length × context) take on one core, and how much arrays save.

    python benchmarks/round_prices.py [profile ...]

Each question is new: contexts are drawn anew for every repeat, so nothing is remembered. The ratio compares with
asking one by one in the same run.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

from specsim.assembly import assemble
from specsim.scenario import Scenario
from specsim.speculation.round import RoundCost

BATCHES, DRAFT_LENGTHS, CONTEXTS, REPEATS, SINGLES = 100, 10, 100, 5, 300


def scenario(gpu: str) -> Scenario:
    """Llama-3.1-8B with Llama-3.2-1B as its drafter."""
    return Scenario.model_validate(
        {
            "name": "benchmark",
            "model": "llama-3.1-8b",
            "gpu": gpu,
            "speculation": {
                "program": "draft-model",
                "draft_model": "llama-3.2-1b",
                "max_draft_tokens": DRAFT_LENGTHS,
                "acceptance": {"kind": "constant", "rate": 0.7},
            },
            "workload": {
                "kind": "synthetic",
                "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
                "requests": 1,
                "lengths": {"kind": "fixed", "prompt_tokens": 1000, "output_tokens": 100},
            },
        }
    )


def map_s(cost: RoundCost, generator: np.random.Generator) -> float:
    """Seconds for all prices, as arrays over batch and context."""
    batches = np.unique(np.geomspace(1, 400, 2 * BATCHES).round())[:BATCHES, None]
    contexts = np.sort(generator.uniform(64, 32_768, CONTEXTS))[None, :]
    start_s = time.perf_counter()
    for k in range(DRAFT_LENGTHS):
        seconds = np.broadcast_to(cost.decode_round(batches, k, contexts).seconds, (BATCHES, CONTEXTS))
        assert np.isfinite(seconds).all()
    return time.perf_counter() - start_s


def single_s(cost: RoundCost, generator: np.random.Generator) -> float:
    """Seconds of one price, asked alone."""
    start_s = time.perf_counter()
    for _ in range(SINGLES):
        cost.decode_round(
            int(generator.integers(1, 400)), int(generator.integers(DRAFT_LENGTHS)), generator.uniform(64, 32_768)
        )
    return (time.perf_counter() - start_s) / SINGLES


def main() -> None:
    generator = np.random.default_rng(0)
    for gpu in sys.argv[1:] or ["h200"]:
        machine = assemble(scenario(gpu))
        cost = machine.cost
        map_s(cost, generator)
        repeats = [map_s(cost, generator) for _ in range(REPEATS)]
        one = single_s(cost, generator)
        count = BATCHES * DRAFT_LENGTHS * CONTEXTS
        print(
            f"{gpu}, prices from {machine.price_name}: {count:,} rounds in {np.median(repeats):.3f} s "
            f"(fastest {min(repeats):.3f}, slowest {max(repeats):.3f}); "
            f"one alone {one * 1e6:.0f} us, {one * count / np.median(repeats):.0f} times as long each"
        )


if __name__ == "__main__":
    main()
