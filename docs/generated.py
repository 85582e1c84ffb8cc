"""Pages of the reference that are printed from the code: ``python docs/generated.py FOLDER`` writes them.

The site writes them before it reads its sources; nothing of them is kept in the repository.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

import specsim
from specsim.cli.main import app
from specsim.profiles.store import load_profile, profile_names
from specsim.report.markdown import inline, markdown_table
from specsim.scenario.schema import reference
from specsim.specs.catalog import hardware_names, load_hardware, model_names
from specsim.speculation.program import DraftProgram, load_program, program_names


def scenario_page() -> str:
    """Every section of a scenario's file."""
    parts = [
        "# Scenario",
        "One YAML file. `specsim init` writes one with comments; `--set path.to.field=value` changes any field.",
    ]
    for section in reference():
        kind = f", kind {section.kind}" if section.kind else ""
        parts.append(f"## {section.path or 'At the top'}{kind}")
        parts += [_text(section.about)] if section.about else []
        rows = [(f"`{one.name}`", *map(inline, (one.values, one.unit, one.default))) for one in section.fields]
        parts.append(markdown_table(("field", "values", "unit", "default"), rows))
    return _page(parts)


def command_page() -> str:
    """Every verb with its arguments and options."""
    parts = ["# Command line"]
    for name, command in _commands("specsim", typer.main.get_command(app)):
        parts += [f"## {name}", _text(command.help or "")]
        rows = [(_option(one), inline(getattr(one, "help", "") or "")) for one in command.params]
        parts.append(markdown_table(("", "meaning"), rows))
    return _page(parts)


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, one in inner.items():
        yield from _commands(f"{name} {word}", one)


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))


def techniques_page() -> str:
    """Every bundled draft program."""
    intro = (
        "`specsim systems NAME` also counts what one costs on a model. Acceptance is each one's own publication's, on "
        "its own target and data."
    )
    return _page(
        ["# Techniques", intro, *(part for name in program_names() for part in _technique(load_program(name)))]
    )


def _technique(program: DraftProgram) -> list[str]:
    parts = [f"## {program.name}", _text(program.mechanism), f"Source: {_text(program.source)}"]
    if program.acceptance is not None:
        parts.append(f"Acceptance, {program.acceptance.basis}: {_text(program.acceptance.source)}")
    figures = [f"- {inline(what)}: {inline(str(source))}" for what, source in program.figures.items()]
    return [*parts, "\n".join([*figures, *(f"- not known: {inline(what)}" for what in program.unknown)])]


def profiles_page() -> str:
    """Models and cards by name, and every bundled profile with its error on shapes that were measured and withheld."""
    rows = [(f"`{name}`", *_card(name)) for name in hardware_names()]
    cards = markdown_table(("card", "memory, GB", "GB/s", "TFLOP/s, 16 bits"), rows)
    models = ", ".join(f"`{name}`" for name in model_names())
    parts = ["# Models, cards and profiles", "## Models", models, "## Cards", cards]
    for name in profile_names():
        header = load_profile(name).header
        parts += [f"## {name}", f"{_text(header.device_name)}, {header.date}"]
        errors = [
            (kernels, f"{one.median:.1%}", f"{one.p90:.1%}", f"{one.n:,}")
            for kernels, one in header.heldout_error.items()
        ]
        if errors:
            parts.append(markdown_table(("kernels", "error: median", "p90", "rows"), errors))
    return _page(parts)


def _card(name: str) -> tuple[str, str, str]:
    card = load_hardware(name)
    rates = [rate for kind, rate in card.flops_per_s.items() if kind in ("bfloat16", "float16")]
    memory, bandwidth = f"{card.memory_bytes / 1e9:,.0f}", f"{card.bandwidth_bytes_per_s / 1e9:,.0f}"
    return memory, bandwidth, f"{max(rates) / 1e12:,.0f}" if rates else "-"


def python_page() -> str:
    """The public names, told by their docstrings."""
    intro = (
        "`import specsim` imports nothing else; each name is imported when it is first used. A test runs the examples."
    )
    functions = [name for name in specsim.__all__ if name.islower() and not name.startswith("_")]
    others = [name for name in specsim.__all__ if name[0].isupper()]
    parts = ["# Python", intro, _auto("autoclass", "specsim.api.words.QuestionOptions", "no-members")]
    parts += [_auto("autofunction", f"specsim.{name}") for name in functions]
    return _page([*parts, *(_auto("autoclass", f"specsim.{name}", "no-members") for name in others)])


def _auto(directive: str, name: str, *options: str) -> str:
    lines = [f".. {directive}:: {name}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _text(text: str) -> str:
    """Prose of the code, in one paragraph: double back-quotes are code."""
    return " ".join(text.split()).replace("``", "`").replace("<", "&lt;").replace("[", "\\[")


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "scenario": scenario_page,
    "command-line": command_page,
    "techniques": techniques_page,
    "profiles": profiles_page,
    "python": python_page,
}


def write_pages(folder: Path) -> None:
    """All of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
