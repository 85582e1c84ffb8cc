"""The leaderboard's rows and their two halves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent

EDITION, EARLIER = "fd2c1cd", "09244ff"  # commits of the leaderboard: the one scored, and an earlier one
SEED = 20261121  # of the split, chosen before anything was predicted
GPUS = ("rtx-3090", "a100-80gb")

# Leaderboard name: bundled program. Draft lengths are the programs' own but for two-model speculation.
PROGRAMS = {
    "SpS": "draft-model", "PLD": "ngram", "Medusa": "medusa-1", "Hydra": "hydra", "EAGLE": "eagle-tree",
    "EAGLE-2": "eagle2", "EAGLE-3": "eagle3-tree", "Lookahead": "lookahead", "REST": "rest",
    "Token Recycling": "token-recycling",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the leaderboard."""

    edition: str
    method: str
    gpu: str
    target: str
    tokens_per_round: float
    speedup: float

    @property
    def ratio(self) -> float:
        return self.tokens_per_round / self.speedup


def measured(edition: str = EDITION) -> list[Measured]:
    """Rows of an edition whose method is among PROGRAMS."""
    with (FOLDER / "measured.csv").open(newline="") as file:
        rows = [
            Measured(
                r["edition"], r["method"], r["gpu"], r["target"], float(r["tokens_per_round"]), float(r["speedup"])
            )
            for r in csv.DictReader(file)
        ]
    return [row for row in rows if row.edition == edition and row.method in PROGRAMS]


def split(rows: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """(to fit on, to score on): of each GPU a half drawn by SEED, the odd row going to the first."""
    generator = np.random.default_rng(SEED)
    fitted: list[Measured] = []
    scored: list[Measured] = []
    for gpu in GPUS:
        here = [row for row in rows if row.gpu == gpu]
        order = generator.permutation(len(here))
        half = (len(here) + 1) // 2
        fitted += [here[i] for i in sorted(order[:half])]
        scored += [here[i] for i in sorted(order[half:])]
    return fitted, scored
