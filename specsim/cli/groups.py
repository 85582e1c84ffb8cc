"""Options that belong together, as one parameter of a verb."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any


class OptionGroup:
    """Base of dataclasses whose fields are options: each annotated as typer reads it, with a default."""

    __slots__ = ()


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A verb as typer reads it: in place of each parameter that is an OptionGroup, that one's options."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    groups = {one.name: one.annotation for one in own if is_group(one.annotation)}
    if not groups:
        return command
    parameters: list[inspect.Parameter] = []
    for one in own:
        parameters += options_of(groups[one.name]) if one.name in groups else [one]

    def spreading(*first: Any, **given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{one.name: given.pop(one.name) for one in fields(group)})
        command(*first, **given)

    return with_parameters(spreading, parameters, command)


def is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, OptionGroup)


def options_of(group: Any) -> list[inspect.Parameter]:
    """A group's options as parameters."""
    hints, kind = inspect.get_annotations(group, eval_str=True), inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = fields(group)
    return [inspect.Parameter(one.name, kind, default=one.default, annotation=hints[one.name]) for one in options]


def with_parameters(
    function: Callable[..., None], parameters: Sequence[inspect.Parameter], command: Callable[..., None]
) -> Callable[..., None]:
    """``function`` under the name and with the help of ``command``, read with these parameters."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    function.__name__, function.__doc__ = command.__name__, command.__doc__
    return function
