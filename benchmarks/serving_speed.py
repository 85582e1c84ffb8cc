"""How many requests a second the simulator serves, on one core, and where the time goes.

    python benchmarks/serving_speed.py [--trace AZURE_CONVERSATIONS.csv] [--million]

Vidur's own example (Llama-3-8B on an A100, Poisson 6.45/s, chunks of 512, 2,000 requests, Azure conversation lengths),
512 tokens in and out, and both with a drafter of k = 4. Without ``--trace`` lengths are lognormal with the trace's
means and variation. ``--million``: one million requests on 32 replicas at that rate each, k = 4, acceptance 0.7.
Times are wall clock, medians of repeats after start-up; start-up is told apart.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import statistics
import time
from typing import Any

from specsim.assembly import assemble
from specsim.scenario import Scenario
from specsim.serving.fleet import Fleet
from specsim.serving.price_table import tabled
from specsim.serving.simulate import simulate
from specsim.serving.sinks import Records

RATE_PER_S, REPEATS = 6.45, 5
MEANS = {"kind": "lognormal", "prompt_mean": 1155, "prompt_cv": 0.96, "output_mean": 211, "output_cv": 0.77}


def question(lengths: dict[str, Any], *, k: int = 0, requests: int = 2000, replicas: int = 1) -> Scenario:
    """The scenario of one line."""
    fields: dict[str, Any] = {
        "name": "benchmark", "model": "llama-3.1-8b", "gpu": "a100-80gb",
        "engine": {"max_num_batched_tokens": 512, "max_num_seqs": 256},
        "deployment": {"replicas": replicas},
        "workload": {
            "kind": "synthetic", "requests": requests, "lengths": lengths,
            "arrivals": {"kind": "poisson", "rate_per_s": RATE_PER_S * replicas},
        },
    }  # fmt: skip
    if k:
        fields["speculation"] = {
            "program": "ngram",
            "max_draft_tokens": k,
            "acceptance": {"kind": "constant", "rate": 0.7},
        }
    return Scenario.model_validate(fields)


def memory_mb() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, scenario: Scenario) -> None:
    """Print one line: requests a second, and the seconds of each stage."""
    classes = ["default"]
    begun_s = time.perf_counter()
    servers = assemble(scenario).replicas
    priced_s = time.perf_counter()
    servers = [tabled(server) for server in servers]
    tabled_s = time.perf_counter()
    Fleet(servers, classes, router="round_robin").serve(
        [next(iter(scenario.workload.chunks(scenario.seed, 2)))], Records(classes)
    )
    loaded_s = time.perf_counter()
    stages: list[tuple[float, float, float]] = []
    for _ in range(REPEATS):
        marks = [time.perf_counter()]
        parts = list(scenario.workload.chunks(scenario.seed))
        marks.append(time.perf_counter())
        sink = Records(classes)
        Fleet(servers, classes, router="round_robin").serve(parts, sink)
        marks.append(time.perf_counter())
        records, steps = sink.requests(), sink.steps()
        marks.append(time.perf_counter())
        stages.append((marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]))
    drawn_s, loop_s, kept_s = (statistics.median(column) for column in zip(*stages, strict=True))
    total_s = statistics.median(sum(one) for one in stages)
    print(
        f"{name}: {len(records) / total_s:,.0f} requests/s ({len(steps):,} steps, mean batch "
        f"{statistics.fmean(step.sequences for step in steps):.0f}; draw {drawn_s * 1e3:.0f} ms, loop "
        f"{loop_s * 1e3:.0f} ms, records {kept_s * 1e3:.0f} ms); before: price source {priced_s - begun_s:.2f} s, "
        f"tables {tabled_s - priced_s:.2f} s, compiled code {loaded_s - tabled_s:.2f} s; {memory_mb():.0f} MB so far"
    )


def million(lengths: dict[str, Any], requests: int) -> None:
    """Print one line for the long run."""
    scenario = question(lengths, k=4, requests=requests, replicas=32)
    before_mb, begun_s = memory_mb(), time.perf_counter()
    summary = simulate(assemble(scenario)).summary()
    spent_s = time.perf_counter() - begun_s
    print(
        f"{summary['completed']:,} requests on 32 replicas, k = 4: {spent_s:.1f} s, "
        f"{summary['completed'] / spent_s:,.0f} requests/s, {summary['steps']:,} steps, "
        f"{before_mb:.0f} -> {memory_mb():.0f} MB; p99 TTFT {summary['p99_ttft_ms']:.0f} ms, "
        f"saturated: {summary['saturated']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace")
    parser.add_argument("--million", action="store_true")
    chosen = parser.parse_args()
    lengths = {"kind": "trace", "path": chosen.trace} if chosen.trace else MEANS
    fixed = {"kind": "fixed", "prompt_tokens": 512, "output_tokens": 512}
    print(f"imports: {time.process_time():.2f} s of CPU, {memory_mb():.0f} MB")
    for name, law in (("conversations", lengths), ("512 in, 512 out", fixed)):
        for k in (0, 4):
            measure(f"{name}, k = {k}", question(law, k=k))
    if chosen.million:
        for requests in (100_000, 1_000_000):
            million(lengths, requests)


if __name__ == "__main__":
    main()
