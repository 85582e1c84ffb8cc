"""Prices from a file of one's own, and from a catalogue with its columns in any order."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.interop.gpu_prices import price_of, read_gpu_prices

CATALOGUE = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Region,SpotPrice,Price,AvailabilityZone
one,H100,1.0,8.0,80.0,,here,1.5,3.0,a
eight,H100,8.0,64.0,640.0,"{'Gpus': [{'Name': 'H100', 'Count': 8.0}]}",there,16.0,20.0,b
forty,A100,8.0,64.0,640.0,,here,,10.4,a
eighty,A100-80GB,8.0,64.0,640.0,,here,,16.0,a
chips,tpu-v6e,1.0,8.0,80.0,,here,0.1,0.2,a
cpus,,,8.0,80.0,,here,,0.2,a
soon,H200,8.0,8.0,80.0,,here,,,a
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "vms.csv"
    path.write_text(CATALOGUE)
    return path


def test_a_catalogue_gives_the_cheapest_offer_of_each_gpu(catalogue: Path) -> None:
    found = read_gpu_prices(catalogue)
    assert {name: offer.usd_per_gpu_hour for name, offer in found.items()} == {
        "H100-SXM": 2.5,
        "A100-40GB": 1.3,
        "A100-80GB": 2.0,
    }
    assert found["H100-SXM"].where == "eight, there"


def test_a_region_and_spot_prices(catalogue: Path) -> None:
    assert read_gpu_prices(catalogue, region="here")["H100-SXM"].usd_per_gpu_hour == 3.0
    spot = read_gpu_prices(catalogue, spot=True)
    assert {name: offer.usd_per_gpu_hour for name, offer in spot.items()} == {"H100-SXM": 1.5}
    with pytest.raises(InvalidInput, match="no offers of known GPUs in nowhere"):
        read_gpu_prices(catalogue, region="nowhere")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("h100: 2.5\nH200: 3.4\n")
    assert {name: offer.usd_per_gpu_hour for name, offer in read_gpu_prices(path).items()} == {
        "H100-SXM": 2.5,
        "H200": 3.4,
    }
    with pytest.raises(InvalidInput, match="no region"):
        read_gpu_prices(path, region="here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h100: free\n", "'free' is no price"),
        ("h100: -1\n", "no price"),
        ("h101: 2\n", "h101"),
        ("h100: .nan\n", "no price"),
        ("h100: true\n", "no price"),
    ],
)
def test_wrong_prices_are_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_gpu_prices(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "no column AcceleratorName"),
        ("AcceleratorName,AcceleratorCount,Price\nH100,0,2\n", "line 2: AcceleratorCount '0'"),
        ("AcceleratorName,AcceleratorCount,Price\nH100,8,cheap\n", "line 2: Price: 'cheap'"),
        ("AcceleratorName,AcceleratorCount,Price\nT4,8,1\n", "no offers"),
    ],
)
def test_a_wrong_catalogue_is_told_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vms.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message):
        read_gpu_prices(path)


def test_a_price_of_a_word() -> None:
    assert price_of("h100=2.50") == ("H100-SXM", 2.5)
    with pytest.raises(InvalidInput, match=r"h100=2\.50"):
        price_of("2.50")
