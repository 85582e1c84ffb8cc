"""Scoring a prediction: errors, coverage, and regret chosen and scored on different repeats."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.errors import InvalidInput
from specsim.fidelity import Predicted, compare, read_grid, together, write_grid
from specsim.results import GridRow


def row(repeat: int, batch: int, k: int, seconds: float) -> GridRow:
    times = (seconds, seconds, seconds, 0.0, 0.0, 0.0, 0.0)
    return GridRow(repeat, batch, k, 100.0, 10, 10 * seconds, 10 * batch, *times)


def predicted(batch: int, k: int, seconds: float, tokens: float) -> Predicted:
    return Predicted(batch, k, seconds, 0.9 * seconds, 1.1 * seconds, tokens, "interpolated")


def test_errors_and_coverage_by_hand() -> None:
    rows = [row(r, 1, k, s) for r in range(4) for k, s in ((0, 1.0), (1, 1.25))]
    fidelity = compare([predicted(1, 0, 1.05, 1.0), predicted(1, 1, 1.0, 1.5)], rows)
    assert [cell.error for cell in fidelity.cells] == pytest.approx([0.05, -0.2])
    assert fidelity.mean_absolute_error() == pytest.approx(0.125)
    assert [cell.covered for cell in fidelity.cells] == [True, False]
    assert fidelity.coverage() == 0.5


def test_regret_is_the_throughput_that_the_wrong_k_loses() -> None:
    """Measured: k = 1 gives 1.5 tokens in 1.2 s against 1 in 1 s; predicted: k = 0. Lost: 1 - 1/1.25 = 20 %."""
    rows = [row(r, 1, k, s) for r in range(4) for k, s in ((0, 1.0), (1, 1.2))]
    fidelity = compare([predicted(1, 0, 1.0, 1.0), predicted(1, 1, 2.0, 1.5)], rows)
    assert (fidelity.regrets[0].predicted_k, fidelity.regrets[0].measured_k) == (0, 1)
    assert fidelity.worst_regret() == pytest.approx(0.2)


def test_a_lucky_odd_repeat_cannot_score_itself() -> None:
    """k = 1 looks best on odd repeats only; on even ones following k = 0 loses nothing, so regret is negative."""
    rows = [row(r, 1, 0, 1.0) for r in range(4)] + [row(r, 1, 1, 1.0 if r % 2 else 2.0) for r in range(4)]
    fidelity = compare([predicted(1, 0, 1.0, 1.0), predicted(1, 1, 2.0, 1.5)], rows)
    assert fidelity.regrets[0].measured_k == 1
    assert fidelity.worst_regret() == pytest.approx(1 - 1.0 / 0.75)


def test_a_planted_bias_of_ten_percent_is_reported_as_ten_percent() -> None:
    """Every cell 10 % too low, repeats 1 % apart about their median: mean, p95 and bias are 10 %."""
    cells = [(1, k) for k in range(4)]
    rows = [row(r, *cell, 1.0 + 0.01 * (r - 1)) for r in range(3) for cell in cells]
    fidelity = compare([predicted(*cell, 0.9, 1.0) for cell in cells], rows)
    assert fidelity.mean_absolute_error() == pytest.approx(0.1)
    assert fidelity.percentile_absolute_error(95) == pytest.approx(0.1)
    assert fidelity.mean_error() == pytest.approx(-0.1)
    found = fidelity.mean_range()
    assert found.low == pytest.approx(1 - 0.9 / 0.99)
    assert found.high == pytest.approx(1 - 0.9 / 1.01)


def test_a_cell_whose_repeats_differ_needs_more_of_them() -> None:
    """0.9, 1.0, 1.1 tell their mean to ± 16.9 % (Student), 0.99, 1.0, 1.01 to ± 1.7 %."""
    rows = [row(r, 1, 0, s) for r, s in enumerate((0.9, 1.0, 1.1))]
    rows += [row(r, 1, 1, s) for r, s in enumerate((0.99, 1.0, 1.01))]
    fidelity = compare([predicted(1, k, 1.0, 1.0) for k in (0, 1)], rows)
    assert [fidelity.noisier_than(bar) for bar in (0.01, 0.06, 0.2)] == [2, 1, 0]


def test_maps_together_weigh_every_cell_alike_and_keep_the_worst_regret() -> None:
    """One cell 30 % too high beside three exact ones: the mean is 7.5 %, also where repeats differ in number."""
    one = compare([predicted(1, 0, 1.3, 1.0)], [row(r, 1, 0, 1.0) for r in range(2)])
    rows = [row(r, 1, k, 1.0) for r in range(4) for k in range(3)]
    three = compare([predicted(1, k, 1.0, 1.0) for k in range(3)], rows)
    both = together([one, three])
    assert both.mean_absolute_error() == pytest.approx(0.075)
    assert both.coverage() == pytest.approx(0.75)
    assert both.mean_range().high <= 0.3
    assert len(both.regrets) == 2


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(InvalidInput, match="was measured and not predicted"):
        compare([predicted(1, 0, 1.0, 1.0)], [row(0, 2, 0, 1.0), row(1, 2, 0, 1.0)])
    with pytest.raises(InvalidInput, match="1 repeats measured"):
        compare([predicted(1, 0, 1.0, 1.0)], [row(0, 1, 0, 1.0)])


def test_measured_rows_survive_the_file_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    rows = [row(0, 1, 0, 0.5), row(1, 1, 0, 0.25)]
    write_grid(path, "eagle", rows[:1])
    write_grid(path, "ngram", rows)
    write_grid(path, "eagle", rows[1:])
    assert read_grid(path) == {"eagle": rows, "ngram": rows}
    path.write_text(path.read_text().replace("0.25", "fast", 1))
    with pytest.raises(InvalidInput, match=r"measured.csv:4"):
        read_grid(path)
    with pytest.raises(InvalidInput, match="measure the case first"):
        read_grid(tmp_path / "absent.csv")
