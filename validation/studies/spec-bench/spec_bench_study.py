"""Spec-Bench's round costs on two GPUs, predicted with one fitted host time a GPU.

A round's cost in plain steps is r = mean accepted tokens ÷ speed-up, both as the leaderboard prints them, so that
acceptance drops out and only the cost model is judged. Batch 1, 16 bits, eager passes.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from host_time_fit import HostKind, fit_host_time, round_ratio, with_host_time
from measured_corner import CornerPrices, measured_corners
from scipy.optimize import brentq
from spec_bench_data import FOLDER, GPUS, PROGRAMS, Measured, split

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost.forward import Group, KernelPrices
from specsim.cost.measured import MeasuredPrices
from specsim.cost.roofline import Roofline
from specsim.profiles.store import find_profile
from specsim.scenario import Scenario
from specsim.specs.catalog import load_hardware
from specsim.specs.host_time import HostTimes
from specsim.speculation.program import load_program

PROMPT_TOKENS, OUTPUT_TOKENS = 384, 256  # assumed: chats, summaries and retrieval mixed
CONTEXT_TOKENS = PROMPT_TOKENS + OUTPUT_TOKENS / 2
MOST_S = {"pass": 0.05, "launch": 5e-4}
PROFILED, DTYPE = "a100-80gb", "bfloat16"

# Two-model speculation is Hugging Face's assisted generation: 5 drafts at first, 2 more after a full accept, 1 fewer
# after any other round, never below 1.
RISE, FALL, LONGEST = 2, 1, 40
RARE = 1e-4  # share of rounds below which a draft length is not priced


# -- prediction -----------------------------------------------------------------------------------------------------

Host = Literal["default"] | HostKind


@dataclass(frozen=True, slots=True)
class Reading:
    """What a leaderboard ratio is taken to hold.

    ``prompt``: its times include the prompt's pass, which no drafter makes cheaper. ``accept``: a round with drafts
    takes the host once more, to choose among them and to move the cache.
    """

    prompt: bool = False
    accept: bool = False


@cache
def scenario(method: str, gpu: str, target: str) -> Scenario:
    """One row's question, its host not yet set."""
    program = load_program(PROGRAMS[method])
    sections: dict[str, Any] = {
        "name": f"{method}, {target}, {gpu}",
        "model": target,
        "gpu": gpu,
        "engine": {"kind": "reference", "max_num_seqs": 1, "graph_sizes": ()},
        "speculation": {
            "program": PROGRAMS[method],
            "draft_model": "vicuna-68m" if program.needs_draft_model else None,
            "max_draft_tokens": LONGEST if program.needs_draft_model else program.draft_tokens,
            "policy": {"kind": "fixed", "k": program.draft_tokens},
            # A law must be given and has no part in a round's cost.
            **({} if program.acceptance else {"acceptance": {"kind": "constant", "rate": 0.5}}),
        },
        "workload": {
            "kind": "synthetic",
            "requests": 1,
            "arrivals": {"kind": "closed_loop", "concurrency": 1},
            "lengths": {"kind": "fixed", "prompt_tokens": PROMPT_TOKENS, "output_tokens": OUTPUT_TOKENS},
        },
    }
    return Scenario.model_validate(sections)


@cache
def kernel_prices(gpu: str, source: str) -> KernelPrices:
    """One GPU's prices, shared by all rows: its ``profile``, its ``roofline``, or that with a measured corner, the
    ``A100's corner`` or the ``corner`` of all imported profiles.
    """
    hardware = load_hardware(gpu)
    if source == "roofline":
        return Roofline(hardware, DTYPE)
    if source == "corner":
        return CornerPrices(hardware, measured_corners(), DTYPE)
    profile = find_profile(load_hardware(PROFILED).name)
    assert profile is not None
    return (
        CornerPrices(hardware, [profile], DTYPE)
        if source == "A100's corner"
        else MeasuredPrices(profile, hardware, DTYPE)
    )


def predict(row: Measured, source: str, host: Host, seconds: float, reading: Reading) -> float:
    """r of one row. ``default`` is what specsim takes where nobody says: 5 us a launch, 1.2 ms a step, 0.63 a pass."""
    asked = scenario(row.method, row.gpu, row.target)
    if host == "default":
        host = HostTimes()
        times = {"host_step_s": host.step.seconds, "host_draft_pass_s": host.draft_pass.seconds}
        asked = asked.model_copy(update={"stated_engine": asked.stated_engine.model_copy(update=times)})
    else:
        asked = with_host_time(asked, host, seconds)
    prices = kernel_prices(row.gpu, source)
    plain = assemble(asked.without_speculation(), prices).cost
    step_s = float(plain.decode_round(1, 0, CONTEXT_TOKENS).seconds)
    extra = seconds / step_s if reading.accept and host == "pass" else 0.0

    def ratio(draft_tokens: int) -> float:
        return round_ratio(asked, draft_tokens, context_tokens=CONTEXT_TOKENS, prices=prices) + extra

    assert asked.speculation is not None
    if asked.speculation.program.needs_draft_model:
        shares = length_shares(rate_of(row.tokens_per_round))
        common = np.flatnonzero(shares > RARE)
        r = float(np.average([ratio(int(k) + 1) for k in common], weights=shares[common]))
    else:
        r = ratio(asked.speculation.policy.longest or 0)
    if not reading.prompt:
        return r
    prompt = [Group(1, PROMPT_TOKENS, PROMPT_TOKENS)]
    prompt_s = plain.step(prompt, drafting=0, draft_tokens=0, drafting_kv_tokens=0.0).seconds
    share = float(prompt_s) / (OUTPUT_TOKENS * step_s)
    return (r + row.tokens_per_round * share) / (1 + share)


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
class Way:
    """One way to predict: prices by GPU, the kind of host time, how the leaderboard is read, methods not fitted on."""

    name: str
    sources: tuple[str, str]  # by GPUS
    host: Host
    reading: Reading = Reading()
    left_out: tuple[str, ...] = ()


