"""Anchors beside a measurement, and the conditions that they come to."""

from pathlib import Path

import pytest

from specsim.cases.anchor_rows import ANCHORS, AnchorRow, append_anchors, conditions_of, read_anchors
from specsim.errors import InvalidInput

PROFILED = {"memory": 1e-3, "compute": 2e-3, "attention": 4e-4, "elementwise": 2e-5, "host": 3e-4}


def row(factor: float, repeat: int = 0) -> AnchorRow:
    return AnchorRow(repeat, "poisson-30/off", 7, {name: factor * PROFILED[name] for name in ANCHORS})


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "conditions.csv"
    for repeat in range(2):
        append_anchors(path, row(1.5, repeat))
    found = read_anchors(path)
    assert [(one.repeat, one.run, one.looks) for one in found] == [(0, "poisson-30/off", 7), (1, "poisson-30/off", 7)]
    assert found[0].seconds == pytest.approx(row(1.5).seconds)


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_anchors(tmp_path / "conditions.csv") == []


def test_a_broken_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "conditions.csv"
    append_anchors(path, row(1.0))
    path.write_text(path.read_text().replace("0.001,", "fast,"))
    with pytest.raises(InvalidInput, match=r"conditions\.csv:2:.*fast"):
        read_anchors(path)


def test_conditions_are_the_mean_of_the_rows_over_the_profile() -> None:
    found = conditions_of([row(1.0), row(1.4)], PROFILED)
    assert found is not None
    assert found.model_dump() == pytest.approx(dict.fromkeys(ANCHORS, 1.2))


def test_nothing_is_known_without_looks_or_without_a_profile_of_anchors() -> None:
    assert conditions_of([], PROFILED) is None
    assert conditions_of([row(1.0)], {}) is None
