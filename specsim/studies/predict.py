"""A row of a study predicted as any question is answered: a scenario, and then prices, the map or a simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from specsim.analytic.rounds import speedup_map
from specsim.assembly import Assembly, assemble
from specsim.cost.forward import Group
from specsim.cost.step_time import StepTime
from specsim.errors import InvalidInput
from specsim.scenario import Scenario
from specsim.scenario.read import scenario_of
from specsim.serving.simulate import simulate
from specsim.serving.uncertainty import FEWEST_RUNS, predicted_metrics
from specsim.specs.catalog import hardware_names, model_names
from specsim.speculation.acceptance.lengths import of_length
from specsim.speculation.acceptance.origin import Origin
from specsim.speculation.program import program_names
from specsim.studies.quantities import QUANTITIES, Way
from specsim.studies.study import Study, StudyRow, set_fields, studies_folder
from specsim.surfaces.estimates import Z90

MS = 1e3
FILES = (".yaml", ".yml", ".json")
# Parts of a step that a measured pass leaves out. An engine's captured forward pass ends before the logits.
LEFT_OUT = {"pass_ms": ("sampling", "draft"), "forward_ms": ("sampling", "draft", "lm_head")}


@dataclass(frozen=True, slots=True)
class Forecast:
    """A predicted figure in its quantity's unit, and its stated 90 % interval; None where none is stated."""

    value: float
    low: float | None
    high: float | None
    source: str


class NotPredicted(Exception):
    """Why a row of a study has no prediction, in a few words."""


def scenario_of_row(study: Study, row: StudyRow) -> Scenario:
    """The scenario that a row was measured in; acceptance is the study's own, or its program's.

    Raises NotPredicted for hardware, a model or a program that nobody has described, InvalidInput for settings that
    break a rule.
    """
    fields: dict[str, Any] = {"schema": 1, "name": row.study} | study.scenario
    fields = set_fields(fields, row.settings)
    if row.k:
        fields = set_fields(fields, {"speculation.max_draft_tokens": row.k})
    else:
        fields.pop("speculation", None)
    _check_described(fields)
    return scenario_of(fields, folder=studies_folder(), where=f"{row.study}, line {row.line}")


def _check_described(fields: dict[str, Any]) -> None:
    speculation = fields.get("speculation") or {}
    for kind, name, known in (
        ("hardware", fields.get("gpu"), hardware_names()),
        ("model", fields.get("model"), model_names()),
        ("program", speculation.get("program"), program_names()),
        ("model", speculation.get("draft_model"), model_names()),
    ):
        if isinstance(name, str) and "." + name.rpartition(".")[2] not in FILES and name.lower() not in known:
            raise NotPredicted(f"no {kind} file of {name}")


def accepting(scenario: Scenario, length: float | None) -> Scenario:
    """The scenario with the acceptance law of a length; as it is, where none was measured."""
    speculation = scenario.speculation
    if speculation is None or length is None:
        return scenario
    law = of_length(length, speculation.max_draft_tokens, speculation.acceptance)
    known = {"acceptance": law, "acceptance_origin": Origin(source="the study")}
    return scenario.model_copy(update={"speculation": speculation.model_copy(update=known)})


def forecasts(scenario: Scenario, row: StudyRow, *, intervals: bool = True) -> dict[str, Forecast]:
    """Every figure of a row predicted, by quantity. Without ``intervals``, served figures are of one simulation."""
    assembly, found = assemble(scenario), dict[str, Forecast]()
    for way, ask in _WAYS.items():
        names = [name for name in row.figures if QUANTITIES[name].way == way]
        if names:
            found |= ask(assembly, row, names, intervals)
    return found


def _step(assembly: Assembly, row: StudyRow, names: Sequence[str], intervals: bool) -> dict[str, Forecast]:
    return {name: _of_step(assembly, row, name) for name in names}


def _of_step(assembly: Assembly, row: StudyRow, name: str) -> Forecast:
    """A steady round; or the target's pass, with logits or without; or the attention of all its layers."""
    sequences, context = int(_shape(row, "sequences")), _shape(row, "context_tokens")
    if name == "step_ms":
        return _milliseconds(assembly.cost.decode_round(sequences, row.k, max(1.0, context)))
    width = row.shape.get("query_tokens", 1.0)
    width = int(width) if width.is_integer() else width
    group = Group(sequences, width, context + width, row.shape.get("logit_rows", width))
    step = assembly.cost.step([group], drafting=0, draft_tokens=0, drafting_kv_tokens=0)
    if name == "attention_ms":
        return _milliseconds(step, step.parts["attention"], ("attention",))
    return _milliseconds(step, step.seconds - sum(float(step.parts.get(part, 0.0)) for part in LEFT_OUT[name]))


def _milliseconds(step: StepTime, seconds: Any = None, classes: Sequence[str] | None = None) -> Forecast:
    """``seconds`` of a step, None for all of it, with the errors of ``classes``, None for all of them."""
    value = float(step.seconds if seconds is None else seconds)
    errors = [
        float(error) for kind, error in step.errors_s.items() if classes is None or kind in (*classes, "machine")
    ]
    share = 1.0 if classes is None else value / float(step.seconds)
    half = Z90 * sum((share * error if classes else error) ** 2 for error in errors) ** 0.5
    return Forecast(MS * value, MS * max(0.0, value - half), MS * (value + half), str(step.source))


def _shape(row: StudyRow, name: str) -> float:
    if name not in row.shape:
        raise InvalidInput(f"{row.study}, line {row.line} has no {name}; a pass or step needs it")
    return row.shape[name]


def _map(assembly: Assembly, row: StudyRow, names: Sequence[str], intervals: bool) -> dict[str, Forecast]:
    batch = int(_shape(row, "sequences"))
    cell = speedup_map(assembly, batches=[batch], context_tokens=row.shape.get("context_tokens")).cell(batch, row.k)
    return dict.fromkeys(names, Forecast(cell.speedup, cell.low, cell.high, cell.source))


def _served(assembly: Assembly, row: StudyRow, names: Sequence[str], intervals: bool) -> dict[str, Forecast]:
    clients = assembly.scenario.workload.clients
    running = 1 if clients is None else min(clients.concurrency, assembly.limits.max_num_seqs)
    source = str(assembly.cost.decode_round(running, row.k, assembly.context_tokens).source)
    if not intervals:
        summary = simulate(assembly).summary()
        return {name: Forecast(summary[name], None, None, source) for name in names}
    metrics = predicted_metrics(assembly, names, runs=FEWEST_RUNS, vary_acceptance=True)
    missing = [name for name in names if name not in metrics]
    if missing:
        raise InvalidInput(f"{row.study}, line {row.line}: a simulation tells no {', '.join(missing)}")
    return {name: Forecast(one.value, one.low, one.high, source) for name, one in metrics.items()}


def _memory(assembly: Assembly, row: StudyRow, names: Sequence[str], intervals: bool) -> dict[str, Forecast]:
    tokens = float(assembly.longest_cached)
    return dict.fromkeys(names, Forecast(tokens, None, None, "counted"))


_WAYS: dict[Way, Callable[[Assembly, StudyRow, Sequence[str], bool], dict[str, Forecast]]] = {
    "step": _step,
    "map": _map,
    "served": _served,
    "memory": _memory,
}
