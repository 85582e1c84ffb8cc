"""A model in a scenario: its fields, a bundled name, or the path of a model file, a ``config.json`` or its folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from specsim.interop.huggingface import model_from_config
from specsim.named_files import file_named, is_folder
from specsim.specs.catalog import load_model
from specsim.specs.faults import referring
from specsim.specs.model import ModelSpec


def read_model(value: object) -> object:
    """The model of a name or path; anything else as it is, for the field to check."""
    if not isinstance(value, str):
        return value
    if value.endswith(".json") or is_folder(value):
        return model_from_config(file_named(value))
    return load_model(value)


Model = Annotated[ModelSpec, BeforeValidator(referring(read_model))]
