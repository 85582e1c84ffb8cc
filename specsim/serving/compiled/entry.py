"""The compiled loop, kept on disk between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numba

from specsim.serving.compiled import loop, price


@lru_cache(maxsize=1)
def compiled_serve() -> Callable[..., tuple[int, int]]:
    """``loop.serve``, compiled when first called and then read from numba's cache."""

    def entry(*arguments: Any) -> tuple[int, int]:
        return loop.serve(*arguments)  # a global: what a closure holds would become part of the cache's key

    return _cached(entry, "serve")


@lru_cache(maxsize=1)
def compiled_price() -> Callable[..., tuple[float, int]]:
    """``price.step_seconds``, likewise."""

    def entry(*arguments: Any) -> tuple[float, int]:
        return price.step_seconds(*arguments)

    return _cached(entry, "price")


def is_compiled() -> bool:
    """Whether this machine keeps compiled code of these sources; every run reads prices with it."""
    entry = compiled_price()
    return any(Path(entry.stats.cache_path).glob(f"*{entry.py_func.__qualname__}*.nbi"))  # type: ignore[attr-defined]


def _cached(entry: Callable[..., Any], name: str) -> Callable[..., Any]:
    """numba notices a change only of the file that holds the function itself, so the entry's name tells the state of
    all sources: each state has a cache of its own.
    """
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    entry.__qualname__ = f"{name}_{hashlib.sha256(sources).hexdigest()[:16]}"
    return cast(Callable[..., Any], numba.njit(cache=True)(entry))
