"""``specsim.simulate``: the workload under load, in discrete events."""

from __future__ import annotations

from typing import Unpack

from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.assembly import assemble
from specsim.results import RunResult
from specsim.serving.simulate import simulate as serve


@checked
def simulate(scenario: ScenarioLike = None, **words: Unpack[QuestionOptions]) -> RunResult:
    """Serve the question's requests, with its drafter; ``drafter="off"`` asks the same of none, under equal seeds.

    The result's ``summary()`` has the keys of ``vllm bench serve``: times in ms, throughput in tokens/s; ``requests``
    and ``steps`` are the records in seconds. The first simulation on a machine compiles for some ten seconds.
    ``words``: as of ``specsim.ask``. Raises InvalidInput, and NoAnswer where the models do not fit or a request never
    runs.

    >>> asked = specsim.ask(model="llama-3.1-8b", gpu="h100", drafter="eagle-3", rate=4, prompt=900, output=150)
    >>> on, off = specsim.simulate(asked), specsim.simulate(asked, drafter="off")
    >>> on.summary()["completed"]
    1000
    >>> on.summary()["p95_tpot_ms"] < off.summary()["p95_tpot_ms"]
    True
    """
    return serve(assemble(ask(scenario, **words).scenario))
