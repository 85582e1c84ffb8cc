"""specsim predicts what speculative decoding does to LLM serving, and proves it against real runs.

    ask, load_scenario    the question, of words or of a YAML file; Scenario is what comes of it
    predict               on or off, which k, up to which batch: the batch × k map
    simulate              TTFT, TPOT, E2E and throughput under a load
    compare               drafters side by side
    tune                  the batch -> k schedule and the command line for an engine
    plan                  fewest GPUs and lowest cost that meet an SLO
    fit                   the acceptance law of your engine's logs
    write_report          the document for the team, HTML or Markdown

Every function takes a scenario (a YAML path, a bundled name, an object), or the words of the command line's short
options as keywords, or both. Errors are SpecsimError: InvalidInput, or NoAnswer where there is none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from specsim.version import __version__

if TYPE_CHECKING:
    from specsim.api.compare import compare
    from specsim.api.fit import fit
    from specsim.api.plan import plan
    from specsim.api.predict import Prediction, predict
    from specsim.api.report import write_report
    from specsim.api.simulate import simulate
    from specsim.api.tune import tune
    from specsim.api.words import ask, load_scenario
    from specsim.errors import InvalidInput, NoAnswer, SpecsimError
    from specsim.scenario import Scenario

__all__ = [
    "InvalidInput",
    "NoAnswer",
    "Prediction",
    "Scenario",
    "SpecsimError",
    "__version__",
    "ask",
    "compare",
    "fit",
    "load_scenario",
    "plan",
    "predict",
    "simulate",
    "tune",
    "write_report",
]

_HOMES = {  # imported when first asked for, so that importing specsim stays cheap
    "InvalidInput": "specsim.errors",
    "NoAnswer": "specsim.errors",
    "Prediction": "specsim.api.predict",
    "Scenario": "specsim.scenario",
    "SpecsimError": "specsim.errors",
    "ask": "specsim.api.words",
    "compare": "specsim.api.compare",
    "fit": "specsim.api.fit",
    "load_scenario": "specsim.api.words",
    "plan": "specsim.api.plan",
    "predict": "specsim.api.predict",
    "simulate": "specsim.api.simulate",
    "tune": "specsim.api.tune",
    "write_report": "specsim.api.report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'specsim' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
