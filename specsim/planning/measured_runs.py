"""Runs of a user's engine as questions with known answers: a scenario under each run's load, and its figures."""

from __future__ import annotations

import re
from pathlib import Path

from specsim.errors import InvalidInput
from specsim.interop.acceptance import read_acceptance
from specsim.interop.load_results import LoadResult, read_load_results
from specsim.interop.server_runs import ServerRun, read_server_runs
from specsim.planning.constants_fit import MeasuredRun
from specsim.scenario import Scenario, SyntheticWorkload
from specsim.speculation.acceptance import AcceptanceLaw
from specsim.speculation.acceptance.lengths import of_length
from specsim.speculation.acceptance.origin import Origin
from specsim.speculation.policy import FixedPolicy
from specsim.text_file import read_text
from specsim.workload.arrivals import ClosedLoopArrivals

MOST_REQUESTS = 2_000  # simulated of a run; its figures hold at any length of it
FITTED = re.compile(r"(mean|median)_(ttft|tpot|itl|e2el)_ms|output_throughput")  # percentiles hang on the lengths' law
DRAFTS = ("vllm:spec_decode_num_drafts", "SpecDecoding metrics")
MEASURED = Origin(source="the run itself")


def measured_runs(path: Path, scenario: Scenario) -> list[MeasuredRun]:
    """The runs of a load generator's results, a dump of /metrics or a server's log.

    A run of which no acceptance is told ran without speculation. A dump was loaded as the scenario says.

    Raises InvalidInput: a file of none of these, speculation where the scenario has none.
    """
    text = read_text(path, "runs of an engine")
    if text.lstrip()[:1] in ("{", "["):
        results = read_load_results(path)
        return [_of_result(f"{path.name}{_number(i, results)}", one, scenario) for i, one in enumerate(results)]
    runs = read_server_runs(path)
    if any(mark in text for mark in DRAFTS):
        record = read_acceptance(path)
        asked = _speculating(path.name, scenario, record.law(), record.draft_tokens())
    else:
        asked = scenario.without_speculation()
    return [_of_server(f"{path.name}{_number(i, runs)}", one, asked) for i, one in enumerate(runs)]


def _of_result(name: str, result: LoadResult, scenario: Scenario) -> MeasuredRun:
    length, k = result.acceptance_length, result.draft_tokens
    if length is None:
        asked = scenario.without_speculation()
    else:
        if scenario.speculation is None:
            raise InvalidInput(f"{name} ran with speculation and the scenario has none; name its drafter")
        k = scenario.speculation.max_draft_tokens if k is None else k
        asked = _speculating(name, scenario, of_length(length, k, scenario.speculation.acceptance), k)
    if result.concurrency is not None or result.rate_per_s is not None:
        fields = result.workload()
        fields["requests"] = min(fields["requests"], MOST_REQUESTS)
        asked = asked.model_copy(update={"workload": SyntheticWorkload.model_validate(fields)})
    figures = {key: value for key, value in result.metrics.items() if FITTED.fullmatch(key)}
    return MeasuredRun(name, asked, figures)


def _of_server(name: str, run: ServerRun, scenario: Scenario) -> MeasuredRun:
    if run.running is not None:
        if not isinstance(scenario.workload, SyntheticWorkload):
            raise InvalidInput(f"{name} tells requests running and the scenario replays a trace; draw its lengths")
        loop = {"arrivals": ClosedLoopArrivals(concurrency=run.running), "requests": max(64, 8 * run.running)}
        scenario = scenario.model_copy(update={"workload": scenario.workload.model_copy(update=loop)})
        name = f"{name} {run.running} running"
    return MeasuredRun(name, scenario, run.figures)


def _speculating(name: str, scenario: Scenario, law: AcceptanceLaw, k: int) -> Scenario:
    """The scenario with the drafts and the acceptance that a run had."""
    speculation = scenario.speculation
    if speculation is None:
        raise InvalidInput(f"{name} ran with speculation and the scenario has none; name its drafter")
    changed = {"max_draft_tokens": k, "acceptance": law, "acceptance_origin": MEASURED}
    if isinstance(speculation.policy, FixedPolicy):
        changed["policy"] = FixedPolicy(k=k)
    made: Scenario = scenario.model_copy(update={"speculation": speculation.model_copy(update=changed)})
    return made


def _number(index: int, of: list[LoadResult] | list[ServerRun]) -> str:
    return f" #{index + 1}" if len(of) > 1 else ""
