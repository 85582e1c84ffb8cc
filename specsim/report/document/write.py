"""The report of a question, section by section."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from specsim.analytic.load import answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly, assemble
from specsim.fidelity import Fidelity
from specsim.planning.longer import longest_worth_trying
from specsim.planning.plan.growth import Growth
from specsim.planning.plan.named import Named
from specsim.progress import ShareProgress
from specsim.report.document.answers import Answers, answers
from specsim.report.document.basis import assumptions, measured_beside, memory, repeat
from specsim.report.document.blocks import Document, Paragraph, Section
from specsim.report.document.decision import drafts, lead, sentence, service_levels, tone
from specsim.report.document.doubts import risks, sensitivity
from specsim.report.document.evidence import comparable_line, measured_errors
from specsim.report.document.fleet import fleet
from specsim.report.document.speed import drafters, latency_against_load, pareto, speedups_section, time_section
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Asked, Scenario
from specsim.version import __version__


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured run of the scenario and how the prediction compares."""

    fidelity: Fidelity
    origin: str  # which machine and engine, in a sentence


def capacity_report(
    asked: Asked,
    *,
    named: Named | None = None,
    growth: Growth | None = None,
    simulated: bool = True,
    batch: int | None = None,
    decode_only: bool = False,
    evidence: Evidence | None = None,
    options: Sequence[str] = (),
    pool: Executor | None = None,
    progress: ShareProgress | None = None,
) -> Document:
    """The document about a question.

    ``named``: what its plan may choose beside the question's own; ``growth``: of its load; ``options``: both as the
    command line that repeats it states them. ``simulated`` false: what formulas tell, in a second or two instead of a
    minute. ``batch``: that the formulas' verdict speaks about; None: what the load leads to. ``pool``: of processes
    that share the simulations. Raises NoAnswer if the models do not fit.
    """
    asked = _trying_longer(asked) if simulated else asked
    scenario = asked.scenario
    with warnings.catch_warnings(record=True) as warned:
        machine = assemble(scenario)
    speedups, load = answered_map(machine, batch=batch, decode_only=decode_only)
    answer = verdict(speedups, load)
    found = answers(asked, named or Named(), growth, pool=pool, progress=progress) if simulated else None
    served = None if found is None else found.served.answer
    sections = [speedups_section(speedups, answer.batch), time_section(speedups), memory(machine)]
    if found is not None:
        told = [f"{one.message}." for one in warned]
        sections = _simulated(machine, speedups, answer.batch, found, told)
    if evidence is not None:
        sections.append(measured_beside(evidence.fidelity, evidence.origin))
    return Document(
        title=_title(asked),
        subtitle=_subtitle(asked),
        verdict=sentence(answer, found, scenario.slo),
        tone=tone(answer, found),
        lead=[*lead(answer, found, scenario.slo), *_of_others(answer, scenario)],
        sections=[*sections, assumptions(asked, speedups), repeat(asked, served, options)],
    )


def _of_others(answer: Verdict, scenario: Scenario) -> list[str]:
    return [] if answer.drafting is None else [comparable_line(scenario)]


def _simulated(
    machine: Assembly, speedups: SpeedupMap, batch: int, found: Answers, warned: Sequence[str]
) -> list[Section]:
    """The sections of a whole report, in the order in which a team asks."""
    scenario, served, plan = machine.scenario, found.served.answer, found.plan.answer
    slo, sections = scenario.slo, list[Section]()
    if served is not None:
        sections.append(service_levels(served, slo))
    sections.append(fleet(found.plan))
    if served is not None:
        if served.decision is not None:
            sections.append(drafts(served.decision, slo, served.note))
        sections += [latency_against_load(served.curve, slo), sensitivity(served, plan, slo)]
    sections.append(risks(scenario, speedups, found, warned))
    sections += [] if found.offers.answer is None else [pareto(found.offers.answer)]
    sections.append(speedups_section(speedups, batch))
    comparison = found.comparison
    if comparison.answer is not None:
        sections.append(drafters(comparison.answer, slo))
    else:
        sections.append(Section("Drafters", [Paragraph(f"Not compared: {comparison.why}.")]))
    return [*sections, memory(machine), time_section(speedups), measured_errors(scenario)]


def _trying_longer(asked: Asked) -> Asked:
    """The question that says how long drafts may be, longer than the drafter's own if it did not."""
    scenario = longest_worth_trying(asked.scenario, asked.fields)
    stated = asked.fields.get("speculation")
    if scenario.speculation is None or not isinstance(stated, dict):
        return asked
    fields = asked.fields | {"speculation": stated | {"max_draft_tokens": scenario.speculation.max_draft_tokens}}
    return replace(asked, scenario=scenario, fields=fields)


def _title(asked: Asked) -> str:
    deployment, gpu = asked.scenario.deployment, asked.scenario.gpu.name
    gpus = deployment.replicas * deployment.tensor_parallel
    return f"{asked.scenario.model.name} on {f'{gpus} {gpu}' if gpus > 1 else gpu}"


def _subtitle(asked: Asked) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"Capacity report of {asked.scenario.name}, {date}, specsim {__version__}"
