"""How many requests a second the simulator serves, on one core, feature by feature.

    python benchmarks/serving_speed.py [--trace AZURE_CONVERSATIONS.csv] [--million]

Llama-3.1-8B on an A100, Poisson 6.45/s, chunks of 512, 2,000 requests of 512 tokens in and out, after Vidur's own
example; each feature is that scenario with one thing changed. ``conversations`` has the Azure trace's lengths, or
lognormal ones with its means and variation. ``SimPy`` is the open loop under the other drive. Times are CPU seconds,
the least of several repeats, after start-up, which is told apart. ``--million``: 100,000 and one million requests on
32 replicas, k = 4, acceptance 0.7, and the memory that they took.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from specsim.assembly import assemble
from specsim.scenario import Scenario
from specsim.serving.events import serve_by_events
from specsim.serving.fleet import Fleet
from specsim.serving.prices import priced_replicas
from specsim.serving.simulate import simulate
from specsim.serving.sinks import KeptRecords
from specsim.workload.prefixes import prefix_hashes
from specsim.workload.request import Requests, joined

RATE_PER_S, REQUESTS, REPEATS, CLIENTS = 6.45, 2000, 5, 64
MEANS = {"kind": "lognormal", "prompt_mean": 1155, "prompt_cv": 0.96, "output_mean": 211, "output_cv": 0.77}
FIXED = {"kind": "fixed", "prompt_tokens": 512, "output_tokens": 512}
CONSTANT = {"kind": "constant", "rate": 0.7}
LATENT = {
    "kind": "latent",
    "requests": {"kind": "beta", "mean": 0.7, "concentration": 6.0},
    "spans": {"mean_tokens": 20.0, "concentration": 8.0},
}
CONFIDENT = {
    "kind": "confidence",
    "persistence": 0.5,
    "levels": [
        {"confidence": 0.95, "weight": 5},
        {"confidence": 0.6, "weight": 3},
        {"confidence": 0.2, "weight": 2},
    ],
}
COPIED = {"kind": "hurdle", "hit_rate": 0.3, "runs": {"kind": "geometric", "continue_rate": 0.8}}
BLOCK = 16  # tokens


def question(
    lengths: dict[str, Any] = FIXED,
    *,
    requests: int = REQUESTS,
    replicas: int = 1,
    router: str = "round_robin",
    rate: float = RATE_PER_S,
    engine: dict[str, Any] | None = None,
    pools: dict[str, Any] | None = None,
    **speculation: Any,
) -> Scenario:
    """The scenario of one line; any of ``speculation`` makes it draft 4 tokens."""
    fields: dict[str, Any] = {
        "name": "benchmark",
        "model": "llama-3.1-8b",
        "gpu": "a100-80gb",
        "engine": {"kind": "reference", "max_num_batched_tokens": 512, "max_num_seqs": 256} | (engine or {}),
        "deployment": {"replicas": replicas, "router": router, "disaggregation": pools},
        "workload": {
            "kind": "synthetic",
            "requests": requests,
            "lengths": lengths,
            "arrivals": {"kind": "poisson", "rate_per_s": rate * replicas},
        },
    }
    if speculation:
        fields["speculation"] = {"program": "ngram", "max_draft_tokens": 4, "acceptance": CONSTANT} | speculation
    return Scenario.model_validate(fields)


def closed(requests: Requests) -> Requests:
    return replace(requests, arrival_s=None, think_s=np.zeros(len(requests)))


def in_three_classes(requests: Requests) -> Requests:
    index = np.random.default_rng(0).integers(0, 3, len(requests)).astype(np.int16)
    return replace(requests, class_index=index, classes=("a", "b", "c"), priorities=(0, 1, 2))


def conversations(requests: Requests) -> Requests:
    """As in the Mooncake traces (arXiv 2407.00079): few prompts begin a popular conversation, most go on from one."""
    generator, blocks = np.random.default_rng(0), int(requests.prompt_tokens.max()) // BLOCK
    hashes = []
    for number in range(len(requests)):
        conversation, shared = int(generator.zipf(1.5)) % 50, int(generator.integers(blocks))
        own = blocks * (50 + number)
        hashes.append([blocks * conversation + i if i < shared else own + i for i in range(blocks)])
    return replace(requests, prefixes=prefix_hashes(hashes, BLOCK))


def unchanged(requests: Requests) -> Requests:
    return requests


Line = tuple[Callable[[], Scenario], Callable[[Requests], Requests]]
LINES: dict[str, Line] = {
    "closed loop of 64": (question, closed),
    "prefix caching": (lambda: question(engine={"prefix_caching": True}), conversations),
    "SGLang's rules": (lambda: question(engine={"rules": "sglang"}), unchanged),
    "priorities": (lambda: question(engine={"scheduling_policy": "priority"}), in_three_classes),
    "drafter, k = 4": (lambda: question(acceptance=CONSTANT), unchanged),
    "throughput, learned": (lambda: question(policy={"kind": "throughput"}), unchanged),
    "tiers of k": (
        lambda: question(policy={"kind": "tiers", "tiers": [{"first_batch": 1, "choices": [0, 2, 4]}]}),
        unchanged,
    ),
    "plus-minus": (lambda: question(policy={"kind": "plus_minus"}), unchanged),
    "table by KV length": (lambda: question(policy={"kind": "profiled", "contexts": [500.0, 900.0]}), unchanged),
    "confidence stop": (
        lambda: question(policy={"kind": "confidence", "threshold": 0.4, "adapt": {}}, acceptance=CONFIDENT),
        unchanged,
    ),
    "verify budget of 64": (
        lambda: question(policy={"kind": "verify_budget", "k": 4, "tokens": 64}, acceptance=CONFIDENT),
        unchanged,
    ),
    "verify budget, best": (
        lambda: question(policy={"kind": "verify_budget", "k": 4}, acceptance=CONFIDENT),
        unchanged,
    ),
    "latent levels in spans": (lambda: question(acceptance=LATENT), unchanged),
    "copying drafter": (lambda: question(acceptance=COPIED), unchanged),
    "four replicas, least outstanding": (
        lambda: question(replicas=4, router="least_outstanding", rate=RATE_PER_S / 4),
        unchanged,
    ),
    "disaggregated": (
        lambda: question(replicas=2, pools={"prefill_replicas": 1, "decode_replicas": 1}, rate=RATE_PER_S / 2),
        unchanged,
    ),
}


def memory_mb() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    name: str,
    scenario: Scenario,
    changed: Callable[[Requests], Requests] = unchanged,
    *,
    by_events: bool = False,
    beside: float | None = None,
) -> float:
    """Print one line; requests a second, and what they are of ``beside``."""
    replicas = priced_replicas(assemble(scenario))
    requests = changed(joined(list(scenario.workload.chunks(scenario.seed))))
    clients = CLIENTS if requests.arrival_s is None else None
    spent_s = []
    for _ in range(REPEATS + 1):  # the first one loads what is compiled
        fleet = Fleet(
            replicas,
            requests.classes,
            router=scenario.deployment.router,
            clients=clients,
            disaggregation=scenario.deployment.disaggregation,
        )
        serve, sink = partial(serve_by_events, fleet) if by_events else fleet.serve, KeptRecords(requests.classes)
        begun_s = time.process_time()
        serve([requests], sink)
        spent_s.append(time.process_time() - begun_s)
    best_s, steps = min(spent_s[1:]), sink.steps()
    batch = sum(step.sequences for step in steps) / len(steps)
    rate = len(requests) / best_s
    print(
        f"{name:33}{rate:9,.0f} requests/s {'' if beside is None else f'{rate / beside:4.2f} of the open loop'} "
        f"{1e6 * best_s / len(steps):6.2f} us a step ({len(steps):,} steps, mean batch {batch:.0f})"
    )
    return rate


def million(requests: int) -> None:
    """Print one line for the long run."""
    scenario = question(requests=requests, replicas=32, acceptance=CONSTANT)
    before_mb, begun_s = memory_mb(), time.process_time()
    summary = simulate(assemble(scenario)).summary()
    spent_s = time.process_time() - begun_s
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
    print(f"imports: {time.process_time():.2f} s of CPU, {memory_mb():.0f} MB")
    begun_s = time.process_time()
    measure("conversations", question({"kind": "trace", "path": chosen.trace} if chosen.trace else MEANS))
    print(
        f"start-up and first line, tables made, code compiled or loaded: {time.process_time() - begun_s:.2f} s of CPU"
    )
    open_loop = measure("open loop", question())
    for name, (scenario, changed) in LINES.items():
        measure(name, scenario(), changed, beside=open_loop)
    measure("SimPy, open loop", question(), by_events=True, beside=open_loop)
    if chosen.million:
        for requests in (100_000, 1_000_000):
            million(requests)


if __name__ == "__main__":
    main()
