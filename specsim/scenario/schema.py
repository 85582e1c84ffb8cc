"""What a scenario may hold: as JSON Schema for editors, and as a reference to read."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specsim.errors import unknown_name
from specsim.scenario.question import Scenario

BY_NAME = {"ModelSpec", "Hardware", "DraftProgram"}  # may also be given by name or path
SHORT_FORMS = {"Slots"}  # may also be given as a word
FALLS_BACK = {"Speculation": ("max_draft_tokens", "acceptance")}  # on what its program offers
UNITS = (
    ("_bytes_per_s", "bytes/s"),
    ("flops_per_s", "FLOP/s"),
    ("rate_per_s", "requests/s"),
    ("_per_s", "1/s"),
    ("_s", "s"),
    ("_bytes", "bytes"),
    ("_tokens", "tokens"),
    ("_bits", "bits"),
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario's file."""
    schema = Scenario.model_json_schema(by_alias=True)
    for name, fields in FALLS_BACK.items():
        made = schema["$defs"][name]
        made["required"] = [field for field in made["required"] if field not in fields]
    named: dict[str, Any] = _with_names(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | named


def _with_names(part: Any) -> Any:
    """The schema with a string beside every object that may be given by name."""
    if isinstance(part, list):
        return [_with_names(one) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("$ref", "").removeprefix("#/$defs/") in BY_NAME | SHORT_FORMS:
        return {"anyOf": [{"type": "string"}, {"$ref": part["$ref"]}]} | {k: v for k, v in part.items() if k != "$ref"}
    return {key: _with_names(value) for key, value in part.items()}


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field: its values, unit and default, as words; empty where there is none."""

    name: str
    values: str
    unit: str
    default: str


@dataclass(frozen=True, slots=True)
class SchemaSection:
    """A mapping of a scenario's file: where it stands, of which ``kind`` ("" where there is one), its fields."""

    path: str
    kind: str
    about: str
    fields: tuple[FieldLine, ...]


def reference(section: str | None = None) -> list[SchemaSection]:
    """The scenario's sections from the top, each once; with ``section`` those at and below a path.

    Raises InvalidInput for a path that does not exist.
    """
    schema = Scenario.model_json_schema(by_alias=True)
    found = list(_sections(schema, schema, "", set()))
    if section is None:
        return found
    chosen = [one for one in found if one.path == section or one.path.startswith(f"{section}.")]
    if not chosen:
        raise unknown_name("section", section, {one.path for one in found if one.path})
    return chosen


def _sections(schema: dict[str, Any], part: dict[str, Any], path: str, told: set[str]) -> Iterator[SchemaSection]:
    properties = part.get("properties", {})
    required = part.get("required", [])
    about = inspect.cleandoc(part.get("description", ""))
    kind = str(properties.get("kind", {}).get("const", ""))
    yield SchemaSection(
        path, kind, about, tuple(_line(name, one, name in required) for name, one in properties.items())
    )
    for name, one in properties.items():
        inner = f"{path}.{name}" if path else name
        for target in _referenced(one):
            if target in told:
                continue
            told.add(target)
            yield from _sections(schema, schema["$defs"][target], inner, told)


def _referenced(part: Any) -> Iterator[str]:
    """Names of the models that a field's value may be, in order."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].removeprefix("#/$defs/")
        for key, value in part.items():
            if key not in ("default", "mapping", "propertyName"):
                yield from _referenced(value)
    elif isinstance(part, list):
        for one in part:
            yield from _referenced(one)


def _line(name: str, part: dict[str, Any], required: bool) -> FieldLine:
    values = _values(part)
    counted = "number" in values or "integer" in values
    unit = next((unit for suffix, unit in UNITS if name.endswith(suffix)), "") if counted else ""
    default = "required" if required else _default(part)
    return FieldLine(name, values, unit, default)


def _default(part: dict[str, Any]) -> str:
    value = part.get("default")
    if value is None:
        return "none"
    return "its own defaults" if isinstance(value, dict) else "none" if value == [] else str(value)


def _values(part: dict[str, Any]) -> str:
    """``integer 1 to 256``, ``a, b or c``, ``name or mapping``."""
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_values(one) for one in part["anyOf"] if one.get("type") != "null"))
    if "oneOf" in part or "discriminator" in part:
        return f"kind: {', '.join(part['discriminator']['mapping'])}"
    if "$ref" in part:
        named = part["$ref"].removeprefix("#/$defs/") in BY_NAME
        return "name, path or mapping" if named else "mapping"
    if "const" in part or "enum" in part:
        return ", ".join(map(str, part.get("enum", [part.get("const")])))
    kind = str(part.get("type", "any"))
    if kind == "array":
        return f"list of {_values(part['items'])}" if isinstance(part.get("items"), dict) and part["items"] else "list"
    return " ".join(filter(None, ({"object": "mapping", "boolean": "true, false"}.get(kind, kind), _range(part))))


def _range(part: dict[str, Any]) -> str:
    low, above = part.get("minimum"), part.get("exclusiveMinimum")
    high, below = part.get("maximum"), part.get("exclusiveMaximum")
    start = f"from {low:g}" if low is not None else f"above {above:g}" if above is not None else ""
    end = f"to {high:,g}" if high is not None else f"below {below:,g}" if below is not None else ""
    return " ".join(filter(None, (start, end)))
