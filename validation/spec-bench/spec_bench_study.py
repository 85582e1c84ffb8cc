"""Spec-Bench's round costs on two GPUs, predicted with one fitted host time a GPU.

A round's cost in plain steps is r = mean accepted tokens ÷ speed-up, both as the leaderboard prints them, so that
acceptance drops out and only the cost model is judged. Batch 1, 16 bits, eager passes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from specsim.calibration import HostFit, HostKind, fit_host_time, round_ratio, with_host_time
from specsim.cost.forward import KernelPrices
from specsim.cost.roofline import DEFAULT_HOST_S
from specsim.scenario import Scenario
from specsim.speculation.program import load_program

Floats = NDArray[np.float64]
FOLDER = Path(__file__).parent

EDITION, EARLIER = "fd2c1cd", "09244ff"  # commits of the leaderboard: the one scored, and an earlier one
SEED = 20261121  # of the split, chosen before anything was predicted
CONTEXT_TOKENS = 512.0  # assumed: chats, summaries and retrieval mixed
MOST_S = {"pass": 0.05, "launch": 5e-4}
PRICES = {"rtx-3090": ("roofline",), "a100-80gb": ("kernels", "roofline")}
GPUS = tuple(PRICES)

# Leaderboard name: bundled program. Draft lengths are the programs' own but for two-model speculation.
PROGRAMS = {
    "SpS": "draft-model", "PLD": "ngram", "Medusa": "medusa-1", "Hydra": "hydra", "EAGLE": "eagle-tree", "EAGLE-2": "eagle2",
    "EAGLE-3": "eagle3-tree", "Lookahead": "lookahead", "REST": "rest", "Token Recycling": "token-recycling",
}  # fmt: skip
# Two-model speculation is Hugging Face's assisted generation: 5 drafts at first, 2 more after a full accept, 1 fewer
# after any other round, never below 1.
RISE, FALL, LONGEST = 2, 1, 40
RARE = 1e-4  # share of rounds below which a draft length is not priced


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


# -- prediction -----------------------------------------------------------------------------------------------------


@cache
def scenario(method: str, gpu: str, target: str, source: str) -> Scenario:
    """One row's question, its host not yet set."""
    program = load_program(PROGRAMS[method])
    sections: dict[str, Any] = {
        "name": f"{method}, {target}, {gpu}", "model": target, "gpu": gpu, "cost": {"source": source},
        "engine": {"max_num_seqs": 1, "graph_sizes": ()},
        "speculation": {
            "program": PROGRAMS[method], "draft_model": "vicuna-68m" if program.needs_draft_model else None,
            "max_draft_tokens": LONGEST if program.needs_draft_model else program.draft_tokens,
            "policy": {"kind": "fixed", "k": program.draft_tokens},
            # A law must be given and has no part in a round's cost.
            **({} if program.acceptance else {"acceptance": {"kind": "constant", "rate": 0.5}}),
        },
        "workload": {
            "kind": "synthetic", "requests": 1, "arrivals": {"kind": "closed_loop", "concurrency": 1},
            "lengths": {"kind": "fixed", "prompt_tokens": 384, "output_tokens": 256},
        },
    }  # fmt: skip
    return Scenario.model_validate(sections)


@cache
def kernel_prices(gpu: str, source: str) -> KernelPrices:
    """One GPU's prices, shared by all rows."""
    return scenario("PLD", gpu, "vicuna-7b", source).kernel_prices()


