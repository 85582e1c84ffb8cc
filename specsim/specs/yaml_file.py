"""A YAML file read into a pydantic model, its faults told in one line.

Answers which file, which field and which rule a wrong input breaks, for every file that specsim reads. It
knows nothing of what the fields mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from specsim.errors import InvalidInput, kind_of
from specsim.specs.faults import faults_of
from specsim.specs.yaml_text import parse_yaml
from specsim.text_file import read_text

Spec = TypeVar("Spec", bound=BaseModel)


def read_yaml(path: Path | str, model: type[Spec]) -> Spec:
    """The file as a ``model``. Raises InvalidInput naming the file, the fields and the rules."""
    return build(model, read_mapping(path), where=str(path))


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The fields of a YAML file, not yet checked, for a caller that overrides some of them first.

    Raises InvalidInput for a file that is missing, unreadable, not YAML, or not a list of named fields.
    """
    try:
        fields = parse_yaml(read_text(path, "a YAML file"))
    except ValueError as error:
        raise InvalidInput(f"{path}{error}; correct the YAML") from None
    if not isinstance(fields, dict):
        found = "nothing" if fields is None else kind_of(fields)
        raise InvalidInput(f"{path} holds {found}; write one 'field: value' a line")
    return fields


def build(model: type[Spec], fields: object, where: str) -> Spec:
    """``fields`` as a ``model``. Raises InvalidInput: ``where`` (a file, a flag), the fields and the rules."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(*faults_of(error, model, where)) from None
