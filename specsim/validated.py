"""What every model read from a file has in common: no unknown field, no change after validation, numbers in range."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST = 1e30  # of any physical quantity in SI units, bytes or FLOPs; products of several stay finite
LARGEST_INTEGER = 2**63 - 1
Share = Annotated[float, Field(ge=0, le=1)]  # of a whole, or a probability


class Validated(BaseModel):
    """A frozen model whose numbers are finite: 0, or of a magnitude within [``smallest``, 1e30]; integers fit 64 bits.

    Its texts can be written in UTF-8: a lone half of a surrogate pair, as an escape may leave it, cannot.
    Fields that decide how much is allocated or simulated state narrower bounds of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    smallest: ClassVar[float] = 1e-30  # its inverse is finite; 0 where the numbers are probabilities

    @model_validator(mode="after")
    def _numbers_are_in_range(self) -> Self:
        for name, value in self:
            if isinstance(value, str) and not (value.isascii() or _is_unicode(value)):
                raise ValueError(f"{name} is {value[:40]!a}, half of a surrogate pair; give text in UTF-8")
            fault = self._out_of_range(value)
            if fault is not None:
                raise ValueError(f"{name} is {fault}; give 0 or a magnitude within [{self.smallest:g}, {LARGEST:g}]")
        return self

    def _out_of_range(self, value: object) -> str | None:
        """The first number in ``value`` that no quantity can have, shown short; None: all are in range."""
        if isinstance(value, tuple | list):
            return next((fault for one in value if (fault := self._out_of_range(one)) is not None), None)
        if isinstance(value, float):
            return None if value == 0 or self.smallest <= abs(value) <= LARGEST else f"{value:g}"
        if isinstance(value, int) and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
            return f"an integer of {value.bit_length()} bits"
        return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
