"""``drafters.yaml``: the drafters that a map runs on its target, each a ``speculation`` section of the scenario.

Where the scenario has trained ``weights``, a section's own ``weights`` is its drafter's folder.

draft-model:
  program: draft-model
  draft_model: ../../models/shapes/llama-8m.yaml   # counts from the case's folder
  max_draft_tokens: 6
  acceptance: {kind: constant, rate: 0.7}
ngram: {program: ngram, max_draft_tokens: 6, acceptance: {kind: constant, rate: 0.45}}
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from specsim.cases.loads import NAME
from specsim.errors import InvalidInput
from specsim.scenario import Scenario, load_scenario
from specsim.specs.yaml_file import read_mapping


def drafting_scenarios(path: Path, scenario: Path) -> dict[str, Scenario]:
    """The scenario with each drafter of the file at ``path``, by the drafter's name.

    Raises InvalidInput for a file without any, or with one that does not fit the scenario.
    """
    sections = read_mapping(path)
    if not sections:
        raise InvalidInput(f"{path} names no drafter; give one, or remove the file and name it in scenario.yaml")
    return {name: _drafting(path, scenario, name, section) for name, section in sections.items()}


def _drafting(path: Path, scenario: Path, name: str, section: Any) -> Scenario:
    if not re.fullmatch(NAME, name):
        raise InvalidInput(f"{path}: {name!r} is no name for a drafter; use letters, digits and . _ + = -")
    weights = section.pop("weights", None) if isinstance(section, dict) else None
    settings = [f"speculation={yaml.safe_dump(section, default_flow_style=True, width=float('inf'))}"]
    if weights is not None:
        settings.append(f"weights.drafter={weights}")
    try:
        return load_scenario(str(scenario), settings, settings_folder=path.parent)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: drafter {name!r}: {error}") from None
