"""numba's decorator with a type that leaves a function's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def jit(function: _Function) -> _Function:
    """Compiled when first called, for the types of that call."""
    return cast(_Function, numba.njit(function))
