"""``specsim init``: a scenario to start from, with comments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from specsim.cli.options import messages
from specsim.cli.question import Question, takes_question
from specsim.errors import InvalidInput


@takes_question
def init(
    question: Question,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="An engine's command line in quotes or its file, a model's folder or config.json, or a trace.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; default stdout.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented scenario from short options, an engine's command line, a model's folder or a trace."""
    from specsim.assembly import assemble
    from specsim.scenario.commented import commented_yaml
    from specsim.scenario.source import read_source

    fields, notes = ({}, ()) if source is None else read_source(source)
    asked = question.ask(start=fields)
    room = assemble(asked.scenario).longest_cached  # what breaks a rule is told before it is written
    text = commented_yaml(asked, notes)
    if out is None:
        sys.stdout.write(text)
        return
    if out.exists() and not overwrite:
        raise InvalidInput(f"{out} exists; choose another file, or give --overwrite")
    out.write_text(text, encoding="utf-8")
    messages().print(f"KV cache of a replica: {room:,} tokens", markup=False)
    messages().print(f"wrote {out}; ask it with: specsim predict {out}", markup=False)
