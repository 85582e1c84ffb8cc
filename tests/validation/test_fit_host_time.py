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
HOST = with_defaults(EngineLimits(kind="vllm"), Circumstances(load_hardware("h100-sxm"))).host


@pytest.fixture(scope="module")
def fit() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module("fit_host_time")
    finally:
        sys.path.remove(str(FOLDER))


def test_exposed_host_times_lie_within_a_standard_error_of_their_fit(fit: Any) -> None:
    rows = list(fit.gaps())
    seconds = fit.fitted(rows)[0]
    without = np.array([fit.fitted(rows[:i] + rows[i + 1 :])[0] for i in range(len(rows))])
    errors = np.sqrt((len(rows) - 1) * without.var(axis=0))
    for name, value, error in zip(fit.NAMES, seconds, errors, strict=True):
        shipped = getattr(HOST, name)
        assert abs(shipped.seconds * shipped.exposed - value) <= error, name


def test_a_known_law_is_recovered(fit: Any) -> None:
    """Rows made by the law itself, on two cards whose device price is 20 % off and one where it is right."""
    truth, rows = (4e-4, 1.5e-5, 1e-4), []
    for group, factor in (("h100", 1.0), ("one", 0.8), ("two", 1.2)):
        for clients, k in ((1, 0), (8, 1), (64, 0), (32, 5), (1, 5)):
            device_s = 5e-3 + 3e-5 * clients * (1 + k) + 4e-4 * k
            law = np.dot(truth, (1, clients, k))
            rows.append(fit.Gap(group, clients, k, factor * device_s + law, device_s))
    seconds, factors, errors = fit.fitted(rows)
    assert seconds == pytest.approx(truth, rel=1e-6)
    assert factors == pytest.approx({"one": 0.8, "two": 1.2})
    assert np.abs(errors).max() < 1e-9


def test_a_launch_outside_of_graphs_is_what_small_passes_waited_for(fit: Any) -> None:
    launches = list(fit.eager_launches())
    assert np.ptp(launches) < 0.02 * np.mean(launches)  # at any context: the host is what they waited for
    assert HOST.launch is not None
    assert HOST.launch.seconds == pytest.approx(np.mean(launches), rel=HOST.launch.error)
