"""Lists in one option, separated by commas."""

from __future__ import annotations

from specsim.errors import InvalidInput, shown


def names(text: str | None) -> list[str]:
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str | None, option: str) -> list[float]:
    """``40,60.5`` as positive numbers; raises InvalidInput for anything else."""
    try:
        found = [float(part) for part in names(text)]
    except ValueError:
        found = [0.0]
    if any(not 0 < number < float("inf") for number in found):
        raise InvalidInput(f"{option} {shown(text)} is not a list of numbers above 0; write for instance 40,60")
    return found


def whole_numbers(text: str | None, option: str, *, least: int | None = None) -> tuple[int, ...]:
    """``1,2,4`` as whole numbers; raises InvalidInput for anything else, or for one below ``least``."""
    if text is None:
        return ()
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or (least is not None and min(found) < least):
        of = "" if least is None else f" of {least} and more"
        raise InvalidInput(f"{option} {shown(text)} is not a list of whole numbers{of}; write for instance 1,2,4")
    return found
