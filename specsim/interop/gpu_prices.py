"""What a GPU costs an hour: a file of one's own, or a cloud's catalogue as SkyPilot keeps it.

Of one's own, YAML by the hardware's name:      {h100: 2.50, h200: 3.40}

SkyPilot's catalogue (skypilot-org/skypilot-catalog, catalogs/<version>/<cloud>/vms.csv; columns of versions 5 to 8):
a row an instance type and place with AcceleratorName, AcceleratorCount, Region, and Price and SpotPrice in USD an hour
of the whole instance, empty where it is not offered. The cheapest offer of each GPU counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specsim.errors import InvalidInput, shown
from specsim.specs.catalog import hardware_names, load_hardware
from specsim.specs.yaml_file import read_mapping
from specsim.text_file import read_text

# Names of the catalogue that mean other hardware than specsim's own use of them, or that it does not have.
CATALOGUE_NAMES = {
    "A100": "a100-40gb",
    "A100-80GB": "a100-80gb",
    "A100-80GB-SXM": "a100-80gb",
    "H100-MEGA": "h100-sxm",
    "H100-NVLINK": "h100-sxm",
}
NEEDED = ("AcceleratorName", "AcceleratorCount", "Price")
MOST_USD = 1e4  # an hour and GPU; more is a column mixed up


@dataclass(frozen=True, slots=True)
class GpuRent:
    """USD an hour for one GPU, and where: an instance type and its region, or the file itself."""

    usd_per_gpu_hour: float
    where: str


def read_gpu_prices(path: Path, *, region: str | None = None, spot: bool = False) -> dict[str, GpuRent]:
    """The cheapest offer of each GPU by its full name; of a catalogue, those of one region or at spot prices.

    Raises InvalidInput: no such file, not of either form, a price that is none, an unknown GPU in a file of one's own.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        if region is not None or spot:
            raise InvalidInput(
                f"{path} holds one price a GPU, of no region and not spot; give a catalogue, or no such"
            )
        return {
            load_hardware(name).name: GpuRent(_usd(value, f"{path}: {name}"), str(path))
            for name, value in read_mapping(path).items()
        }
    found: dict[str, GpuRent] = {}
    for name, offer in _catalogue(path, region, "SpotPrice" if spot else "Price"):
        if name not in found or offer.usd_per_gpu_hour < found[name].usd_per_gpu_hour:
            found[name] = offer
    if not found:
        wanted = f"{'spot ' if spot else ''}offers of known GPUs{f' in {region}' if region else ''}"
        raise InvalidInput(f"{path} holds no {wanted}; give another region or file")
    return found


def price_of(text: str) -> tuple[str, float]:
    """``h100=2.50`` as the hardware's full name and USD an hour. Raises InvalidInput."""
    name, separator, value = text.partition("=")
    if not separator:
        raise InvalidInput(f"price {shown(text)} is not GPU=USD an hour; write for instance h100=2.50")
    return load_hardware(name.strip()).name, _usd(value.strip(), f"price {shown(text)}")


def _catalogue(path: Path, region: str | None, column: str) -> Iterator[tuple[str, GpuRent]]:
    reader = csv.DictReader(io.StringIO(read_text(path, "a price file")), strict=True)
    missing = [name for name in (*NEEDED, column) if name not in (reader.fieldnames or ())]
    if missing:
        raise InvalidInput(
            f"{path} has no column {missing[0]}; give SkyPilot's vms.csv, or a YAML file of GPU: USD an hour"
        )
    try:
        for row in reader:
            if not row["AcceleratorName"] or not row[column] or (region and row.get("Region") != region):
                continue
            name, where = _hardware_name(row["AcceleratorName"]), f"{path}, line {reader.line_num}"
            if name is None:
                continue
            count = _number(row["AcceleratorCount"])
            if count is None or count < 1:
                raise InvalidInput(
                    f"{where}: AcceleratorCount {shown(row['AcceleratorCount'])} is no count; correct it"
                )
            place = ", ".join(filter(None, [row.get("InstanceType"), row.get("Region")]))
            yield name, GpuRent(_usd(row[column], f"{where}: {column}", per=count), place)
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: {error}; correct the row") from None


def _hardware_name(accelerator: str) -> str | None:
    """The full name of a catalogue's accelerator; None for one that specsim does not know."""
    name = CATALOGUE_NAMES.get(accelerator, accelerator.lower())
    known = {other: preset for preset in hardware_names() for other in (preset, *load_hardware(preset).also)}
    return load_hardware(known[name]).name if name in known else None


def _usd(value: object, where: str, per: float = 1.0) -> float:
    usd = _number(value)
    if usd is None or not 0 < usd / per < MOST_USD:
        raise InvalidInput(f"{where}: {shown(value)} is no price in USD an hour; give a number above 0")
    return usd / per


def _number(value: object) -> float | None:
    try:
        return None if isinstance(value, bool) else float(str(value))
    except ValueError:
        return None
