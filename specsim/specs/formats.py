"""Number formats as data: what a weight takes, what multiplies it, and what runs it on a card that cannot.

A format is one of ``presets/formats.yaml``; profiles name the formats of their rows likewise. What a model stores is a
``Stored``: a format and the bits that a weight takes in it, scales included.
"""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_serializer,
    model_validator,
)

from specsim.errors import InvalidInput, shown, unknown_name
from specsim.specs.hardware import Dtype, Hardware
from specsim.specs.yaml_file import read_yaml
from specsim.validated import Validated


def _number_of_bits(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"\s*[\d.]+\s*", value):
        raise ValueError(f"{shown(value)} is no number of bits; write 16, 8 (fp8, int8) or 4 (int4, fp4)")
    return value


Bits = Annotated[float, BeforeValidator(_number_of_bits), Field(gt=0, le=64)]
DEFAULT_GROUP, SCALE_BITS = 128, 16.0  # of weights of up to 4 bits of which nothing else is known: AWQ's and GPTQ's


class Reach(Validated):
    """Of the share of a card's ceilings that kernels of 16-bit weights reach, the share that a format's reach.

    ``error``: one standard deviation of a time that rests on it.
    """

    memory: PositiveFloat = 1.0
    compute: PositiveFloat = 1.0
    error: NonNegativeFloat = 0.2


class NumberFormat(Validated):
    """One format; the fields are told at the head of the file."""

    also: tuple[str, ...] = ()
    bits: Bits
    group: PositiveInt | None = None
    scale_bits: NonNegativeFloat = 0.0
    activation_bits: PositiveFloat = 16.0
    rate: Dtype | None = None
    capability: tuple[NonNegativeFloat, PositiveFloat | None] = (0.0, None)
    otherwise: str | None = None
    reach: Reach = Reach()
    source: str

    @property
    def widened(self) -> bool:
        """Whether weights become 16 bits wide before they multiply."""
        return self.rate is None

    def stored_bits(self, group: int | None = None) -> float:
        """Bits a weight, its share of a scale included; ``group``: of weights that share one, where not the usual."""
        shared = group or self.group
        return self.bits + (self.scale_bits / shared if shared else 0.0)

    def runs_on(self, hardware: Hardware) -> bool:
        """Whether the card has the rate, and engines a kernel for it."""
        least, below = self.capability
        has = hardware.compute_capability
        in_bounds = has is None or (least <= has and (below is None or has < below))
        return in_bounds and (self.rate is None or self.rate in hardware.flops_per_s)


class Widening(Validated):
    """What limits kernels that widen weights: how many a second each processor widens, and the instructions that
    multiply them; ``rate_share``: of the card's rate for 16 bits, from a compute capability on; ``most_of_peak``: of
    its peak, what dense products reach at most.
    """

    weights_per_s_and_processor: PositiveFloat
    rate_share: tuple[tuple[NonNegativeFloat, PositiveFloat], ...]
    most_of_peak: tuple[tuple[NonNegativeFloat, PositiveFloat], ...]
    source: str

    def share_on(self, hardware: Hardware) -> float:
        """Of the 16-bit rate; 1 where no compute capability is known."""
        return _from_capability(self.rate_share, hardware)

    def most_on(self, hardware: Hardware) -> float:
        """Of the 16-bit peak; 1 where no compute capability is known."""
        return _from_capability(self.most_of_peak, hardware)


def _from_capability(shares: tuple[tuple[float, float], ...], hardware: Hardware) -> float:
    has = hardware.compute_capability or 0.0
    return next(share for least, share in reversed(shares) if has >= least)


class _File(Validated):
    widening: Widening
    formats: dict[str, NumberFormat]


@cache
def _file() -> _File:
    return read_yaml(Path(__file__).parent / "presets" / "formats.yaml", _File)


def formats() -> dict[str, NumberFormat]:
    """All formats by name."""
    return _file().formats


def widening() -> Widening:
    """Of formats whose weights are widened."""
    return _file().widening


