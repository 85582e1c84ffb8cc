"""Programs by name or path."""

from __future__ import annotations

from pathlib import Path

from specsim.errors import unknown_name
from specsim.specs.yaml_file import read_yaml
from specsim.speculation.program.draft_program import DraftProgram

PRESETS = Path(__file__).parents[1] / "presets"


def load_program(reference: str) -> DraftProgram:
    """A program by preset name or YAML path; an unknown name lists near matches."""
    if reference.endswith((".yaml", ".yml")):
        return read_yaml(Path(reference), DraftProgram)
    names = program_names()
    if reference.lower() not in names:
        raise unknown_name("draft program", reference, names)
    return read_yaml(PRESETS / f"{reference.lower()}.yaml", DraftProgram)


def program_names() -> list[str]:
    """Names of the bundled programs."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))
