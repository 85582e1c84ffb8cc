"""What an answer rests on: memory, assumptions and where each is from, measured errors, how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly
from specsim.cost.memory import MemoryBudget
from specsim.fidelity import Fidelity
from specsim.report.assumed import assumed_lines, unstated_line
from specsim.report.document.answers import ON, ServedAnswer, speculation_of
from specsim.report.document.blocks import Bullets, Chart, Listing, Paragraph, Section, as_sentence
from specsim.report.memory import HELD, capacity_line, capacity_sheet, memory_figure, sides
from specsim.report.sheet import Sheet
from specsim.report.validation.map_figures import map_agreement
from specsim.scenario import Asked, Scenario
from specsim.scenario.commented import commented_yaml
from specsim.specs.engine_defaults import default_sources
from specsim.units import GB

FILE = "scenario.yaml"


def memory(machine: Assembly) -> Section:
    """Where one GPU's memory goes, without the drafter and with it, and how many sequences fit."""
    replicas = sides(machine)
    budgets = [one.memory for one in replicas.values()]
    rows = [
        [label, *(f"{getattr(budget, field) / GB:,.2f}" for budget in budgets)]
        for field, (label, _) in HELD.items()
        if any(getattr(budget, field) for budget in budgets)
    ]
    rows.append(["left to others", *(f"{_left(budget) / GB:,.2f}" for budget in budgets)])
    first = budgets[0]
    told = (
        f"GB of one GPU's {first.total_bytes / GB:.1f}, of which the engine takes "
        f"{machine.limits.gpu_memory_utilization:.0%}, {first.usable_bytes / GB:.1f} GB; counted as vLLM counts "
        "it at its start. Then, by their length, how many sequences a replica's KV cache holds."
    )
    tables = [Sheet("", ("one GPU, GB", *replicas), rows), capacity_sheet(machine)]
    return Section(
        "Memory",
        [Paragraph(as_sentence(capacity_line(machine))), Paragraph(told), Chart(memory_figure(machine)), *tables],
    )


def _left(budget: MemoryBudget) -> float:
    """Of all memory: what the engine leaves, and less than a block."""
    return budget.total_bytes - float(sum(getattr(budget, field) for field in HELD))


def assumptions(asked: Asked, speedups: SpeedupMap) -> Section:
    """What was taken for granted, and where it is from."""
    scenario = asked.scenario
    speculation = scenario.speculation
    origins = [f"Model: {scenario.model.source}", f"GPU: {scenario.gpu.source}"]
    if speculation is not None:
        origins.append(f"Drafter: {speculation.program.source}")
    blocks = [Bullets([*assumed_lines(scenario, speedups), *unstated_line(asked.assumed), *origins])]
    defaults = default_sources(scenario.stated_engine, scenario.circumstances())
    if not defaults:
        return Section("Assumptions, and where each is from", blocks)
    lines = [f"{', '.join(names)}: {source}" for source, names in defaults.items()]
    told = f"Defaults of {scenario.engine.name} that the question leaves to it:"
    return Section("Assumptions, and where each is from", [*blocks, Paragraph(told), Bullets(lines)])


def measured_beside(fidelity: Fidelity, origin: str) -> Section:
    """The prediction and a measured run of the same scenario."""
    told = (
        f"{origin} Mean |error| of round time {fidelity.mean_absolute_error():.1%} over {len(fidelity.cells)} cells; "
        f"{fidelity.coverage():.0%} of them lie in the stated 90 % interval; following the predicted best k loses at "
        f"most {fidelity.worst_regret():.1%} of throughput."
    )
    rows = [
        [
            str(cell.predicted.batch),
            str(cell.predicted.draft_tokens),
            f"{1e3 * cell.predicted.round_s:.2f}",
            f"{1e3 * cell.measured_s:.2f}",
            f"{cell.error:+.1%}",
            f"{cell.spread:.1%}",
            cell.predicted.source,
        ]
        for cell in fidelity.cells
    ]
    header = ("batch", "k", "predicted\nms", "measured\nms", "error", "spread of\nrepeats", "source")
    return Section(
        "Predicted against measured",
        [Paragraph(told), Chart(map_agreement(fidelity)), Sheet("", header, rows, words=(6,))],
    )


def repeat(asked: Asked, served: ServedAnswer | None = None, options: Sequence[str] = ()) -> Section:
    """The commands, and the scenario that they are given; ``options``: those of the plan."""
    extra = f" {shlex.join(options)}" if options else ""
    lines = [f"specsim report {FILE}{extra}", f"specsim predict {FILE}"]
    if served is not None:
        drafts = ""
        if served.decision is not None:
            drafts = _as_options(served.scenarios[ON])
            lines.append(f"specsim tune {FILE}")
        lines += [f"specsim simulate {FILE}{drafts}", f"specsim plan {FILE}{drafts}{extra}", f"specsim compare {FILE}"]
    told = f"From this file, {FILE}; its question's hash is {asked.scenario.sha256()[:12]}."
    return Section(
        "To repeat it",
        [Listing("\n".join(lines), "sh"), Paragraph(told), Listing(commented_yaml(asked), "yaml")],
    )


def _as_options(scenario: Scenario) -> str:
    """How much is drafted, as options."""
    policy = speculation_of(scenario).policy
    if policy.kind == "fixed":
        return f" --draft-tokens {policy.longest}"
    stated = json.dumps(policy.model_dump(mode="json"))
    return f" --set {shlex.quote(f'speculation.policy={stated}')}"
