"""What an answer rests on: memory, assumptions and where each is from, measured errors, how to repeat it."""

from __future__ import annotations

from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly
from specsim.cost.memory import MemoryBudget
from specsim.fidelity import Fidelity
from specsim.report.assumed import assumed_lines, unstated_line
from specsim.report.document.blocks import Bullets, Chart, Listing, Paragraph, Section
from specsim.report.sheet import Sheet
from specsim.report.validation.map_figures import map_agreement
from specsim.scenario import Asked
from specsim.scenario.commented import commented_yaml
from specsim.specs.engine_defaults import default_sources
from specsim.units import GB

FILE = "scenario.yaml"


def memory(machine: Assembly) -> Section:
    """Where one GPU's memory goes, without the drafter and with it."""
    sides = {"off": machine.plain}
    if machine.speculation is not None and machine.longest:
        sides["with the drafter"] = machine
    budgets = {name: one.memory for name, one in sides.items()}
    rows = [
        [label, *(f"{getattr(budget, field) / GB:,.2f}" for budget in budgets.values())]
        for label, field in _MEMORY
        if any(getattr(budget, field) for budget in budgets.values())
    ]
    rows.append(["left", *(f"{_left(budget) / GB:,.2f}" for budget in budgets.values())])
    rows.append(["tokens that a replica's KV cache holds", *(f"{one.longest_cached:,}" for one in sides.values())])
    utilization = machine.limits.gpu_memory_utilization
    first = machine.memory
    told = (
        f"GB of one GPU's {first.total_bytes / GB:.1f}, of which the engine takes {utilization:.0%}, "
        f"{first.usable_bytes / GB:.1f} GB; counted as vLLM counts it at its start."
    )
    return Section("Memory", [Paragraph(told), Sheet("", ("one GPU, GB", *sides), rows)])


_MEMORY = (
    ("weights", "weights"),
    ("the drafter's weights", "draft_weights"),
    ("CUDA context, kernels", "context"),
    ("activations at start-up", "activations"),
    ("captured graphs", "graphs"),
    ("KV cache", "kv"),
)


def _left(budget: MemoryBudget) -> float:
    """Of all memory: what the engine leaves to others, and less than a block."""
    return budget.total_bytes - float(sum(getattr(budget, field) for _, field in _MEMORY))


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
            str(cell.predicted.batch), str(cell.predicted.draft_tokens), f"{1e3 * cell.predicted.round_s:.2f}",
            f"{1e3 * cell.measured_s:.2f}", f"{cell.error:+.1%}", f"{cell.spread:.1%}", cell.predicted.source,
        ]
        for cell in fidelity.cells
    ]  # fmt: skip
    header = ("batch", "k", "predicted\nms", "measured\nms", "error", "spread of\nrepeats", "source")
    return Section(
        "Predicted against measured",
        [Paragraph(told), Chart(map_agreement(fidelity)), Sheet("", header, rows, words=(6,))],
    )


def repeat(asked: Asked) -> Section:
    """The command, and the scenario that it is given."""
    scenario = asked.scenario
    told = f"From this file, {FILE}; its question's hash is {scenario.sha256()[:12]}."
    return Section(
        "To repeat it",
        [Listing(f"specsim report {FILE}", "sh"), Paragraph(told), Listing(commented_yaml(asked), "yaml")],
    )
