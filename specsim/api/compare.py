"""``specsim.compare``: drafters of one model and load side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from specsim.api.arguments import checked
from specsim.api.words import QuestionOptions, ScenarioLike, ask
from specsim.errors import InvalidInput
from specsim.interop.acceptance import read_log_file
from specsim.planning.compare import SIMULATED, Comparison, accepting_as_logged, usual_drafters, with_each
from specsim.planning.compare import compare as find
from specsim.scenario import Asked, Scenario


@checked
def compare(
    scenario: ScenarioLike = None,
    *,
    drafters: Sequence[str] = (),
    batches: Sequence[int] | None = None,
    fit: Mapping[str, str | Path] | None = None,
    simulated: int = SIMULATED,
    **words: Unpack[QuestionOptions],
) -> Comparison:
    """Speed-up by batch size, best k, memory, and TTFT and TPOT at the load, for each drafter and for none.

    ``drafters``: techniques, draft models, files; none: what engines serve with such a model. ``batches``: of the
    table; None: 1, 2, 4, .. 128. ``fit``: by drafter, a log of yours that its acceptance is fitted to. ``simulated``:
    how many are served at the load, the best by formula. ``words``: as of ``specsim.ask``; the scenario is words, a
    path or a name, to which each drafter is put. Raises InvalidInput, and NoAnswer where no drafter can be compared.

    >>> found = specsim.compare(model="llama-3.1-8b", gpu="h100", drafters=["eagle-3", "ngram"], batches=[1, 8],
    ...                         simulated=0, concurrency=4, set={"workload.requests": 40})
    >>> [one.name for one in found.drafters]
    ['eagle-3', 'ngram']
    >>> found.winner(8).name
    'eagle-3'
    """
    if isinstance(scenario, Scenario):
        raise InvalidInput(
            "a finished Scenario has its drafter; give what specsim.ask returned, words, or a YAML path"
        )
    asked = ask(scenario, **words)
    logs = dict(fit or {})
    strange = [name for name in logs if drafters and name not in drafters]
    if strange:
        raise InvalidInput(f"fit names drafter {strange[0]!r}, which is not compared; compared: {', '.join(drafters)}")

    def with_drafter(name: str) -> Asked:
        one = ask(asked, drafter=name)
        return accepting_as_logged(one, [read_log_file(Path(logs[name]))], str(logs[name])) if name in logs else one

    if drafters:
        scenarios = with_each(drafters, lambda name: with_drafter(name).scenario, None)
        return find(scenarios, batches=batches, simulated=simulated)
    names, left_out = usual_drafters(asked.scenario.model, words.get("drafter"))
    scenarios = with_each(names, lambda name: with_drafter(name).scenario, left_out)
    return find(scenarios, left_out=left_out, batches=batches, simulated=simulated)
