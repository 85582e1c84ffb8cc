"""An acceptance law in a scenario: its fields, or the path of a YAML file of them, as ``specsim fit`` writes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from specsim.named_files import file_named
from specsim.specs.faults import referring
from specsim.specs.yaml_file import read_mapping
from specsim.speculation.acceptance import Acceptance


def read_law(value: object) -> object:
    """The fields that a path stands for; anything else as it is."""
    return read_mapping(file_named(value)) if isinstance(value, str) else value


Law = Annotated[Acceptance, BeforeValidator(referring(read_law))]
