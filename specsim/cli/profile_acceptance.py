"""``specsim profile acceptance``: record what drafters get right, at every position of the target's own output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from specsim.cli.options import JsonOption, console, messages, print_json, require_torch
from specsim.errors import InvalidInput

if TYPE_CHECKING:
    from specsim.profiling.acceptance.record_file import RecordedTraces

SHOWN = (1, 2, 4, 8)


def acceptance(
    models: Annotated[Path, typer.Option(help="Folder of models: target/, and each drafter in a folder of its own.")],
    prompts: Annotated[Path, typer.Option(help="JSON lines with a prompt each, or a folder of .txt files.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a file a drafter.")],
    cap: Annotated[int, typer.Option(help="Longest draft tried; no larger k can be answered from it.", min=1)] = 16,
    temperature: Annotated[float, typer.Option(help="Of the target; drafts are the most likely.", min=0)] = 0.0,
    positions: Annotated[int, typer.Option(help="Output positions recorded of each prompt.", min=1)] = 128,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens used of each prompt, its first.", min=2)] = 128,
    seed: Annotated[int, typer.Option(help="Of the target's draws at a temperature above 0.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Record K-free acceptance traces; replay one with acceptance: {kind: trace, path: OUT/DRAFTER.jsonl}."""
    require_torch()
    from specsim.profiling.acceptance.record import record_folder
    from specsim.scenario.prompts import read_prompts

    if out.exists() and not out.is_dir():
        raise InvalidInput(f"--out {out} is a file; give a folder, which gets a file a drafter")
    found = record_folder(
        models,
        read_prompts(prompts),
        cap=cap,
        temperature=temperature,
        positions=positions,
        prompt_tokens=prompt_tokens,
        seed=seed,
        device=device,
        progress=lambda done, total: messages().print(f"{done} of {total} prompts"),
    )
    table, answer = _written(found, out)
    if as_json:
        print_json(answer)
        return
    console().print(table)
    messages().print(f"wrote {len(found)} files in {out}")


def _written(found: Mapping[str, RecordedTraces], out: Path) -> tuple[Table, dict[str, Any]]:
    """The drafters' files: what they hold as a table, and as JSON."""
    table = Table()
    for column in ("drafter", "requests", "cap", *(f"AL k={k}" for k in SHOWN)):
        table.add_column(column, justify="left" if column == "drafter" else "right")
    answer = {}
    for name, traces in found.items():
        path = out / f"{name}.jsonl"
        traces.write(path)
        law = traces.trace()
        lengths = {k: law.expected_tokens(k) for k in SHOWN if k <= law.cap}
        answer[name] = {"path": str(path), "cap": law.cap, "acceptance_length": lengths}
        cells = (f"{lengths[k]:.2f}" if k in lengths else "-" for k in SHOWN)
        table.add_row(name, str(len(traces.requests)), str(law.cap), *cells)
    return table, answer
