"""Which share of saturation a load is judged at, and what counts as measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from specsim.cases import Loads, load_case
from specsim.cases.scores import load_shares, measured_at_all
from tests.cases.tiny import write_case


def test_a_load_whose_rate_changes_is_judged_at_its_highest() -> None:
    loads = Loads.model_validate(
        {
            "alternatives": {"off": ["speculation=null"]},
            "loads": {
                "steady": {"kind": "poisson", "rate_per_s": 0.3},
                "bursty": {"kind": "gamma", "rate_per_s": 0.6, "cv": 2},
                "steps": {"kind": "piecewise", "cv": 2, "pieces": [[40, 0.3], [20, 0.8]]},
                "wave": {"kind": "diurnal", "rate_per_s": 0.5, "period_s": 60, "amplitude": 0.4},
                "hours": {"kind": "diurnal", "rate_per_s": 0.5, "period_s": 60, "factors": [1, 3]},
            },
        }
    )
    assert load_shares(loads) == pytest.approx(
        {"steady": 0.3, "bursty": 0.6, "steps": 0.8, "wave": 0.7, "hours": 0.75}
    )


def test_a_served_case_counts_as_measured_from_its_saturation_on(tmp_path: Path) -> None:
    folder = write_case(tmp_path / "case")
    case = load_case(f"{folder}/")
    assert not measured_at_all(case)
    case.saturation.touch()
    assert measured_at_all(case)
