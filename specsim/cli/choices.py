"""What a plan may choose from, as options name it: GPU types, drafters, prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.errors import InvalidInput, shown

if TYPE_CHECKING:
    from specsim.planning.plan.growth import Growth

PriceOption = Annotated[list[str] | None, typer.Option(help="GPU=USD an hour (repeatable): h100=2.50.")]
PricesOption = Annotated[Path | None, typer.Option(help="Prices: YAML of GPU: USD, or SkyPilot's vms.csv.")]
RegionOption = Annotated[str | None, typer.Option(help="Of the catalogue's offers.")]
SpotOption = Annotated[bool, typer.Option("--spot", help="Spot prices of the catalogue.")]
GrowthOption = Annotated[
    float | None, typer.Option(help="Percent a month by which the load grows: GPUs and cost of each month.")
]
MonthsOption = Annotated[int | None, typer.Option(help="Of --growth; default 12.")]


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


def usd_by_gpu(single: Sequence[str], file: Path | None, region: str | None, spot: bool) -> dict[str, float]:
    """Prices by the GPU's full name; single ones over the file's."""
    from specsim.interop.gpu_prices import price_of, read_gpu_prices

    if file is None and (region is not None or spot):
        raise InvalidInput(
            f"{'--spot' if spot else '--region'} says which prices of a catalogue; add --prices vms.csv"
        )
    offers = {} if file is None else read_gpu_prices(file, region=region, spot=spot)
    return {name: offer.usd_per_gpu_hour for name, offer in offers.items()} | dict(map(price_of, single))


def growth_of(percent: float | None, months: int | None) -> Growth | None:
    """Raises InvalidInput for months without a percentage."""
    from specsim.planning.plan.growth import Growth

    if percent is None:
        if months is not None:
            raise InvalidInput(f"--months {months} says how long the load grows; add --growth, percent a month")
        return None
    return Growth(percent) if months is None else Growth(percent, months)
