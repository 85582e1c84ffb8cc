"""Arguments checked against what a function's annotations say, before it looks at them: all faults in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import lru_cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from specsim.errors import InvalidInput, kind_of, shown

P = ParamSpec("P")
R = TypeVar("R")
PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    Path: "a Path",
    NoneType: "None",
}


class WrongType(InvalidInput, TypeError):
    """An argument of a function is not what it takes."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function; it raises WrongType, with every fault, where an argument is not what its annotation says.

    Numbers of numpy are numbers, and its arrays are sequences; text is no sequence. Keywords that are a question's
    words are checked by ``ask``.
    """

    @wraps(function)
    def checking(*given: P.args, **named: P.kwargs) -> R:
        signature = inspect.signature(function)
        try:
            arguments = signature.bind(*given, **named)
        except TypeError as error:
            raise WrongType(f"{function.__name__}: {error}; see help(specsim.{function.__name__})") from None
        hints, faults = _hints(function), list[str]()
        for name, value in arguments.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                continue
            for one in value if kind is inspect.Parameter.VAR_POSITIONAL else [value]:
                if not fits(one, hints[name]):
                    faults.append(f"{name} is {shown(one)}, {kind_of(one)}; give {in_words(hints[name])}")
        if faults:
            raise WrongType(*faults)
        return function(*given, **named)

    return checking


@lru_cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(function)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is what a type hint says."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if origin is Sequence:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sized):
            return False
        try:
            items = iter(value)  # type: ignore[call-overload]
        except TypeError:  # an array of no dimension has the methods and no items
            return False
        return all(fits(one, inner[0]) for one in items)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def in_words(hint: Any) -> str:
    """``a whole number or None``, ``a list of whole numbers``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(in_words(one) for one in inner)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is Sequence:
        return f"a list of {in_words(inner[0]).removeprefix('a ')}{'' if inner[0] is str else 's'}"
    if origin is Mapping:
        return f"a dict of {in_words(inner[0]).removeprefix('a ')} to {in_words(inner[1])}"
    return PLAIN.get(hint) or f"what is a {hint.__name__}"
