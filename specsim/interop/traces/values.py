"""Single values of a trace: times, token counts, prefix hashes. A fault names the row, the column and the rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from specsim.errors import InvalidInput, shown
from specsim.interop.traces.formats import TimeUnit
from specsim.json_file import parse_json
from specsim.workload.request import DEFAULT_CLASS, MAX_TOKENS


def ticks(fields: Mapping[str, object], column: str, unit: TimeUnit, where: str) -> float:
    """A time in the unit's ticks, whole where the file has it whole so that subtracting the first loses no digit."""
    value = fields.get(column)
    try:
        found = _wall_clock_us(value) if unit == "wall_clock" else _number(value)
    except (TypeError, ValueError, OverflowError):
        hint = "" if unit == "wall_clock" or not _is_wall_clock(value) else "; set time_unit to wall_clock"
        raise InvalidInput(f"{where}: {column} is {shown(value)}, not a time{hint or '; correct it'}") from None
    if not (math.isfinite(found) and found >= 0):
        raise InvalidInput(f"{where}: {column} is {shown(value)}; a time is finite and not negative")
    return found


def tokens(fields: Mapping[str, object], column: str, where: str, *, least: int = 1) -> int:
    """A number of tokens, ``least`` to MAX_TOKENS."""
    value = fields.get(column)
    try:
        number = _number(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{where}: {column} is {shown(value)}, not a number; correct it") from None
    if not (least <= number <= MAX_TOKENS and number == int(number)):  # the first is false for nan and inf too
        raise InvalidInput(
            f"{where}: {column} is {shown(value)}; a request has a whole number of tokens, {least} to {MAX_TOKENS:,}"
        )
    return int(number)


def hashes(fields: Mapping[str, object], column: str, where: str) -> tuple[int, ...]:
    """Block hashes: a list, or its JSON text in a CSV; none where the field is absent or empty."""
    value = fields.get(column)
    found: object = value
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        try:
            found = parse_json(value)
        except ValueError:
            found = None
    if not isinstance(found, list) or not all(type(one) is int and -(2**63) <= one < 2**63 for one in found):
        raise InvalidInput(f"{where}: {column} is {shown(value)}; write a list of whole numbers of up to 64 bits")
    return tuple(found)


def name(fields: Mapping[str, object], column: str, where: str) -> str:
    """A class name; the default where the field is absent or empty."""
    value = fields.get(column)
    text = DEFAULT_CLASS if value is None or value == "" else str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{where}: {column} is {shown(value)}, which is no text; correct it") from None
    return text


def _number(value: object) -> float:
    """Whole numbers stay whole: nanoseconds since 1970 do not fit a float."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str) and value.strip().lstrip("+-").isascii() and value.strip().lstrip("+-").isdigit():
        return int(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise OverflowError
    return value if isinstance(value, int) else float(value)


def _wall_clock_us(value: object) -> int:
    if not isinstance(value, str):
        raise TypeError
    moment = datetime.fromisoformat(value.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _is_wall_clock(value: object) -> bool:
    try:
        _wall_clock_us(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
