"""The report of a question, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from specsim.analytic.load import answered_map
from specsim.analytic.speedups import SpeedupMap
from specsim.assembly import Assembly, assemble
from specsim.fidelity import Fidelity
from specsim.report.document.basis import assumptions, measured_beside, memory, repeat
from specsim.report.document.blocks import Document, Section
from specsim.report.document.speed import speedups_section, time_section
from specsim.report.verdict import Verdict, verdict
from specsim.scenario import Asked
from specsim.version import __version__


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured run of the scenario and how the prediction compares."""

    fidelity: Fidelity
    origin: str  # which machine and engine, in a sentence


def capacity_report(
    asked: Asked,
    *,
    batch: int | None = None,
    decode_only: bool = False,
    evidence: Evidence | None = None,
) -> Document:
    """The document about a question.

    ``batch``: that the verdict by formula speaks about; None: what the load leads to. Raises NoAnswer if the models do
    not fit.
    """
    machine = assemble(asked.scenario)
    speedups, load = answered_map(machine, batch=batch, decode_only=decode_only)
    answer = verdict(speedups, load)
    return Document(
        title=_title(asked), subtitle=_subtitle(asked), verdict=f"{answer.sentence}.",
        tone="on" if answer.on else "off", lead=(f"{answer.about}.", f"{answer.limits}."),
        sections=_sections(asked, machine, speedups, answer, evidence),
    )  # fmt: skip


def _sections(
    asked: Asked, machine: Assembly, speedups: SpeedupMap, answer: Verdict, evidence: Evidence | None
) -> Sequence[Section]:
    found = [speedups_section(speedups, answer.batch), time_section(speedups), memory(machine)]
    if evidence is not None:
        found.append(measured_beside(evidence.fidelity, evidence.origin))
    return [*found, assumptions(asked, speedups), repeat(asked)]


def _title(asked: Asked) -> str:
    scenario = asked.scenario
    deployment = scenario.deployment
    gpus = deployment.replicas * deployment.tensor_parallel
    return f"{scenario.model.name} on {gpus if gpus > 1 else ''} {scenario.gpu.name}".replace("  ", " ")


def _subtitle(asked: Asked) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"Capacity report of {asked.scenario.name}, {date}, specsim {__version__}"