def predict(row: Measured, source: str, host: HostKind | Literal["default"], seconds: float) -> float:
    """r of one row. ``default`` is what specsim takes where nobody says: 5 us a launch, 1.2 ms a step, 0.63 a pass."""
    asked = scenario(row.method, row.gpu, row.target, source)
    if host == "default":
        times = {"host_step_s": DEFAULT_HOST_S["step"], "host_draft_pass_s": DEFAULT_HOST_S["draft_pass"]}
        asked = asked.model_copy(update={"engine": asked.engine.model_copy(update=times)})
    else:
        asked = with_host_time(asked, host, seconds)
    assert asked.speculation is not None
    prices = kernel_prices(row.gpu, source)

    def ratio(draft_tokens: int) -> float:
        return round_ratio(asked, draft_tokens, context_tokens=CONTEXT_TOKENS, prices=prices)

    if not asked.speculation.program.needs_draft_model:
        return ratio(asked.speculation.policy.longest or 0)
    shares = length_shares(rate_of(row.tokens_per_round))
    common = np.flatnonzero(shares > RARE)
    return float(np.average([ratio(int(k) + 1) for k in common], weights=shares[common]))


def length_shares(rate: float) -> Floats:
    """Share of rounds that draft 1, 2, .. LONGEST tokens under the rise and fall, each draft accepted at ``rate``."""
    moves = np.zeros((LONGEST, LONGEST))
    for k in range(1, LONGEST + 1):
        moves[k - 1, min(k + RISE, LONGEST) - 1] += rate**k
        moves[k - 1, max(k - FALL, 1) - 1] += 1 - rate**k
    system = np.vstack([moves.T - np.eye(LONGEST), np.ones(LONGEST)])
    right = np.append(np.zeros(LONGEST), 1.0)
    return np.asarray(np.clip(np.linalg.lstsq(system, right)[0], 0.0, 1.0))


def tokens_per_round(rate: float) -> float:
    """Mean tokens a round under the rise and fall."""
    k = np.arange(1, LONGEST + 1)
    return float(length_shares(rate) @ ((1 - rate ** (k + 1)) / (1 - rate)))


def rate_of(tokens: float) -> float:
    """The rate at which the rise and fall commits so many tokens a round."""
    return float(brentq(lambda rate: tokens_per_round(rate) - tokens, 0.01, 0.95))


# -- fit and score --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Try:
    """One way of pricing and one kind of host time on one GPU, fitted on the first half of its rows."""

    gpu: str
    source: str
    host: str
    fit: HostFit | None  # None for the default
    predicted: dict[tuple[str, str], float]  # r by method and target, all rows

    def errors(self, rows: Sequence[Measured]) -> Floats:
        """Predicted / measured - 1 of this GPU's rows among ``rows``."""
        here = [row for row in rows if row.gpu == self.gpu]
        return np.array([self.predicted[row.method, row.target] / row.ratio - 1 for row in here])


def attempt(gpu: str, source: str, host: HostKind | Literal["default"], rows: Sequence[Measured]) -> Try:
    """Fit on the first half of this GPU's rows and predict all of them."""
    here = [row for row in rows if row.gpu == gpu]
    fitted = [row for row in split(rows)[0] if row.gpu == gpu]
    fit = None
    if host != "default":
        fit = fit_host_time(
            [row.ratio for row in fitted],
            lambda seconds: np.array([predict(row, source, host, seconds) for row in fitted]), most_s=MOST_S[host],
        )  # fmt: skip
    seconds = 0.0 if fit is None else fit.seconds
    return Try(gpu, source, host, fit, {(r.method, r.target): predict(r, source, host, seconds) for r in here})


def tries(rows: Sequence[Measured]) -> list[Try]:
    """Every way of pricing with every kind of host time."""
    hosts: tuple[HostKind | Literal["default"], ...] = ("default", "pass", "launch")
    return [
        attempt(gpu, source, host, rows) for gpu, sources in PRICES.items() for source in sources for host in hosts
    ]


def best_constant(rows: Sequence[Measured]) -> tuple[float, float]:
    """The r that, taken for every row, has the least mean |error|, and that error."""
    ratios = np.array([row.ratio for row in rows])
    errors = [(float(np.abs(guess / ratios - 1).mean()), float(guess)) for guess in ratios]  # a weighted median: a row
    error, guess = min(errors)
    return guess, error
