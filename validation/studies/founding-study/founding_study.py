"""The founding study of speculation under batching, simulated on its own set-up.

The study (Su, Giannoula, Pekhimenko, arXiv 2310.18813) models accepted tokens as c·s^γ and publishes neither constant,
so both are swept, as is the time its engine's host takes. Nothing is fitted to the lengths it found best.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from founding_model import FoundingModel, best_lengths, price_rounds, speedups, tokens_per_round

from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.results import RunResult
from specsim.scenario import Scenario
from specsim.serving.simulate import simulate
from specsim.specs.catalog import load_hardware

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "spec-bench"))

from measured_corner import CornerPrices, measured_corners  # noqa: E402

TARGETS = (("opt-1.3b", "opt-125m"), ("opt-6.7b", "opt-125m"), ("llama-7b", "vicuna-68m"))
CORNER = "+corner"  # priced with a measured corner instead of a roofline's
GPUS = ("rtx-3090", "rtx-3090+corner", "rtx-4090", "rtx-4090+corner", "a100-80gb")
BATCHES = (1, 2, 4, 8, 16, 32)
LONGEST = 16  # draft tokens searched
LONG = 8  # draft tokens of a long draft: the upper end of the study's band at batch 1
LINE = 5  # draft tokens over which a line is laid through round times
CONTEXT_TOKENS = 192.0  # 128 of prompt, half of 128 of output: assumed
CS = (0.5, 0.65, 0.8, 0.95)
GAMMAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FINE_CS, FINE_GAMMAS = np.linspace(0.5, 0.95, 46), np.linspace(0.4, 0.9, 51)
NEAR = 0.02  # share of throughput that a measured optimum may well be off by
BANDS = {1: (6, 8), 8: (3, 4), 32: (0, 2)}  # batch: best draft lengths that the study reports, lowest and highest
PUBLISHED_SPEEDUP = {1: 2.73, 32: 1.31}  # batch: speed-up of its adaptive scheme


@dataclass(frozen=True, slots=True)
class Host:
    """The host in every pass: ``pass_s`` on top of the kernels, or ``launch_s`` a kernel while kernels run."""

    name: str
    pass_s: float | None = 0.0  # None: specsim's defaults for a serving engine, with CUDA graphs
    launch_s: float = 0.0

    def engine(self) -> dict[str, Any]:
        """The engine section of a scenario."""
        if self.pass_s is None:
            return {}
        return {"graph_sizes": (), "host_step_s": self.pass_s, "host_draft_pass_s": self.pass_s}


HOSTS = (
    Host("none"),
    Host("engine", None),
    *(Host(f"pass {ms} ms", ms / 1e3) for ms in (1, 2, 5, 15, 30)),
    *(Host(f"launch {us} us", 0.0, us / 1e6) for us in (10, 25, 50)),
)


# -- closed form ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Point:
    """Best draft length and its speed-up by batch size, at one machine, host time, c and γ."""

    target: str
    gpu: str
    host: str
    c: float
    gamma: float
    best: tuple[int, ...]  # by BATCHES
    speedup: tuple[float, float]  # at the smallest and the largest batch
    loss: float  # largest share of throughput that lengths inside the bands lose to the best ones, over BANDS
    long_speedup: tuple[float, float]  # of LONG draft tokens at the two largest batches
    fixed_share: float  # mean speed-up over BATCHES with the best single length, over that with the best of each

    def in_band(self, batch: int) -> bool:
        low, high = BANDS[batch]
        return low <= self.best[BATCHES.index(batch)] <= high

    def ordered(self) -> bool:
        """Whether the best length never rises from one banded batch size to the next."""
        chosen = [self.best[BATCHES.index(batch)] for batch in BANDS]
        return chosen == sorted(chosen, reverse=True)


@dataclass(frozen=True, slots=True)
class Share:
    """Points of the fine grid of c and γ where all bands hold, and where they hold within NEAR."""

    target: str
    gpu: str
    host: str
    points: int
    exact: int
    near: int


@dataclass(frozen=True, slots=True)
class Line:
    """A + β of the founding model through the rounds of one batch size, and how far they are from a line."""

    target: str
    gpu: str
    host: str
    batch: int
    slope_s: float
    base_s: float
    worst: float  # largest |deviation| of a round from the line, as a share


def scenario(target: str, draft: str, gpu: str, host: Host, **changes: Any) -> Scenario:
    """The study's set-up on one machine; ``changes`` replace sections."""
    hardware = load_hardware(gpu.removesuffix(CORNER))
    if host.pass_s is not None:
        hardware = hardware.model_copy(update={"launch_s": host.launch_s})
    sections: dict[str, Any] = {
        "name": f"{target} on {gpu}",
        "model": target,
        "gpu": hardware,
        "engine": {"kind": "reference", "max_num_seqs": max(BATCHES), **host.engine()},
        "speculation": {
            "program": "draft-model",
            "draft_model": draft,
            "max_draft_tokens": LONGEST,
            "acceptance": {"kind": "power_law", "c": 0.8, "gamma": 0.7},
        },
        "workload": {
            "kind": "synthetic",
            "arrivals": {"kind": "closed_loop", "concurrency": 1},
            "requests": 1,
            "lengths": {"kind": "fixed", "prompt_tokens": 128, "output_tokens": 128},
        },
    }
    return Scenario.model_validate(sections | changes)


