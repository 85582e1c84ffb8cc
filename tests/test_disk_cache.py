"""What is kept between runs is what would be made, whatever happens to its files."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specsim import disk_cache
from specsim.arrays import Floats
from specsim.assembly import assemble
from specsim.cost import profile_surfaces
from specsim.cost.forward import Kernel
from specsim.cost.measured import MeasuredPrices
from specsim.disk_cache import cache_folder, kept
from specsim.profiles.rows import read_rows, replace_rows
from specsim.profiles.store import Profile, load_profile, profiles_folder
from specsim.scenario import load_scenario
from specsim.speculation.round import RoundCost
from specsim.step_prices import table_prices
from specsim.step_prices.span import Extent
from specsim.step_prices.table_prices import tables_of

PROFILE = "cpu-amd-epyc-family-25-model-17-2-threads"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Says how often it was asked."""

    def __init__(self, value: Any = "made") -> None:
        self.value, self.asked = value, 0

    def __call__(self) -> Any:
        self.asked += 1
        return self.value


def test_an_entry_is_made_once_for_its_key(home: Path) -> None:
    make, other = Maker({"a": [1.0, None]}), Maker("other")
    assert kept("key", make) == kept("key", make) == {"a": [1.0, None]}
    assert kept("another key", other) == "other"
    assert (make.asked, other.asked) == (1, 1)
    assert len(list(cache_folder().iterdir())) == 2
    assert home in cache_folder().parents


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b"", lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:], lambda b: b"x"]
)
def test_a_torn_or_foreign_file_is_made_anew(spoil: Any) -> None:
    make = Maker(list(range(100)))
    kept("key", make)
    (path,) = cache_folder().iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert kept("key", make) == list(range(100))
    assert kept("key", make) == list(range(100))
    assert make.asked == 2


def test_a_folder_that_cannot_be_written_keeps_nothing_and_says_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    home.write_text("a file where the folder would be")
    make = Maker()
    assert kept("key", make) == kept("key", make) == "made"
    assert make.asked == 2
    home.unlink()

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(disk_cache.os, "replace", full)
    assert kept("key", make) == "made"
    assert list(cache_folder().iterdir()) == []  # nor does a draft stay behind
    assert not recwarn


def test_a_folder_is_named_by_an_absolute_path_or_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert Path.home() / ".cache" / "specsim" in cache_folder().parents


def test_what_other_code_kept_is_removed(home: Path) -> None:
    old = home / "specsim" / "0123456789abcdef"
    old.mkdir(parents=True)
    (old / "entry.pickle").write_text("old")
    kept("key", Maker())
    assert not old.exists()


def _ask(number: int) -> int:
    return sum(kept("shared", lambda: list(range(50_000)))) + 0 * number


def test_processes_at_once_agree() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert set(pool.map(_ask, range(40))) == {sum(range(50_000))}
    assert [path.suffix for path in cache_folder().iterdir()] == [".pickle"]


# -- surfaces ---------------------------------------------------------------------------------------------------------


def kernel(m: float) -> Kernel:
    return Kernel("gemm", "gemm", (m, 960.0, 2560.0), "", "bfloat16", 1, 2.0 * m * 960 * 2560, 2.0 * 960 * 2560)


def prices(profile: Profile) -> list[float]:
    """Of prices made anew, as another process would make them."""
    made = MeasuredPrices(profile, profile.hardware(), "bfloat16")
    return [float(made.price(kernel(m), warm=False).seconds) for m in (1.0, 3.0, 70.0, 900.0)]


def test_kept_surfaces_price_as_fitted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = load_profile(PROFILE)
    fitted = prices(replace(profile, sha256=""))  # not from files, so not kept
    assert not cache_folder().exists()
    assert prices(profile) == fitted
    entries = len(list(cache_folder().iterdir()))
    assert entries >= 2  # a surface, and the table of one matrix

    def never(*_: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(profile_surfaces, "stated_surface", never)
    assert prices(profile) == fitted
    assert len(list(cache_folder().iterdir())) == entries


def test_another_content_has_surfaces_of_its_own(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(profiles_folder() / PROFILE, tmp_path / "profile"))
    before = prices(load_profile(f"{folder}/"))
    rows = read_rows(folder / "gemm.csv", "gemm")
    replace_rows(folder, "gemm", [replace(row, median_s=1.5 * row.median_s, p10_s=None, p90_s=None) for row in rows])
    after = prices(load_profile(f"{folder}/"))
    assert all(1.2 < new / old < 1.8 for new, old in zip(after, before, strict=True))


# -- tables -----------------------------------------------------------------------------------------------------------


def test_whether_tables_hold_is_kept_for_prices_of_the_same_content(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs made anew, as another process would make them, are tried once; what has no content, each time."""
    machine = assemble(load_scenario("cpu-144m", ["cost.source=roofline", "engine.max_num_seqs=8"]))
    tried: list[float] = []

    def errors(*_: object) -> Floats:
        tried.append(missed_by)
        return np.array([missed_by])

    monkeypatch.setattr(table_prices, "table_errors", errors)

    def holds(content: str | None) -> bool:
        scenario = machine.scenario
        cost = RoundCost(
            scenario.model,
            machine.prices,
            hardware=scenario.gpu,
            engine=machine.limits,
            precision=machine.precision,
        )
        return tables_of(cost, Extent(8, 512, 1000), content) is not None

    missed_by = 0.5
    assert not holds("far off")
    missed_by = 0.0
    assert not holds("far off")
    assert len(tried) == 1
    assert holds("near")
    assert holds("near")
    assert len(tried) == 2
    assert holds(None)
    assert holds(None)
    assert len(tried) == 4
    assert len(list(cache_folder().iterdir())) == 2
