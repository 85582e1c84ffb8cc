"""Programs by name or path."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from specsim.errors import unknown_name
from specsim.named_files import file_named
from specsim.specs.yaml_file import read_yaml
from specsim.speculation.program.draft_program import DraftProgram

PRESETS = Path(__file__).parents[1] / "presets"


def load_program(reference: str) -> DraftProgram:
    """A program by preset name, spelt in any way, or YAML path; an unknown name lists near matches."""
    if reference.endswith((".yaml", ".yml")):
        return read_yaml(file_named(reference), DraftProgram)
    name = find_program(reference)
    if name is None:
        raise unknown_name("draft program", reference, program_names())
    return _preset(name)


@cache
def _preset(name: str) -> DraftProgram:
    return read_yaml(PRESETS / f"{name}.yaml", DraftProgram)


def find_program(reference: str) -> str | None:
    """The preset that a name means: ``EAGLE-3`` and ``eagle_3`` are eagle3; None if it is none."""
    return next((name for name in program_names() if _plain(name) == _plain(reference)), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


@cache
def program_names() -> tuple[str, ...]:
    """Names of the bundled programs, in alphabetical order."""
    return tuple(sorted(path.stem for path in PRESETS.glob("*.yaml")))
