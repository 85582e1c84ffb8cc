"""numba as this package uses it: functions that work on records behind addresses, and one way in from Python.

A ``jit`` function is compiled with whatever calls it. A ``Callback`` is compiled alone, when it is first wanted, and
called by its address: what only some runs need costs the others nothing, and what calls it is not compiled again
with it.

With NUMBA_DISABLE_JIT=1 in the environment the same functions run as plain, slow Python, to be stepped through.

A compiled function is handed addresses, not arrays: handing on an array costs a word for each of its sizes and
strides and a count of its references, on every call and in the time that compiling takes.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

PLAIN_PYTHON = bool(cast(Any, numba.config).DISABLE_JIT)
NONE = 0  # the address of nothing

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Pair = Callable[[int, int], int]


def jit(function: _Function) -> _Function:
    """Compiled for other compiled functions to call; Python cannot call it."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "error_model": "numpy"}
    return cast(_Function, numba.njit(**options)(function))


class Callback:
    """A function of two whole numbers, for Python to call and for compiled functions by ``call_at``."""

    def __init__(self, function: _Pair) -> None:
        """Compiled now, or read from numba's cache."""
        if PLAIN_PYTHON:
            self._call: Any = function
            self.address = len(_plain) + 1
            _plain[self.address] = function
        else:
            options: dict[str, Any] = {"cache": True, "error_model": "numpy"}
            self._compiled = cast(Any, numba.cfunc)(_TYPE, **options)(_named(function))
            self._call = self._compiled.ctypes
            self.address = int(cast(int, ctypes.cast(self._call, ctypes.c_void_p).value))

    def __call__(self, one: int, other: int) -> int:
        return int(self._call(one, other))


_TYPE = types.int64(types.int64, types.int64)
_plain: dict[int, _Pair] = {}  # in place of what lies at addresses


@cache
def compiled(function: _Pair) -> Callback:
    """The one ``Callback`` of a function."""
    return Callback(function)


def is_kept(function: _Pair) -> bool:
    """Whether numba's cache holds the ``Callback`` of a function, so that it need not be compiled."""
    if PLAIN_PYTHON:
        return True
    compiled = cast(Any, numba.njit(cache=True)(_named(function)))
    return any(Path(compiled.stats.cache_path).glob(f"*{function.__qualname__}*.nbi"))


def _named(function: _Function) -> _Function:
    """numba notices a change only of the file that holds the function itself, so the function's name tells the state
    of all its sources: each state has a cache of its own.
    """
    content = b"".join(path.read_bytes() for path in sorted(sources(Path(function.__code__.co_filename))))
    function.__qualname__ = f"{function.__name__}_{hashlib.sha256(content).hexdigest()[:16]}"
    return function


@cache
def sources(module: Path) -> frozenset[Path]:
    """Files that compiled functions of a module may be made of: its own and, of every one that uses this module here,
    those of this package that it imports.
    """
    found, ahead = set(), [module]
    while ahead:
        file = ahead.pop()
        text = file.read_text()
        if file not in found and f"from {__name__} import" in text:
            ahead += _imported(text)
        found.add(file)
    return frozenset(found)


_IMPORT = re.compile(r"^from (specsim[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


def _imported(text: str) -> Iterator[Path]:
    for module, names in _IMPORT.findall(text):
        place = Path(__file__).parents[1].joinpath(*module.split("."))
        for path in (place, *(place / name for name in re.findall(r"\w+", names))):
            if (file := path.with_suffix(".py")).exists():
                yield file


def _call_at() -> Callable[[int, int, int], int]:
    if PLAIN_PYTHON:
        return lambda address, one, other: int(_plain[int(address)](int(one), int(other)))

    @intrinsic
    def call(_: Any, address: Any, one: Any, other: Any) -> Any:
        def point(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            whole = ir.IntType(64)
            function = ir.FunctionType(whole, [whole, whole])
            return builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])

        return types.int64(types.int64, types.int64, types.int64), point

    return cast(Callable[[int, int, int], int], call)


call_at = _call_at()
"""Calls the ``Callback`` at an address; for compiled functions."""


def mixed_record(whole: str | Iterable[str], floating: str | Iterable[str] = ()) -> np.dtype[Any]:
    """A record of whole numbers, addresses among them, and of floats; names as a named tuple takes them."""
    names = [one.split() if isinstance(one, str) else list(one) for one in (whole, floating)]
    return np.dtype([(name, kind) for kind, some in zip((np.int64, np.float64), names, strict=True) for name in some])


def record_at(dtype: np.dtype[Any]) -> Callable[[int], Any]:
    """A compiled function that gives the record of this type behind an address."""
    if PLAIN_PYTHON:
        return lambda address: array_at(address, 1, dtype).view(np.recarray)[0]
    record = numba.from_dtype(dtype)

    @intrinsic
    def at(_: Any, address: Any) -> Any:
        def point(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(record))

        return record(types.int64), point

    return cast(Callable[[int], Any], at)


def _numbers_at(number: types.Number) -> Callable[[int], Any]:
    if PLAIN_PYTHON:
        return lambda address: array_at(address, _MORE_THAN_THERE_ARE, np.dtype(str(number)))

    @intrinsic
    def numbers(_: Any, address: Any) -> Any:
        kind = cast(Any, types.CPointer)(number)

        def point(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), point

    return cast(Callable[[int], Any], numbers)


_MORE_THAN_THERE_ARE = 2**40
integers_at = _numbers_at(types.int64)
"""Whole numbers from an address on, by their index; for compiled functions."""
floats_at = _numbers_at(types.float64)
"""The same for floating-point numbers."""
bytes_at = _numbers_at(types.uint8)
"""The same for whole numbers below 256."""


def array_at(address: int, count: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """What lies behind an address, for Python; the array does not keep it alive."""
    size = int(count) * dtype.itemsize
    return (
        np.frombuffer(memoryview((ctypes.c_char * size).from_address(int(address))), dtype)
        if size
        else np.zeros(0, dtype)
    )


def point(record: np.ndarray[Any, Any], fields: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Set fields of a record: numbers as they are, an array by its address, None as the address of nothing.

    Returns the arrays, which whoever reads the record must keep alive.
    """
    arrays = []
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value))
            record[name] = address_of(arrays[-1])
        else:
            record[name] = NONE if value is None else value
    return arrays


def address_of(array: np.ndarray[Any, Any]) -> int:
    """Where an array's first element lies; whoever hands it on keeps the array alive."""
    return int(array.ctypes.data)
