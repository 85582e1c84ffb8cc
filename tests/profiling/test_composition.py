"""Whole passes against the sum of their kernels: what is put on record, and how it is scored."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the profile extra")
pytestmark = pytest.mark.torch

from specsim.errors import InvalidInput  # noqa: E402
from specsim.profiles.store import profile_names  # noqa: E402
from specsim.profiling.device import (  # noqa: E402
    probe,
    timer,
)
from specsim.profiling.kernels.passes import PassShape, PassTimer, generic_model  # noqa: E402
from specsim.profiling.sweep import composition  # noqa: E402

MODEL = generic_model(64, 2, (2, 1, 32), vocab_size=128)
CELLS: tuple[PassShape, ...] = ((1, 1, 16), (2, 3, 16), (2, 1, 24))
PROFILE = next(name for name in profile_names() if name.startswith("cpu-"))


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_are_sums_of_parts_and_grow_with_the_work(tmp_path: Path) -> None:
    cells = ((1, 1, 256), (8, 1, 256), (8, 5, 256), (8, 5, 2048))
    large = generic_model(1024, 8, (16, 4, 64), vocab_size=32000)
    rows = records(composition.predict(PROFILE, large, tmp_path, cells=cells))
    assert [tuple(int(row[c]) for c in composition.CELL_COLUMNS) for row in rows] == list(cells)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    for row in rows:
        parts = [float(row[f"{part}_s"]) for part in composition.PARTS]
        assert float(row["seconds"]) == pytest.approx(sum(parts), rel=1e-4)
        assert all(part > 0 for part in parts[:3])
        assert parts[3] >= 0  # the host, in profiles that know it


def test_measuring_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "TARGET_S", 0.0)
    monkeypatch.setattr(probe, "ATTEMPTS", 1)
    composition.predict(PROFILE, MODEL, tmp_path, cells=CELLS)
    timed: list[PassShape] = []
    time = PassTimer.time

    def counted(self: PassTimer, cell: PassShape, capture: timer.Capture, steady: probe.MachineProbe) -> timer.Timing:
        if len(timed) == 4:
            raise KeyboardInterrupt
        timed.append(cell)
        return time(self, cell, capture, steady)

    monkeypatch.setattr(PassTimer, "time", counted)
    with pytest.raises(KeyboardInterrupt):
        composition.measure(MODEL, tmp_path, repeats=2)
    monkeypatch.setattr(PassTimer, "time", lambda self, cell, *rest: timed.append(cell) or time(self, cell, *rest))
    rows = records(composition.measure(MODEL, tmp_path, repeats=2))
    assert sorted(timed) == sorted(CELLS * 2)
    keys = [(row["sequences"], row["query_tokens"], row["kv_tokens"], row["repeat"]) for row in rows]
    assert len(set(keys)) == len(keys) == 6
    assert composition.compare(tmp_path).cells == 3


def test_scores_by_hand(tmp_path: Path) -> None:
    """Cells predicted 10 % short, right and 30 % long; a cell's time is the median of its repeats."""

    def write(name: str, header: tuple[str, ...], rows: list[list[float]]) -> None:
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    columns = composition.CELL_COLUMNS
    write(composition.PREDICTED, (*columns, "seconds"), [[1, 1, 16, 0.9], [2, 1, 16, 2.0], [4, 1, 16, 5.2]])
    measured = [[1, 1, 16, 0, 0.5], [1, 1, 16, 1, 1.0], [1, 1, 16, 2, 9.0], [2, 1, 16, 0, 2.0], [4, 1, 16, 0, 4.0]]
    write(composition.MEASURED, (*columns, "repeat", "median_s"), measured)
    found = composition.compare(tmp_path)
    assert found.errors == pytest.approx({(1, 1, 16): -0.1, (2, 1, 16): 0.0, (4, 1, 16): 0.3})
    assert (found.cells, found.median, found.bias) == pytest.approx((3, 0.1, 0.2 / 3))
    assert found.p90 == pytest.approx(0.1 + 0.8 * 0.2)  # between the second and third of three


def test_nothing_is_measured_before_a_prediction(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="predict before measuring"):
        composition.measure(MODEL, tmp_path)
    composition.predict(PROFILE, MODEL, tmp_path, cells=CELLS)
    with pytest.raises(InvalidInput, match="measure them first"):
        composition.compare(tmp_path)
