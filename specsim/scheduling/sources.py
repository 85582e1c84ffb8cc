"""Which files the compiled step is made of, so that numba's cache is not asked for another state of them."""

from __future__ import annotations

from pathlib import Path

from specsim.speculation import compiled_uniform, uniform
from specsim.speculation.policy import learning
from specsim.surfaces import look_up


def sources() -> list[Path]:
    """Files that hold what the step calls, or records that it works on."""
    below = [Path(str(module.__file__)) for module in (compiled_uniform, uniform, learning, look_up)]
    return [*Path(__file__).parent.glob("*.py"), *below]
