"""What a profile's header states of this machine, in any Python that has torch and numpy: specsim's or an engine's.

As a program (``engine_machine`` starts it) it answers the one JSON request of its command line on standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from specsim.errors import SpecsimError
from specsim.profiling.device.ceilings import compute_ceilings, copy_ceiling, launch_overhead_s
from specsim.profiling.device.machine import Machine, default_dtype, inspect
from specsim.profiling.device.probe import probe_s
from specsim.profiling.device.timer import Capture, Clock, clock_and_capture


def machine_facts(machine: Machine) -> dict[str, Any]:
    """Fields of a header that nothing needs to be measured for."""
    return {
        "device_name": machine.device_name,
        "device": machine.device,
        "threads": machine.threads,
        "clocks": machine.clocks,
        "driver": machine.driver,
        "versions": machine.versions,
        "last_level_cache_bytes": machine.last_level_cache_bytes,
        "memory_bytes": machine.memory_bytes,
    }


def measured_rates(
    machine: Machine, dtypes: Sequence[str], clock: Clock, capture: Capture, limit_s: float
) -> dict[str, Any]:
    """Launch overhead [s] and ceilings, of products in ``dtypes`` for ``limit_s`` seconds or so.

    Raises NoAnswer where no product runs in the first dtype.
    """
    return {
        "launch_s": launch_overhead_s(machine.device),
        "ceilings": {
            "copy_bytes_per_s": copy_ceiling(machine.device, clock, capture),
            "flops_per_s": compute_ceilings(machine.device, dtypes, clock, capture, limit_s),
            "processors": machine.processors,
        },
    }


def _answer(what: str, device: str, dtype: str | None = None, limit_s: float = 0.0) -> dict[str, Any]:
    clock, capture = clock_and_capture(device)
    machine = inspect(device)
    if what == "facts":
        return {"facts": machine_facts(machine), "slug": machine.slug(), "default_dtype": default_dtype(device)}
    dtype = dtype or default_dtype(device)
    if what == "rates":
        return measured_rates(machine, [dtype], clock, capture, limit_s)
    return {"probe_s": probe_s(device, dtype, clock, capture)}


def main() -> None:
    """Answer {"what": "facts", "rates" or "probe", "device", "dtype", "limit_s"}; a refusal is {"error": a line}."""
    try:
        answer = _answer(**json.loads(sys.argv[1]))
    except SpecsimError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
