"""What stand-ins between number formats rest on: the committed study, and a card of it made anew."""

from __future__ import annotations

import csv

import pytest

from specsim.profiles.store import find_profile
from specsim.specs.formats import formats
from tests.validation.studies import STUDIES, study_module

study = study_module("number-formats", "formats_study")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (STUDIES / "number-formats" / "formats.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_widened_experts_are_foretold_on_every_card_within_the_stated_error(rows: list[dict[str, str]]) -> None:
    """From 16-bit rows: Marlin's 4-bit experts, for which one rate of widening serves Ampere to Blackwell."""
    name = "int4-weight-g128"
    found = [row for row in rows if (row["format"], row["stand_in"], row["regime"]) == (name, "bfloat16", "memory")]
    assert len({row["card"] for row in found}) == 9
    assert all(abs(float(row["median"]) - 1) < formats()[name].reach.error / 2 for row in found)


def test_a_card_made_anew_is_as_committed(rows: list[dict[str, str]]) -> None:
    profile = find_profile("A100-80GB")
    assert profile is not None
    made = list(study._of_card(profile))
    committed = [row for row in rows if row["card"] == "A100-80GB"]
    assert [(one.format, one.stand_in, one.regime) for one in made] == [
        (row["format"], row["stand_in"], row["regime"]) for row in committed
    ]
    for one, row in zip(made, committed, strict=True):
        assert one.median == pytest.approx(float(row["median"]), abs=0.005)
