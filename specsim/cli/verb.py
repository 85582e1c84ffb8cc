"""A verb that tells everything that is wrong with its options at once, each with the value that was given."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from specsim.errors import InvalidInput, shown


class Verb(TyperCommand):
    """Of typer's command, whose first wrong option ends the reading."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises InvalidInput with every wrong value."""
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            raise InvalidInput(*self._faults(ctx, given)) from None

    def _faults(self, ctx: Any, given: dict[str, Any]) -> list[str]:
        found = []
        for parameter in self.get_params(ctx):
            value = given.get(parameter.name)
            for one in [[item] for item in value] if isinstance(value, list) else [value]:  # repeatable: one by one
                try:
                    parameter.handle_parse_result(ctx, {} if one is None else {parameter.name: one}, [])
                except typer.BadParameter as error:
                    found.append(_fault(parameter, one, error))
        found[-1] += f"; see {ctx.command_path} --help"
        return found


def _fault(parameter: Any, value: Any, error: typer.BadParameter) -> str:
    """``--port '99999': it should be less than or equal to 65535``."""
    from specsim.specs.faults import in_plain_words  # not before it is needed: pydantic takes a while

    if value is None:  # an argument that is missing
        return in_plain_words(error.format_message()).rstrip(".")
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.human_readable_name
    quoted = shown(value[0] if isinstance(value, list) else value)
    message = in_plain_words(error.message).rstrip(".").removeprefix(f"{quoted}: ")
    message = f"it{message.removeprefix(quoted)}" if message.startswith(f"{quoted} is ") else message
    return f"{name} {quoted}: {message}"
