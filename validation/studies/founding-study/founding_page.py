"""The founding study's page from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from founding_model import largest_speedup, ratios_of
from founding_study import (
    BANDS,
    BATCHES,
    CS,
    FIXED,
    FOLDER,
    GAMMAS,
    GPUS,
    HOSTS,
    NEAR,
    Host,
    Line,
    Point,
    Run,
    Share,
)

from specsim.report.markdown import markdown_table

LETTERS = "abcdefghij"
NAMES = [host.name for host in HOSTS]


def page(found: list[Point], shares: list[Share], laid: list[Line], runs: list[Run]) -> str:
    """README.md from the tables."""
    text = (FOLDER / "page.md").read_text()
    parts = {
        "exact": f"{sum(s.exact for s in shares):,}",
        "points": f"{sum(s.points for s in shares):,}",
        "peaks": _peaks(shares),
        "coarse": str(len(CS) * len(GAMMAS)),
        "near": f"{sum(s.near for s in shares):,}",
        "counts": _counts(found, shares),
        "map": _map(found),
        "closest": _closest(found),
        "needed": _needed(),
        "slopes": _slopes(laid),
        "gains": _gains(found),
        "bound": f"{largest_speedup(BANDS[1][1]):.2f}",
        "ordering": _ordering(found),
        "long": _long(found),
        "fixed": _fixed(found),
        "traffic": _traffic(runs),
        "hosts": _hosts(),
    }
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def _hosts() -> str:
    rows = [[letter, host.name, _meaning(host)] for letter, host in zip(LETTERS, HOSTS, strict=True)]
    return markdown_table(["", "host time", "what it means"], rows)


def _meaning(host: Host) -> str:
    if host.pass_s is None:
        return "specsim's defaults for a serving engine: CUDA graphs, 1.2 ms a step and 0.63 ms a draft pass"
    if host.launch_s:
        return "eager: a pass takes its kernels or its launches, whichever is longer"
    if host.pass_s:
        return "eager: every pass, of either model, takes this on top of its kernels"
    return "kernels alone"


def _machines(found: Sequence[Point]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((p.target, p.gpu) for p in found))


def _of(found: Sequence[Point], target: str, gpu: str, host: str | None = None) -> list[Point]:
    return [p for p in found if (p.target, p.gpu) == (target, gpu) and host in (None, p.host)]


def _counts(found: list[Point], shares: list[Share]) -> str:
    of = {(s.target, s.gpu, s.host): f"{s.exact / s.points:.0%}, {s.near / s.points:.0%}" for s in shares}
    rows = []
    for target, gpu in _machines(found):
        cells = []
        for host in HOSTS:
            here = _of(found, target, gpu, host.name)
            inside = "/".join(str(sum(p.in_band(batch) for p in here)) for batch in BANDS)
            cells.append(f"{inside}; {of[target, gpu, host.name]}")
        rows.append([target, gpu, *cells])
    return markdown_table(["target", "GPU", *(f"{x}: {h.name}" for x, h in zip(LETTERS, HOSTS, strict=True))], rows)


def _peaks(shares: Sequence[Share]) -> str:
    rows = []
    for target in dict.fromkeys(s.target for s in shares):
        cells = []
        for gpu in GPUS:
            here = [s for s in shares if (s.target, s.gpu) == (target, gpu)]
            exact, near = max(here, key=lambda s: s.exact), max(here, key=lambda s: s.near)
            first = f"{exact.exact / exact.points:.1%} ({exact.host})" if exact.exact else "0"
            cells.append(f"{first} / {near.near / near.points:.0%} ({near.host})")
        rows.append([target, *cells])
    return markdown_table(["target", *GPUS], rows)


def _map(found: list[Point]) -> str:
    return "```text\n" + "\n\n".join(_block(found, target, gpu) for target, gpu in _machines(found)) + "\n```"


def _block(found: Sequence[Point], target: str, gpu: str) -> str:
    """c down, γ across; letters of the host times where the bands hold, capitals where they hold exactly."""
    rows = [f"{target}, {gpu}", "c \\ γ   " + "".join(f"{gamma:<9g}" for gamma in GAMMAS)]
    for c in CS:
        cells = ""
        for gamma in GAMMAS:
            here = [p for p in _of(found, target, gpu) if (p.c, p.gamma) == (c, gamma) and p.loss <= NEAR]
            letters = (LETTERS[NAMES.index(p.host)] for p in here)
            text = "".join(x.upper() if p.loss == 0 else x for x, p in zip(letters, here, strict=True))
            cells += f"{text or '.':<9s}"
        rows.append(f"{c:<8g}{cells}")
    return "\n".join(row.rstrip() for row in rows)


def _closest(found: list[Point]) -> str:
    rows = []
    for target, gpu in _machines(found):
        p = min(_of(found, target, gpu), key=lambda p: p.loss)
        rows.append(
            [
                target,
                gpu,
                p.host,
                p.c,
                p.gamma,
                " ".join(map(str, p.best)),
                f"{p.loss:.1%}",
                f"{p.speedup[0]:.2f}",
                f"{p.speedup[-1]:.2f}",
            ]
        )
    header = [
        "target",
        "GPU",
        "host",
        "c",
        "γ",
        f"best s at batch {', '.join(map(str, BATCHES))}",
        "loss in the bands",
    ]
    return markdown_table([*header, "speed-up at 1", "at 32"], rows)


def growth_needed(c: float, gamma: float) -> tuple[float, float]:
    """By what factor A/β must at least rise from batch 1 to 8, and from 8 to 32, for the bands to hold exactly."""
    one, eight, many = (ratios_of(low, high, c, gamma) for low, high in BANDS.values())
    return eight[0] / one[1], many[0] / eight[1]


def _needed() -> str:
    both = [growth_needed(c, gamma) for c in CS for gamma in GAMMAS]
    low, high = np.min(both, axis=0), np.max(both, axis=0)
    return f"{low[0]:.2f} to {high[0]:.2f} from batch 1 to 8 ({low[1]:.2f} to {high[1]:.2f} from 8 to 32)"


def _slopes(laid: list[Line]) -> str:
    rows = []
    for target, gpu in dict.fromkeys((line.target, line.gpu) for line in laid):
        cells: list[str] = []
        for host in ("none", "engine", "pass 2 ms", "launch 25 us"):
            ratio = {
                line.batch: line.slope_s / line.base_s
                for line in laid
                if (line.target, line.gpu, line.host) == (target, gpu, host)
            }
            cells.append(f"{ratio[1]:.3f} ×{ratio[8] / ratio[1]:.2f} ×{ratio[32] / ratio[8]:.2f}")
        rows.append([target, gpu, *cells])
    return markdown_table(["target", "GPU", "none", "engine", "pass 2 ms", "launch 25 us"], rows)


def _gains(found: list[Point]) -> str:
    """Speed-ups at the smallest and the largest batch where the bands hold nearly."""
    small, large = zip(*(p.speedup for p in found if p.loss <= NEAR), strict=True)
    return f"{min(small):.2f} to {max(small):.2f} at batch 1 and {min(large):.2f} to {max(large):.2f} at batch 32"


def _ordering(found: list[Point]) -> str:
    rows = []
    for host in HOSTS:
        cells = []
        for gpu in GPUS:
            here = [p for p in found if (p.gpu, p.host) == (gpu, host.name)]
            cells.append(f"{sum(p.ordered() for p in here)} of {len(here)}")
        rows.append([host.name, *cells])
    return markdown_table(["host", *GPUS], rows)


def _long(found: list[Point]) -> str:
    rows = []
    for target, gpu in _machines(found):
        cells = []
        for host in HOSTS:
            here = _of(found, target, gpu, host.name)
            cells.append("/".join(str(sum(p.long_speedup[i] < 1 for p in here)) for i in (0, 1)))
        rows.append([target, gpu, *cells])
    return markdown_table(["target", "GPU", *(host.name for host in HOSTS)], rows)


def _fixed(found: list[Point]) -> str:
    gains = np.array([1 / p.fixed_share - 1 for p in found])
    near = np.array([1 / p.fixed_share - 1 for p in found if p.loss <= NEAR])
    return (
        f"{np.median(gains):.1%} in the median and at most {gains.max():.0%} over all points, "
        f"{np.median(near):.1%} and at most {near.max():.0%} where the bands come out within {NEAR:.0%}"
    )


def _traffic(runs: list[Run]) -> str:
    rows = []
    for target, gpu, rate in dict.fromkeys((run.target, run.gpu, run.intense_per_s) for run in runs):
        here = {
            (run.policy, run.seed): run
            for run in runs
            if (run.target, run.gpu, run.intense_per_s) == (target, gpu, rate)
        }
        seeds = sorted({seed for _, seed in here})
        mean = {}
        for policy in dict.fromkeys(policy for policy, _ in here):
            repeats = [here[policy, seed] for seed in seeds]
            mean[policy] = np.mean([[run.mean_latency_s, run.output_tokens_per_s] for run in repeats], axis=0)
        fixed = {policy: values for policy, values in mean.items() if policy not in ("adaptive", "0")}
        quickest = min(fixed, key=lambda policy: fixed[policy][0])
        gains = [1 - here["adaptive", s].mean_latency_s / here[quickest, s].mean_latency_s for s in seeds]
        latencies = ", ".join(f"{values[0]:.2f}" for policy, values in mean.items() if policy != "adaptive")
        speeds = [values[1] for values in mean.values()]
        rows.append(
            [
                target,
                gpu,
                f"{rate:g}",
                f"{mean['adaptive'][0]:.2f}",
                latencies,
                f"s = {quickest}",
                f"{np.mean(gains):+.1%} ({min(gains):+.1%} to {max(gains):+.1%})",
                f"{speeds[0]:.0f}",
                f"{max(speeds[1:]):.0f}",
            ]
        )
    header = [
        "target",
        "GPU",
        "intense, req/s",
        "adaptive, s",
        f"fixed s = {FIXED[0]} to {FIXED[-1]}, s",
        "best fixed",
        "adaptive is quicker by (seeds)",
        "adaptive, tokens/s",
        "best fixed, tokens/s",
    ]
    return markdown_table(header, rows)