def prices(target: str, draft: str, gpu: str, host: Host) -> Floats:
    """Seconds a round, [BATCHES, LONGEST + 1]."""
    asked = scenario(target, draft, gpu, host)
    cost = assemble(asked, corner_prices(gpu.removesuffix(CORNER)) if gpu.endswith(CORNER) else None).cost
    return price_rounds(cost, BATCHES, LONGEST, CONTEXT_TOKENS)


@cache
def corner_prices(gpu: str) -> CornerPrices:
    """A card's roofline with the corner of the imported profiles."""
    return CornerPrices(load_hardware(gpu), measured_corners(), "bfloat16")


def points(target: str, gpu: str, host: str, round_s: Floats) -> Iterator[Point]:
    """The decision at every c and γ."""
    for c in CS:
        for gamma in GAMMAS:
            tokens = tokens_per_round(LONGEST, c, gamma)
            best, gain = best_lengths(round_s, tokens), speedups(round_s, tokens)
            top = gain.max(axis=1)
            loss = loss_in_bands(gain)
            yield Point(
                target,
                gpu,
                host,
                c,
                gamma,
                tuple(best.tolist()),
                tuple(np.round(top[[0, -1]], 3).tolist()),
                round(float(loss), 4),
                tuple(np.round(gain[-2:, LONG], 3).tolist()),
                round(float(gain.mean(axis=0).max() / top.mean()), 4),
            )


def loss_in_bands(gain: Floats) -> Floats:
    """Largest share of throughput that lengths inside the bands lose, from speed-ups [..., BATCHES, lengths]."""
    lost = []
    for batch, (low, high) in BANDS.items():
        row = gain[..., BATCHES.index(batch), :]
        lost.append(1 - row[..., low : high + 1].max(axis=-1) / row.max(axis=-1))
    return np.asarray(np.max(lost, axis=0))


def share(target: str, gpu: str, host: str, round_s: Floats) -> Share:
    """The bands over the fine grid of c and γ."""
    s = np.arange(LONGEST + 1.0)
    tokens = 1.0 + FINE_CS[:, None, None, None] * s ** FINE_GAMMAS[:, None, None]
    lost = loss_in_bands(speedups(round_s, tokens))
    return Share(target, gpu, host, lost.size, int((lost == 0).sum()), int((lost <= NEAR).sum()))


def lines(target: str, gpu: str, host: str, round_s: Floats) -> Iterator[Line]:
    """The founding model's straight line at every batch size."""
    for batch, row in zip(BATCHES, round_s[:, : LINE + 1], strict=True):
        line = FoundingModel.of_rounds(row, 1.0, 0.5)  # c and γ do not matter here
        fitted = line.base_s + line.slope_s * np.arange(len(row))
        worst = float(np.max(np.abs(fitted / row - 1)))
        yield Line(
            target, gpu, host, batch, float(f"{line.slope_s:.4g}"), float(f"{line.base_s:.4g}"), round(worst, 4)
        )


