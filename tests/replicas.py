"""Replicas of made-up prices, for tests of what serving does with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specsim.assembly import Assembly
from specsim.scenario import Scenario, Speculation
from specsim.specs.deployment import Deployment
from specsim.specs.engine import EngineLimits
from specsim.speculation.acceptance import AcceptanceLaw

# Expected mean KV length 1,024; nothing of the model or the machine is looked at, but for the machine's being a CPU,
# which captures no graphs.
BASE: dict[str, Any] = {
    "name": "made up",
    "model": "opt-125m",
    "gpu": "cpu-generic",
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
        "requests": 1,
        "lengths": {"kind": "fixed", "prompt_tokens": 896, "output_tokens": 256},
    },
}


def replica(
    limits: EngineLimits,
    num_kv_blocks: int,
    cost: Any,
    speculation: Speculation | None = None,
    seed: int = 0,
    *,
    acceptance_by_class: Mapping[str, AcceptanceLaw] | None = None,
    max_queue: int | None = None,
    kind: type[Assembly] = Assembly,
) -> Assembly:
    """A replica whose steps ``cost`` prices; its drafter need not fit its model."""
    classes = [{"name": name, "acceptance": law} for name, law in (acceptance_by_class or {}).items()]
    scenario = Scenario.model_validate(BASE | {"workload": BASE["workload"] | {"classes": classes}})
    asked = {
        "stated_engine": limits.model_copy(update={"kind": "reference", "num_kv_blocks": num_kv_blocks}),
        "speculation": speculation,
        "seed": seed,
        "deployment": Deployment(max_queue=max_queue),
    }
    return kind(scenario.model_copy(update=asked), given_cost=cost)
