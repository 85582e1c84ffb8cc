"""``specsim schema``: every field that a scenario may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.options import console, print_json

if TYPE_CHECKING:
    from specsim.scenario.schema import SchemaSection


def schema(
    section: Annotated[
        str | None, typer.Argument(help="Tell this section alone, to read: slo, workload.arrivals, engine.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="All sections, to read: fields, units and defaults.")] = False,
) -> None:
    """JSON Schema of a scenario, for editors; with --text, or a section's name, a reference to read."""
    from specsim.scenario.schema import json_schema, reference

    if section is None and not text:
        print_json(json_schema())
        return
    for one in reference(section):
        _print(one)


def _print(section: SchemaSection) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    out = console()
    kind = f", kind {section.kind}" if section.kind else ""
    out.print(f"[bold]{section.path or 'scenario'}[/bold]{kind}")
    if section.about:
        out.print(f"{section.about}\n", markup=False)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("field", no_wrap=True)
    table.add_column("values", overflow="fold")
    table.add_column("unit", no_wrap=True)
    table.add_column("default", overflow="fold")
    for line in section.fields:
        table.add_row(line.name, line.values, line.unit, line.default)
    out.print(table)
    out.print()
