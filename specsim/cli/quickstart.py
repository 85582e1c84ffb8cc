"""``specsim quickstart``: a question that people know, answered from bundled data, beside what others measured."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specsim.cli.options import JsonOption, console, print_json, tell_compilation

if TYPE_CHECKING:
    from specsim.analytic.speedups import SpeedupMap
    from specsim.scenario import Asked

MODEL, GPU, DRAFTER, DRAFT_TOKENS = "llama-3.1-8b", "h100", "eagle-3", 5


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the files it writes.")] = Path("specsim-quickstart"),
    as_json: JsonOption = False,
) -> None:
    """Predict Llama-3.1-8B with EAGLE-3 on an H100, beside speed-ups that other people measured."""
    from specsim.analytic.load import answered_map
    from specsim.assembly import assemble
    from specsim.report.tables import map_table
    from specsim.report.validation.example_table import example_lines, example_table
    from specsim.report.verdict import verdict
    from specsim.scenario import ShortOptions, ask
    from specsim.studies.example import published_speedups

    options = ShortOptions(model=MODEL, gpu=GPU, drafter=DRAFTER, draft_tokens=DRAFT_TOKENS)
    question = ask(None, options)
    speedups, load = answered_map(assemble(question.scenario))
    answer = verdict(speedups, load)
    _write(out, question, speedups)
    if as_json:
        beside = {"published": [asdict(one) for one in published_speedups()], "files": str(out)}
        print_json(speedups.as_json() | {"verdict": answer.as_json()} | beside)
        return
    screen = console()
    screen.print(f"[bold]{answer.sentence}[/bold]\n{answer.about}\n{answer.limits}\n")
    screen.print(map_table(speedups))
    screen.print()
    screen.file.flush()  # the answer first: what follows may have to be compiled
    tell_compilation()
    published = published_speedups()
    screen.print(example_table(published))
    for line in example_lines(published):
        screen.print(line, soft_wrap=True)
    asked = f"--model {MODEL} --gpu {GPU} --drafter {DRAFTER} --draft-tokens {DRAFT_TOKENS}"
    screen.print(f"\nfiles: {out}/report.html (open in a browser), prediction.json, map.csv", soft_wrap=True)
    screen.print(f"ask in your own words: specsim predict {asked}", soft_wrap=True)
    screen.print("explore: specsim dashboard")


def _write(out: Path, question: Asked, speedups: SpeedupMap) -> None:
    """The map as JSON and CSV, and the report."""
    from specsim.report.document import capacity_report

    document = speedups.as_json()
    out.mkdir(parents=True, exist_ok=True)
    (out / "prediction.json").write_text(json.dumps(document, indent=1) + "\n")
    with (out / "map.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(document["grid"][0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(document["grid"])
    (out / "report.html").write_text(capacity_report(question, simulated=False).html(), encoding="utf-8")
