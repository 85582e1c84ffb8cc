"""What is taken for all that a question without a file leaves open."""

from __future__ import annotations

from typing import Any

from specsim.errors import InvalidInput
from specsim.scenario.drafter import target_of
from specsim.scenario.question import read_hardware
from specsim.scenario.read import section
from specsim.specs.hardware import Hardware

CLIENTS, PROMPT_TOKENS, OUTPUT_TOKENS, REQUESTS = 8, 1024, 256, 1000
MOST_OF_MEMORY = 0.7  # that weights may take, so that a cache worth having is left


def fill_in(data: dict[str, Any]) -> list[str]:
    """State what a question's fields leave open; a phrase for each assumption."""
    assumed = []
    model, gpu = target_of(data), _gpu_of(data)
    deployment, workload = section(data, "deployment"), section(data, "workload")
    if "tensor_parallel" not in deployment and model is not None and gpu is not None:
        ranks = _ranks(model.weight_bytes(), gpu.memory_bytes)
        deployment["tensor_parallel"] = ranks
        assumed.append(
            f"tensor parallel {ranks}, the fewest GPUs of whose memory weights take {MOST_OF_MEMORY:.0%} at most"
        )
    if workload.setdefault("kind", "synthetic") == "synthetic":
        assumed += _fill_in_workload(workload)
    name = f"{model.name if model else data['model']}-on-{gpu.name if gpu else data['gpu']}"
    head = {"schema": 1, "name": name.lower()}
    rest = dict(data)
    data.clear()
    data.update(head | rest)
    return assumed


def _gpu_of(data: dict[str, Any]) -> Hardware | None:
    """The GPU of a scenario's fields; None where they name none that is known, which building it tells."""
    try:
        found = read_hardware(data["gpu"])
    except InvalidInput:
        return None
    return found if isinstance(found, Hardware) else None


def _fill_in_workload(workload: dict[str, Any]) -> list[str]:
    assumed = []
    if "arrivals" not in workload:
        workload["arrivals"] = {"kind": "closed_loop", "concurrency": CLIENTS}
        assumed.append(f"{CLIENTS} clients, each sending its next request when one ends")
    lengths = workload.setdefault("lengths", {"kind": "fixed"})
    if lengths.get("kind") == "fixed":
        for side, tokens in (("prompt", PROMPT_TOKENS), ("output", OUTPUT_TOKENS)):
            if f"{side}_tokens" not in lengths:
                lengths[f"{side}_tokens"] = tokens
                assumed.append(f"{tokens} {side} tokens")
        assumed.append("every request of these lengths")
    workload.setdefault("requests", max(REQUESTS, 10 * workload["arrivals"].get("concurrency", 0)))
    return assumed


def _ranks(weight_bytes: float, memory_bytes: float) -> int:
    """The smallest power of two of GPUs that the weights fit."""
    ranks = 1
    while weight_bytes > MOST_OF_MEMORY * memory_bytes * ranks and ranks < 1024:
        ranks *= 2
    return ranks
