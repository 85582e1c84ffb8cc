"""A prediction as one JSON document."""

from __future__ import annotations

from typing import Any

from specsim.analytic.speedups import SpeedupMap
from specsim.report.verdict import Verdict
from specsim.scenario import Asked


def prediction_json(asked: Asked, speedups: SpeedupMap, answer: Verdict) -> dict[str, Any]:
    """What ``specsim predict --json`` prints, but for the exits that it may also be asked for."""
    return speedups.as_json() | {
        "verdict": answer.as_json(),
        "serving_engine": asked.scenario.assumed_engine(),
        "deployment": asked.scenario.assumed_deployment(),
        "assumed": list(asked.assumed),
    }
