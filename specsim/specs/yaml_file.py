"""A YAML file read into a pydantic model, any fault told in one line.

Answers which file, which field and which rule a wrong input breaks, for every file that specsim reads. It
knows nothing of what the fields mean.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from specsim.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)


class _Rules:
    """YAML 1.2 scalars, and a field given twice is an error.

    PyYAML follows YAML 1.1, where ``1e12`` is text, ``off`` is false, ``1:30`` is 90 and a date is an object.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"field {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)  # type: ignore[misc]
        return mapping


class _Loader(_Rules, yaml.SafeLoader):
    """Tells what is wrong in the same words everywhere."""


class _FastLoader(_Rules, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Ten times as fast, where PyYAML was built with the C parser."""


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in (*_SCALARS, "timestamp")}
for _loader in (_Loader, _FastLoader):
    _loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _kind, (_pattern, _first) in _SCALARS.items():
        _loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(path: Path | str, model: type[Model]) -> Model:
    """The file as a ``model``. Raises InvalidInput naming the file, the field and the rule."""
    return build(model, read_mapping(path), where=str(path))


def read_mapping(path: Path | str) -> dict[str, Any]:
    """The fields of a YAML file, not yet checked, for a caller that overrides some of them first.

    Raises InvalidInput for a file that is missing, unreadable, not YAML, or not a list of named fields.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; give the path of an existing YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InvalidInput(f"cannot read {path}: {reason}; give the path of a YAML file") from None
    try:
        fields = _parsed(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}{_syntax_fault(error)}; correct the YAML") from None
    if not isinstance(fields, dict):
        found = "nothing" if fields is None else f"a {type(fields).__name__}"
        raise InvalidInput(f"{path} holds {found}; write one 'field: value' a line")
    return fields


def _parsed(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, Loader=_Loader)


def build(model: type[Model], fields: object, where: str) -> Model:
    """``fields`` as a ``model``. Raises InvalidInput: ``where`` (a file, a flag), the field and the rule."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"{where}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first fault of a validation as one line; with the ``model``, unknown fields get the nearest names.

    Unknown fields come first: a misspelt name also leaves the right one missing.
    """
    faults = sorted(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    kind, location, value = faults[0]["type"], faults[0]["loc"], faults[0]["input"]
    path, known = _locate(location, [] if model is None else [model], unknown=kind == "extra_forbidden")
    message = faults[0]["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    if kind == "extra_forbidden":
        line = f"unknown field {path}{_hint(str(location[-1]), known)}"
    elif kind == "missing":
        line = f"field {path} is missing; add it"
    elif kind == "value_error":
        line = f"{path}: {message}" if path else message
    else:
        line = f"{path or 'the value'} is {_shown(value)}; {message}"
    return line if len(faults) == 1 else f"{line} (and {len(faults) - 1} more)"


def _syntax_fault(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: {error.problem}"
    return f": {str(error).splitlines()[0]}"


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(names)}" if names else "; remove it"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _locate(location: tuple[int | str, ...], models: list[type[BaseModel]], *, unknown: bool) -> tuple[str, set[str]]:
    """The path as the file spells it, and the field names valid where it ends.

    Pydantic's location also holds the branch of a union it tried (a class name or a ``kind``), which no file
    contains: such a step is dropped and narrows the models instead.
    """
    path, fields = "", dict[str, list[FieldInfo]]()
    for index, step in enumerate(location):
        fields = _fields(models)
        last = index == len(location) - 1
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in fields or not models or (last and unknown):
            if step != "[key]":
                path += f".{step}" if path else step
            models = [inner for field in fields.get(step, ()) for inner in _models_in(field.annotation)]
        else:
            models = [model for model in models if _is_branch(model, step)] or models
    return path, set(fields)


def _fields(models: list[type[BaseModel]]) -> dict[str, list[FieldInfo]]:
    """The fields of the models by every name that a file may give them."""
    found: dict[str, list[FieldInfo]] = {}
    for name, field in (item for model in models for item in model.model_fields.items()):
        alias = field.validation_alias
        for spelling in alias.choices if isinstance(alias, AliasChoices) else (alias or name,):
            found.setdefault(str(spelling), []).append(field)
    return found


def _is_branch(model: type[BaseModel], step: str) -> bool:
    kind = model.model_fields.get("kind")
    return model.__name__ == step or (kind is not None and step in get_args(kind.annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
