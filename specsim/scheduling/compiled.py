"""Functions of a step that are compiled apart and called by their address, each once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from specsim.jit import Callback, is_kept
from specsim.speculation import compiled_uniform, uniform
from specsim.speculation.policy import learning
from specsim.surfaces import look_up


@cache
def compiled(function: Callable[[int, int], int]) -> Callback:
    """A function of this folder, or of one above it; compiled when first asked for, then read from numba's cache."""
    return Callback(function, _sources(function))


def is_compiled(function: Callable[[int, int], int]) -> bool:
    """Whether this machine keeps the compiled function."""
    return is_kept(function, _sources(function))


def _sources(function: Callable[[int, int], int]) -> list[Path]:
    """Files that hold what it may call, or records that it works on."""
    here, own = Path(__file__).parent, Path(function.__code__.co_filename).parent
    below = [Path(str(module.__file__)) for module in (compiled_uniform, uniform, learning, look_up)]
    return [*own.glob("*.py"), *here.glob("*.py"), *below]
