"""The shipped host times are what calibration rows say, by the script that fits them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specsim.specs.catalog import load_hardware
from specsim.specs.engine import EngineLimits
from specsim.specs.engine_defaults import Circumstances, with_defaults

FOLDER = Path(__file__).parents[2] / "validation" / "gpu"
CARD = Circumstances(load_hardware("h100-sxm"))
HOST = with_defaults(EngineLimits(kind="vllm", version="0.24"), CARD).host  # of the runner that the rows are of


@pytest.fixture(scope="module")
def fit() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module("fit_host_time")
    finally:
        sys.path.remove(str(FOLDER))


def test_exposed_host_times_lie_within_a_standard_error_of_their_fit(fit: Any) -> None:
    rows = list(fit.gaps())
    seconds, deviations, _, _ = fit.fitted(rows)
    for name, value, error in zip(fit.NAMES, seconds, deviations, strict=True):
        shipped = getattr(HOST, name)
        assert abs(shipped.seconds * shipped.exposed - value) <= error, name


def made(fit: Any, truth: tuple[float, ...], *, clients: tuple[int, ...] = (1, 8, 32, 64)) -> list[Any]:
    """Rows made by the law itself, on cards whose device price is right or 10 % off."""
    rows = []
    for group, factor in (("one", 1.0), ("two", 0.9), ("three", 1.1)):
        for batch in clients:
            for k in (0, 1, 5):
                device_s = 5e-3 + 3e-5 * batch * (1 + k) + 4e-4 * k
                law = float(np.dot(truth, (1, batch, k, batch * k)))
                rows.append(fit.Gap(group, batch, k, False, k, 1, factor * device_s + law, device_s))
        rows.append(fit.Gap(group, 0, 0, False, 0, 1, factor * 5e-3, 5e-3))
    return rows


def test_a_known_law_is_recovered_where_many_rows_outweigh_the_prior(fit: Any) -> None:
    truth = (4e-4, 1.5e-5, 2e-4, 1e-5)
    seconds, deviations, factors, errors = fit.fitted(made(fit, truth) * 400)
    assert seconds == pytest.approx(truth, rel=0.02)
    assert factors == pytest.approx({"one": 1.0, "two": 0.9, "three": 1.1}, rel=0.01)
    assert np.abs(errors).max() < 0.005
    assert (deviations < [0.2 * fit.PRIORS[name][1] for name in fit.NAMES]).all()


def test_what_no_row_tells_stays_as_it_was_believed(fit: Any) -> None:
    """Rows without drafts say nothing about drafts."""
    plain = [row for row in made(fit, (4e-4, 1.5e-5, 2e-4, 1e-5)) if not row.draft_tokens]
    seconds, deviations, _, _ = fit.fitted(plain)
    for place, name in enumerate(fit.NAMES):
        if name.startswith("draft"):
            assert (seconds[place], deviations[place]) == pytest.approx(fit.PRIORS[name])
        else:
            assert deviations[place] < fit.PRIORS[name][1]


def test_a_launch_outside_of_graphs_is_what_small_passes_waited_for(fit: Any) -> None:
    launches = list(fit.eager_launches())
    assert np.ptp(launches) < 0.02 * np.mean(launches)  # at any context: the host is what they waited for
    assert HOST.launch is not None
    assert HOST.launch.seconds == pytest.approx(np.mean(launches), rel=HOST.launch.error)
