"""A question in a dozen words, with or without a scenario's file to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specsim.errors import Faults
from specsim.notebook import html_table
from specsim.scenario.defaults import fill_in
from specsim.scenario.model_reference import read_model
from specsim.scenario.question import Scenario, read_hardware
from specsim.scenario.read import apply_settings, read_fields
from specsim.scenario.short_options import ShortOptions, apply_options
from specsim.specs.yaml_file import build


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what had to be assumed to make it one, a phrase each."""

    scenario: Scenario
    assumed: tuple[str, ...]
    fields: dict[str, Any]  # as a file would state it

    def __repr__(self) -> str:
        return f"<Asked {self.scenario!r}; assumed: {len(self.assumed)}>"

    def _repr_html_(self) -> str:
        return html_table(repr(self.scenario)[1:-1], ("assumed",), [[one] for one in self.assumed])


def ask(
    reference: str | None,
    options: ShortOptions,
    settings: Sequence[str] = (),
    changes: Sequence[str] = (),
    *,
    start: Mapping[str, Any] | None = None,
) -> Asked:
    """The question of a scenario's file or none, then of short options, then of settings, then of ``changes``.

    Each overrides what came before it; one that brings another drafter takes out what held for the one before.
    ``start``: some of the fields, in place of a file. Raises InvalidInput: no file and no model or GPU, a value of the
    wrong kind, whatever a scenario refuses; all of it at once.
    """
    data, where = (dict(start or {}), "the question") if reference is None else read_fields(reference)
    faults = Faults()
    assumed = apply_options(data, options, faults)
    with faults.kept():
        assumed += apply_settings(data, settings)
    missing = [f"--{name}" for name in ("model", "gpu") if data.get(name) is None] if reference is None else []
    if missing:
        faults.found.append(
            f"neither a scenario nor {' and '.join(missing)} is given; write for instance --model llama-3.1-8b "
            "--gpu h100"
        )
        for name, read in (("model", read_model), ("gpu", read_hardware)):
            with faults.kept():
                if data.get(name) is not None:
                    read(data[name])
        faults.tell()
    if reference is None:
        with faults.kept():
            assumed += fill_in(data)
    with faults.kept():
        assumed += apply_settings(data, changes)
    with faults.kept():
        scenario = build(Scenario, data, where=where)
    faults.tell()
    speculation = scenario.speculation
    if speculation is not None and speculation.program.drafts and "acceptance" not in data["speculation"]:
        assumed.append(f"the acceptance {speculation.acceptance_origin.basis} of {speculation.program.name}")
    return Asked(scenario, tuple(assumed), data)
