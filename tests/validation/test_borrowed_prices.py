"""What the interval of borrowed prices rests on: the committed study, one pair of it made anew, and what it says."""

from __future__ import annotations

import csv
import math

import pytest

from specsim.cost.borrowed import BORROWED_ERROR, CARD_ERROR
from specsim.cost.machine_error import FOREIGN_ERROR, TABLE_ERROR
from specsim.specs.catalog import hardware_names, load_hardware
from tests.validation.studies import STUDIES, study_module

study = study_module("borrowed-prices", "borrowed_study")
TABLE = STUDIES / "borrowed-prices" / "borrowed.csv"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with TABLE.open() as stream:
        return list(csv.DictReader(stream))


def test_the_stated_interval_holds_nine_tenths_of_the_passes_of_every_pair_within_a_generation(
    rows: list[dict[str, str]],
) -> None:
    half = 1.645 * math.hypot(CARD_ERROR, FOREIGN_ERROR)
    passes = [row for row in rows if row["same_generation"] == "True" and row["what"].startswith("pass")]
    assert len(passes) == len(study.SAME_GENERATION) * len(study.MODELS)
    assert max(float(row["borrowed_p90"]) for row in passes) < half
    kernels = [row for row in rows if row["same_generation"] == "True" and row["what"].startswith(("gemm", "moe"))]
    within = {
        kind: 1.645 * math.hypot(CARD_ERROR, BORROWED_ERROR, FOREIGN_ERROR, TABLE_ERROR[kind])
        for kind in ("gemm", "moe")
    }
    held = sum(float(row["borrowed_p90"]) < within[row["what"].split()[0]] for row in kernels)
    assert held >= 0.9 * len(kernels)


def test_no_card_borrows_from_another_generation_whose_passes_leave_the_stated_interval(
    rows: list[dict[str, str]],
) -> None:
    generations = [{"h100-sxm", "h200", "h20", "h100-pcie", "h100-nvl", "gh200-96gb", "gh200-144gb"}]
    generations += [{"a100-80gb", "a100-40gb"}, {"l40s", "l40", "l4"}, {"b200", "b300", "gb200", "gb300"}]
    generations += [{"rtx-pro-6000", "rtx-5090"}]
    for name in hardware_names():
        sibling = load_hardware(name).sibling
        if sibling is not None:
            assert any({name, sibling.card.lower()} <= generation for generation in generations), name
    passes = [row for row in rows if row["what"].startswith("pass")]
    half = 1.645 * math.hypot(CARD_ERROR, FOREIGN_ERROR)
    outside = [float(row["borrowed_p90"]) > half for row in passes if row["same_generation"] == "False"]
    assert sum(outside) >= len(outside) / 2


def test_a_pair_made_anew_is_as_committed(rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "MODELS", ("llama-3.1-8b",))
    monkeypatch.setattr(study, "CLASSES", ("moe",))
    for made in study._of_pair("h200", "h100-sxm", True):
        committed = next(r for r in rows if (r["card"], r["lender"], r["what"]) == ("h200", "h100-sxm", made.what))
        assert made.borrowed_median == pytest.approx(float(committed["borrowed_median"]), abs=0.005)