# The first six were fixed before any prediction was compared; the others answer what those got wrong.
WAYS = (
    Way("defaults", ("roofline", "profile"), "default"),
    Way("pass", ("roofline", "profile"), "pass"),
    Way("launch", ("roofline", "profile"), "launch"),
    Way("defaults, A100 as roofline", ("roofline", "roofline"), "default"),
    Way("pass, A100 as roofline", ("roofline", "roofline"), "pass"),
    Way("launch, A100 as roofline", ("roofline", "roofline"), "launch"),
    Way("+ A100's corner", ("A100's corner", "profile"), "pass"),
    Way("+ corner", ("corner", "profile"), "pass"),
    Way("+ prompt", ("corner", "profile"), "pass", Reading(prompt=True)),
    Way("+ accept", ("corner", "profile"), "pass", Reading(prompt=True, accept=True)),
    Way("the same, REST not fitted", ("corner", "profile"), "pass", Reading(prompt=True, accept=True), ("REST",)),
)
SHOWN = ("defaults", "pass", "launch", "+ corner", "+ accept")  # in the table of all rows


@dataclass(frozen=True, slots=True)
class Try:
    """One way on one GPU, its host time fitted on the first half of that GPU's rows; None where nothing is fitted."""

    way: str
    gpu: str
    prices: str
    host: str
    host_s: float | None
    standard_error_s: float | None
    predicted: dict[tuple[str, str], float]  # r by method and target, all rows

    def errors(self, rows: Sequence[Measured]) -> Floats:
        """Predicted / measured - 1 of this GPU's rows among ``rows``."""
        here = [row for row in rows if row.gpu == self.gpu]
        return np.array([self.predicted[row.method, row.target] / row.ratio - 1 for row in here])


def attempt(way: Way, gpu: str, rows: Sequence[Measured]) -> Try:
    """Fit on this GPU's first half and predict all of its rows."""
    source = way.sources[GPUS.index(gpu)]
    own = [row for row in split(rows)[0] if row.gpu == gpu and row.method not in way.left_out]

    def ratios(of: Sequence[Measured], seconds: float) -> list[float]:
        return [predict(row, source, way.host, seconds, way.reading) for row in of]

    seconds = error = None
    if way.host != "default":
        found = [row.ratio for row in own]
        fit = fit_host_time(found, lambda seconds: np.array(ratios(own, seconds)), most_s=MOST_S[way.host])
        seconds, error = fit.seconds, fit.standard_error_s
    here = [row for row in rows if row.gpu == gpu]
    predicted = {(r.method, r.target): x for r, x in zip(here, ratios(here, seconds or 0.0), strict=True)}
    return Try(way.name, gpu, source, way.host, seconds, error, predicted)


def tries(rows: Sequence[Measured]) -> list[Try]:
    """Every way on every GPU."""
    return [attempt(way, gpu, rows) for way in WAYS for gpu in GPUS]


def best_constant(rows: Sequence[Measured]) -> tuple[float, float]:
    """The r that, taken for all ``rows``, has the least mean |error| in hindsight, and that error.

    A weighted median, so one of the rows' own.
    """
    ratios = np.array([row.ratio for row in rows])
    error, guess = min((float(np.abs(guess / ratios - 1).mean()), float(guess)) for guess in ratios)
    return guess, error


# -- tables on disk -------------------------------------------------------------------------------------------------


def write(found: Sequence[Try], rows: Sequence[Measured]) -> None:
    """fits.csv: a line a try; predicted.csv: a line a try and row."""
    fitted = set(split(rows)[0])
    fits, lines = [], []
    for one in found:
        numbers = ["" if x is None else f"{x:.3g}" for x in (one.host_s, one.standard_error_s)]
        fits.append([one.way, one.gpu, one.prices, one.host, *numbers])
        for row in (row for row in rows if row.gpu == one.gpu):
            half, r = "fitted" if row in fitted else "scored", one.predicted[row.method, row.target]
            lines.append([one.way, one.gpu, half, row.method, row.target, f"{row.ratio:.4f}", f"{r:.4f}"])
    heads = (
        ["way", "gpu", "prices", "host", "host_s", "standard_error_s"],
        ["way", "gpu", "half", "method", "target", "measured_r", "predicted_r"],
    )
    for name, head, table in zip(("fits.csv", "predicted.csv"), heads, (fits, lines), strict=True):
        with (FOLDER / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *table])


def read() -> list[Try]:
    """What ``write`` wrote."""
    predicted: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    with (FOLDER / "predicted.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            predicted.setdefault((r["way"], r["gpu"]), {})[r["method"], r["target"]] = float(r["predicted_r"])
    with (FOLDER / "fits.csv").open(newline="") as file:
        return [
            Try(
                r["way"],
                r["gpu"],
                r["prices"],
                r["host"],
                _number(r["host_s"]),
                _number(r["standard_error_s"]),
                predicted[r["way"], r["gpu"]],
            )
            for r in csv.DictReader(file)
        ]


def _number(text: str) -> float | None:
    return float(text) if text else None