@cache
def format_name(name: str) -> str:
    """The name of a format that may be called something else: ``awq`` is ``int4-weight-g128``.

    Raises InvalidInput for one that is unknown, with the nearest.
    """
    plain = name.lower().replace("_", "-")
    known = {other: one for one, found in formats().items() for other in (one, *found.also)}
    if plain not in known:
        raise unknown_name("number format", name, known)
    return known[plain]


def format_of(dtype: str) -> NumberFormat:
    """The format of a profile's rows; rows without one are of 16 bits."""
    return formats().get(dtype) or formats()["bfloat16"]


def distance(one: str, other: str) -> float:
    """How unlike two formats' kernels are: octaves between their weights, and twice those between their activations.

    Products of the same activations run at the same rate: 4-bit weights are nearer to 16-bit ones than to FP8.
    """
    a, b = format_of(one), format_of(other)
    return abs(math.log2(a.bits / b.bits)) + 2.0 * abs(math.log2(a.activation_bits / b.activation_bits))


def format_on(name: str, hardware: Hardware) -> str:
    """The format as which engines run weights on a card: itself, or what stands in for it there.

    Raises InvalidInput where no engine runs them.
    """
    tried = []
    asked: str | None = name
    while asked is not None and asked not in tried:
        if formats()[asked].runs_on(hardware):
            return asked
        tried.append(asked)
        asked = formats()[asked].otherwise
    has = ", ".join(hardware.flops_per_s)
    capability = hardware.compute_capability
    raise InvalidInput(
        f"{name} does not run on {hardware.name} (rates: {has}; compute capability "
        f"{'unknown' if capability is None else capability}): {formats()[name].source}; choose another weight_format"
    )


class Stored(Validated):
    """How a matrix is stored: ``format``, and ``bits`` a weight, scales included. One of them may be left out.

    A format alone has the bits that are usual for it; bits alone leave the format to the card that runs them. Written
    as a plain name, or a plain number of bits, where that tells all.
    """

    format: str | None = None
    bits: Bits

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"format": data}
        elif isinstance(data, int | float) and not isinstance(data, bool):
            data = {"bits": data}
        if not isinstance(data, dict) or not isinstance(data.get("format"), str):
            return data
        name = _checked_name(data["format"])
        return {"bits": formats()[name].stored_bits()} | data | {"format": name}

    @model_serializer
    def _as_a_name(self) -> Any:
        if self.format is None:
            return self.bits
        if self.bits == formats()[self.format].stored_bits():
            return self.format
        return {"format": self.format, "bits": self.bits}

    @classmethod
    def of_bits(cls, bits: float, group: int = DEFAULT_GROUP) -> Stored:
        """So many bits, scales not counted: those of 4 and fewer carry a 16-bit scale a group, 4 take 4.125."""
        return cls(bits=bits + SCALE_BITS / group if bits <= 4 else bits)

    @classmethod
    def named(cls, name: str, group: int | None = None) -> Stored:
        """In a format of this name. Raises InvalidInput for one that is unknown."""
        plain = format_name(name)
        return cls(format=plain, bits=formats()[plain].stored_bits(group))

    def format_on(self, hardware: Hardware, wide: str) -> str:
        """The format as which a card runs it; ``wide``: that of weights which are not narrow.

        Without a format, 8 bits are FP8 where the card has its rate, else 8-bit weights that are widened; fewer bits
        are widened in groups. Raises InvalidInput where no engine runs them.
        """
        if self.format is not None:
            return wide if formats()[self.format].bits >= 16 else format_on(self.format, hardware)
        if self.bits > 9:
            return wide
        if self.bits > 5:
            return "fp8" if "fp8" in hardware.flops_per_s else "int8-weight"
        return "int4-weight-g128" if self.bits < 4.2 else "int4-weight-g32"


def _checked_name(name: str) -> str:
    try:
        return format_name(name)
    except InvalidInput as error:
        raise ValueError(str(error)) from None
