"""What is wrong with the fields of a file, in the words of the file: all faults in one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from specsim.errors import InvalidInput, shown, told_together

_PLAIN = {  # for pydantic's words, in order
    r"Input should be a valid integer.*": "it should be a whole number",
    r"Input should be a valid number.*": "it should be a number",
    r"Input should be a valid string.*": "it should be text; write it in quotes",
    r"Input should be a valid boolean.*": "it should be true or false",
    r"Input should be a valid (list|tuple).*": "it should be a list",
    r"Input should be a valid dictionary.*": "write its fields as {name: value}",
    r"Input should be a finite number": "it should be a finite number",
    r"Value error, ": "",
    r"Input should": "it should",
}


class Unread(ValueError):
    """A field names what cannot be read; ``faults`` are those of reading it."""

    def __init__(self, error: InvalidInput) -> None:
        super().__init__(str(error))
        self.faults = error.faults


def referring(read: Callable[[object], object]) -> Callable[[object], object]:
    """``read`` as the validator of a field that may hold a name or path: one that is unknown hides no other fault."""

    def validate(value: object) -> object:
        try:
            return read(value)
        except InvalidInput as error:
            raise Unread(error) from None

    return validate


def faults_of(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """Those of what fields refer to, as reading it tells them, then all others in one line that names ``where``."""
    found = error.errors(include_url=False)
    unread = [fault["ctx"]["error"] for fault in found if _is_unread(fault)]
    told = list(dict.fromkeys(line for one in unread for line in one.faults))
    rest = [fault for fault in found if not _is_unread(fault)]
    return [*told, f"{where}: {_explained(rest, [model])}"] if rest else told


def _is_unread(fault: Any) -> bool:
    return isinstance(fault.get("ctx", {}).get("error"), Unread)


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The faults of a validation as one line; with the ``model``, unknown fields get the nearest names.

    Unknown fields come first: a misspelt name also leaves the right one missing. Of a field that could have been one
    of several things (text, or fields of its own), only what is wrong with it as the nearest of them is told.
    """
    return _explained(error.errors(include_url=False), [] if model is None else [model])


def _explained(found: Iterable[Any], models: list[type[BaseModel]]) -> str:
    faults = sorted(found, key=lambda fault: fault["type"] != "extra_forbidden")
    lines: dict[str, str] = {}
    meant: set[str] = set()  # paths of fields that an unknown name probably stands for
    for fault in faults:
        path, line, near = _told(fault, models)
        meant |= near
        if not (fault["type"] == "missing" and path in meant):
            lines.setdefault(path or line, line)
    return told_together([line for path, line in lines.items() if not any(_is_within(one, path) for one in lines)])


def in_plain_words(message: str) -> str:
    """What pydantic says of a value, as the other messages say it."""
    for theirs, ours in _PLAIN.items():
        message = re.sub(theirs, ours, message)
    return message


def _is_within(path: str, outer: str) -> bool:
    return path.startswith((f"{outer}.", f"{outer}["))


def _told(fault: Any, models: list[type[BaseModel]]) -> tuple[str, str, set[str]]:
    """The field's path, what is wrong with it, and the paths that an unknown name may have meant."""
    kind, location = fault["type"], fault["loc"]
    path, known, inner = _locate(location, models, unknown=kind == "extra_forbidden")
    message = in_plain_words(fault["msg"])
    if kind == "extra_forbidden":
        near = get_close_matches(str(location[-1]), sorted(known), n=3, cutoff=0.6)
        parent = path.removesuffix(str(location[-1]))
        return path, f"unknown field {path}{_hint(near, known)}", {parent + name for name in near}
    if kind == "missing":
        return path, f"field {path} is missing; add it", set()
    if kind == "value_error":
        return path, f"{path}: {message}" if path else message, set()
    if kind == "union_tag_invalid":
        tags = fault["ctx"]["expected_tags"].replace("'", "")
        near = get_close_matches(str(fault["ctx"]["tag"]), tags.split(", "), n=3, cutoff=0.6)
        return path, f"{path}.kind {shown(fault['ctx']['tag'])} is unknown{_hint(near, tags.split(', '))}", set()
    if kind in ("union_tag_not_found", "model_type", "model_attributes_type"):
        message = _how_to_write(inner)
    return path, f"{path or 'the value'} is {shown(fault['input'])}; {message}", set()


def _how_to_write(models: list[type[BaseModel]]) -> str:
    """The form of a field that holds one of ``models``."""
    tags = {str(tag) for model in models for tag in _kinds(model)}
    if tags and all(map(_kinds, models)):
        return f"write {{kind: ...}} with one of {', '.join(sorted(tags))}"
    return f"write its fields as {{name: value}}{_hint([], _fields(models))}"


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind is not None and get_origin(kind.annotation) is Literal else ()


def _hint(near: list[str], known: Iterable[str]) -> str:
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; known: {', '.join(sorted(known))}" if known else "; remove it"


def _locate(
    location: tuple[int | str, ...], models: list[type[BaseModel]], *, unknown: bool
) -> tuple[str, set[str], list[type[BaseModel]]]:
    """The path as the file spells it, the field names valid where it ends, and the models of what stands there.

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
    return path, set(fields), models


def _fields(models: list[type[BaseModel]]) -> dict[str, list[FieldInfo]]:
    """The fields of the models by every name that a file may give them."""
    found: dict[str, list[FieldInfo]] = {}
    for name, field in (item for model in models for item in model.model_fields.items()):
        alias = field.validation_alias
        for spelling in alias.choices if isinstance(alias, AliasChoices) else (alias or name,):
            found.setdefault(str(spelling), []).append(field)
    return found


def _is_branch(model: type[BaseModel], step: str) -> bool:
    return model.__name__ == step or step in _kinds(model)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
