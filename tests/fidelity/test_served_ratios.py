"""Ratios to the plain run of the same repeat, on rows whose ratios are known."""

import pytest

from specsim.fidelity.served_ratios import served_ratios
from specsim.results.served_rows import PredictedMetric, PredictedRun, ServedRow


def predicted(load: str, name: str, tpot_ms: float) -> PredictedRun:
    return PredictedRun(load, name, "scenario", {"median_tpot_ms": PredictedMetric(tpot_ms, tpot_ms, tpot_ms)})


def measured(repeat: int, load: str, name: str, tpot_ms: float | None) -> ServedRow:
    return ServedRow(repeat, load, name, 1e-3, {"median_tpot_ms": tpot_ms})


def test_a_machine_that_slows_down_spoils_no_ratio() -> None:
    """The second repeat takes twice as long throughout; the ratio is 0.5 in both."""
    rows = [
        measured(repeat, "low", name, slow * tpot_ms)
        for repeat, slow in ((0, 1.0), (1, 2.0))
        for name, tpot_ms in (("off", 20.0), ("k2", 10.0))
    ]
    [ratio] = served_ratios([predicted("low", "off", 18.0), predicted("low", "k2", 9.9)], rows, "off")
    assert ratio.repeats == pytest.approx([0.5, 0.5])
    assert ratio.error == pytest.approx(9.9 / 18.0 / 0.5 - 1)


def test_repeats_and_loads_without_a_plain_run_are_left_out() -> None:
    rows = [
        measured(0, "low", "off", 20.0),
        measured(0, "low", "k2", 10.0),
        measured(1, "low", "k2", 99.0),
        measured(0, "high", "k2", 30.0),
        measured(0, "none", "off", None),
        measured(0, "none", "k2", 5.0),
    ]
    told = [predicted(load, name, 10.0) for load in ("low", "high", "none") for name in ("off", "k2")]
    [ratio] = served_ratios(told, rows, "off")
    assert (ratio.load, ratio.alternative, ratio.measured) == ("low", "k2", 0.5)
