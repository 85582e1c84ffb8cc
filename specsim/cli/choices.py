"""What a plan may choose from, as options name it: prices and growth of the load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.groups import OptionGroup
from specsim.cli.lists import GpuPrice, gpu_price
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.planning.plan.growth import Growth


@dataclass(frozen=True, slots=True)
class PriceOptions(OptionGroup):
    """Prices of GPUs an hour; single ones over the file's."""

    price: Annotated[
        list[GpuPrice] | None,
        typer.Option(parser=gpu_price, metavar="GPU=USD", help="USD an hour (repeatable): h100=2.50."),
    ] = None
    prices: Annotated[Path | None, typer.Option(help="Prices: YAML of GPU: USD, or SkyPilot's vms.csv.")] = None
    region: Annotated[str | None, typer.Option(help="Of the catalogue's offers.")] = None
    spot: Annotated[bool, typer.Option("--spot", help="Spot prices of the catalogue.")] = False

    def usd_by_gpu(self) -> dict[str, float]:
        """By the GPU's full name."""
        from specsim.interop.gpu_prices import read_gpu_prices

        if self.prices is None and (self.region is not None or self.spot):
            raise InvalidInput(
                f"{'--spot' if self.spot else '--region'} says which prices of a catalogue; add --prices vms.csv"
            )
        offers = {} if self.prices is None else read_gpu_prices(self.prices, region=self.region, spot=self.spot)
        found = {name: offer.usd_per_gpu_hour for name, offer in offers.items()}
        return found | dict(self.price or ())

    def words(self) -> list[str]:
        """As they were given."""
        found = [word for one in self.price or () for word in ("--price", f"{one[0].lower()}={one[1]:g}")]
        found += [] if self.prices is None else ["--prices", str(self.prices)]
        found += [] if self.region is None else ["--region", self.region]
        return [*found, *(["--spot"] if self.spot else [])]


@dataclass(frozen=True, slots=True)
class GrowthOptions(OptionGroup):
    """How a load grows."""

    growth: Annotated[
        float | None, typer.Option(help="Percent a month by which the load grows: GPUs and cost of each month.")
    ] = None
    months: Annotated[int | None, typer.Option(help="Of --growth; default 12.")] = None

    def asked(self) -> Growth | None:
        """Raises InvalidInput for months without a percentage."""
        if self.growth is None:
            if self.months is not None:
                raise InvalidInput(
                    f"--months {self.months} says how long the load grows; add --growth, percent a month"
                )
            return None
        from specsim.planning.plan.growth import Growth  # a slow import that a load of today does without

        return Growth(self.growth) if self.months is None else Growth(self.growth, self.months)

    def words(self) -> list[str]:
        """As they were given."""
        found = [] if self.growth is None else ["--growth", f"{self.growth:g}"]
        return found + ([] if self.months is None else ["--months", str(self.months)])
