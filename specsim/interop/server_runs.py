"""What a server says of a run by itself: latencies in a dump of vLLM's /metrics, throughput in its log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from specsim.errors import InvalidInput
from specsim.text_file import read_text

WHAT = "a dump of vLLM's /metrics, or its log"
# Histograms of seconds, by what ``vllm bench serve`` calls their means.
LATENCIES = {
    "time_to_first_token_seconds": "mean_ttft_ms",
    "inter_token_latency_seconds": "mean_itl_ms",
    "request_time_per_output_token_seconds": "mean_tpot_ms",
    "e2e_request_latency_seconds": "mean_e2el_ms",
}
SAMPLE = re.compile(r"^vllm:(\w+)_(sum|count)(?:\{[^}]*\})?\s+([-+.\deE]+)\s*$", re.MULTILINE)
LINE = re.compile(
    r"Avg prompt throughput: [\d.]+ tokens/s, Avg generation throughput: ([\d.]+) tokens/s, "
    r"Running: (\d+) reqs, Waiting: (\d+) reqs"
)
FEWEST_LINES = 3


@dataclass(frozen=True, slots=True)
class ServerRun:
    """``running``: requests at a time throughout, None where the file does not say. ``figures``: by the names of
    ``vllm bench serve``.
    """

    format: str
    running: int | None
    figures: Mapping[str, float]


def read_server_runs(path: Path) -> list[ServerRun]:
    """One run of a dump, means since the server started; of a log one for each number of requests it kept running.

    A log's line counts if the one before it told the same number running and none waiting; three make a run. Raises
    InvalidInput for a file of neither kind.
    """
    text = read_text(path, WHAT)
    figures = _latencies(text)
    if figures:
        return [ServerRun("vLLM /metrics", None, figures)]
    lines = [(float(rate), int(running), int(waiting)) for rate, running, waiting in LINE.findall(text)]
    steady: dict[int, list[float]] = {}
    for (_, before, queued), (rate, running, waiting) in pairwise(lines):
        if before == running and running and not waiting and not queued and rate:
            steady.setdefault(running, []).append(rate)
    found = [
        ServerRun("vLLM log", running, {"output_throughput": float(np.mean(rates))})
        for running, rates in sorted(steady.items())
        if len(rates) >= FEWEST_LINES
    ]
    if not found:
        raise InvalidInput(
            f"{path}: no latencies of vLLM's /metrics and no {FEWEST_LINES} steady lines 'Avg generation throughput' "
            "of its log; give a load generator's result, a dump of a server that was asked, or a longer log"
        )
    return found


def _latencies(text: str) -> dict[str, float]:
    """Means in ms, engines added up."""
    totals: dict[tuple[str, str], float] = {}
    for name, kind, value in SAMPLE.findall(text):
        if name in LATENCIES:
            totals[name, kind] = totals.get((name, kind), 0.0) + float(value)
    return {
        LATENCIES[name]: 1e3 * seconds / totals[name, "count"]
        for (name, kind), seconds in totals.items()
        if kind == "sum" and totals.get((name, "count")) and seconds > 0
    }