def closed_form() -> tuple[list[Point], list[Share], list[Line]]:
    """Every machine and host time."""
    found: list[Point] = []
    shares: list[Share] = []
    laid: list[Line] = []
    for target, draft in TARGETS:
        for gpu in GPUS:
            for host in HOSTS:
                round_s = prices(target, draft, gpu, host)
                found += points(target, gpu, host.name, round_s)
                shares.append(share(target, gpu, host.name, round_s))
                laid += lines(target, gpu, host.name, round_s)
    return found, shares, laid


# -- time-varying traffic -------------------------------------------------------------------------------------------

# Two machines: one where the best length moves much with the batch (RTX 3090), one where it hardly does (A100).
TRAFFIC = (
    ("opt-6.7b", "opt-125m", "rtx-3090", (5.0, 7.0, 9.0)),
    ("opt-6.7b", "opt-125m", "a100-80gb", (14.0,)),
)
TRAFFIC_C, TRAFFIC_GAMMA = 0.8, 0.6  # the middle of the sweep
PERIOD_S, SPARSE_PER_S, CV = 20.0, 0.5, 2.0
REQUESTS, SEEDS = 300, (1, 2, 3, 4, 5)
FIXED = (0, 1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated run."""

    target: str
    gpu: str
    intense_per_s: float
    policy: str  # adaptive, or the fixed draft length
    seed: int
    mean_latency_s: float
    output_tokens_per_s: float


def served(
    target: str, draft: str, gpu: str, intense_per_s: float, policy: str, seed: int, requests: int = REQUESTS
) -> RunResult:
    """Requests at a rate that alternates between intense and sparse, Gamma gaps; the seed fixes all but the policy."""
    chosen = {"kind": "profiled"} if policy == "adaptive" else {"kind": "fixed", "k": int(policy)}
    speculation = {
        "program": "draft-model",
        "draft_model": draft,
        "max_draft_tokens": max(FIXED),
        "policy": chosen,
        "acceptance": {"kind": "power_law", "c": TRAFFIC_C, "gamma": TRAFFIC_GAMMA},
    }
    workload = {
        "kind": "synthetic",
        "requests": requests,
        "arrivals": {
            "kind": "piecewise",
            "cv": CV,
            "pieces": ((PERIOD_S, intense_per_s), (PERIOD_S, SPARSE_PER_S)),
        },
        "lengths": {"kind": "fixed", "prompt_tokens": 128, "output_tokens": 128},
    }
    host = next(host for host in HOSTS if host.pass_s is None)
    asked = scenario(target, draft, gpu, host, speculation=speculation, workload=workload, seed=seed)
    return simulate(assemble(asked))


def traffic() -> list[Run]:
    """Every policy under every load and seed."""
    found = []
    for target, draft, gpu, rates in TRAFFIC:
        for rate in rates:
            for policy in ("adaptive", *map(str, FIXED)):
                for seed in SEEDS:
                    summary = served(target, draft, gpu, rate, policy, seed).summary()
                    latency_s, speed = summary["mean_e2el_ms"] / 1e3, summary["output_throughput"]
                    found.append(Run(target, gpu, rate, policy, seed, round(latency_s, 4), round(speed, 2)))
    return found


# -- tables on disk -------------------------------------------------------------------------------------------------

TABLES = {"best.csv": Point, "shares.csv": Share, "lines.csv": Line, "traffic.csv": Run}


def write(path: Path, rows: Sequence[Any]) -> None:
    """Dataclasses as CSV; tuples as numbers separated by spaces."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(asdict(rows[0]))
        for row in rows:
            values = asdict(row).values()
            writer.writerow([" ".join(map(str, v)) if isinstance(v, tuple) else v for v in values])


def read(path: Path, kind: type[Any]) -> list[Any]:
    """What ``write`` wrote."""
    makers: dict[str, Callable[[str], Any]] = {
        "float": float,
        "int": int,
        "str": str,
        "tuple[int, ...]": lambda text: tuple(map(int, text.split())),
        "tuple[float, ...]": lambda text: tuple(map(float, text.split())),
        "tuple[float, float]": lambda text: tuple(map(float, text.split())),
    }
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [kind(**{name: makers[kind.__annotations__[name]](text) for name, text in row.items()}) for row in rows]
