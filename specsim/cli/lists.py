"""Lists in one option, separated by commas, and prices: types of options, and how each is read (``parser=``).

Each reader raises ValueError with the rule and an example; the verb adds the option and the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import typer

from specsim.errors import InvalidInput


class Names(tuple[str, ...]):
    """``h100,h200``."""

    __slots__ = ()


class Numbers(tuple[float, ...]):
    """``40,60.5``: above 0."""

    __slots__ = ()


class WholeNumbers(tuple[int, ...]):
    """``1,2,4``."""

    __slots__ = ()


class GpuPrice(tuple[str, float]):
    """A GPU's full name and USD an hour."""

    __slots__ = ()


def gpu_price(text: str) -> GpuPrice:
    """``h100=2.50``."""
    from specsim.interop.gpu_prices import price_of

    try:
        return GpuPrice(price_of(text))
    except InvalidInput as error:
        raise ValueError(str(error).removeprefix("price ")) from None


def names(text: str) -> Names:
    found = Names(part for part in map(str.strip, text.split(",")) if part)
    if not found:
        raise ValueError("it names nothing; write names with commas between them, or leave the option out")
    return found


def numbers(text: str) -> Numbers:
    try:
        found = Numbers(map(float, text.split(",")))
    except ValueError:
        found = Numbers()
    if not found or not all(0 < number < math.inf for number in found):
        raise ValueError("it should be a list of numbers above 0; write for instance 40,60")
    return found


def whole_numbers(*, least: int | None = None) -> Callable[[str], WholeNumbers]:
    """A reader of lists of whole numbers, none below ``least``."""

    def read(text: str) -> WholeNumbers:
        try:
            found = WholeNumbers(map(int, text.split(",")))
        except ValueError:
            found = WholeNumbers()
        if not found or (least is not None and min(found) < least):
            of = "" if least is None else f" of {least} and more"
            raise ValueError(f"it should be a list of whole numbers{of}; write for instance 1,2,4")
        return found

    return read


COUNTS = whole_numbers(least=1)


def list_option(reader: Callable[[str], tuple[object, ...]], help: str, *flags: str) -> Any:
    """An option that takes a list; ``flags``: how it is spelt where its parameter's name does not say."""
    return typer.Option(*flags, parser=reader, metavar="LIST", help=help)
